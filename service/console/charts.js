// The three charts: uPlot, with the page's colours, one cursor for all, and the policy swaps as thin lines.
/* global uPlot */

import { milliseconds, NONE, number, onGrid, rewardRangeOf, seconds, settled, withGaps } from "/console/figures.js";

const LATENCY_GAP_SECONDS = 15;
const FRESHNESS_GAP_SECONDS = 60;
const CLOCK_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
const POWERS = [0.001, 0.01, 0.1, 1, 10, 100, 1000, 10_000, 100_000];
const LABEL_PIXELS = 56;
const FONT = "12px system-ui, sans-serif";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const line = (label, name, value, more = {}) => ({
  label,
  stroke: colour(name),
  width: 1.75,
  points: { show: false, filter: lonely, size: 5, fill: colour(name) },
  value: (_, x) => (x === null || x === undefined ? NONE : value(x)),
  ...more,
});

/** Values without a neighbour, which no line would show. */
function lonely({ data }, series) {
  const column = data[series];
  const isThere = (i) => (column[i] ?? null) !== null;
  return [...column.keys()].filter((i) => isThere(i) && !isThere(i - 1) && !isThere(i + 1));
}

const clock = {
  label: "Time",
  class: "plain",
  value: (_, x) => (x === null || x === undefined ? NONE : new Date(1000 * x).toLocaleTimeString("en-GB")),
};

function axes(values, more = {}) {
  const common = { stroke: colour("muted"), font: FONT, ticks: { show: false } };
  const grid = { stroke: colour("line"), width: 1 };
  return [
    { ...common, grid: { show: false }, space: 72, size: 28, incrs: CLOCK_STEPS, values: clockTicks },
    { ...common, grid, space: 36, size: 44, values: (_, xs) => xs.map(values), ...more },
  ];
}

/** 1, 2, 5, 10, 20 … between the two, or only the powers of ten where those would crowd. */
function logSteps(_, __, low, high) {
  const inside = (steps) => steps.filter((x) => x >= low && x <= high);
  const fine = inside(POWERS.flatMap((x) => [x, 2 * x, 5 * x]));
  return fine.length <= 8 ? fine : inside(POWERS);
}

/** Times of day; none so near an edge that it would be cut. */
function clockTicks({ scales: { x: range }, width }, xs, _, __, step) {
  const margin = ((range.max - range.min) * LABEL_PIXELS) / 2 / width;
  const isCut = (x) => x < range.min + margin || x > range.max - margin;
  return xs.map((x) => (isCut(x) ? "" : new Date(1000 * x).toTimeString().slice(0, step < 60 ? 8 : 5)));
}

/** One chart in `place`; `show(columns, [from, to])` draws new data. */
class Chart {
  constructor(place, options) {
    this.place = place;
    this.range = [0, 1];
    this.plot = new uPlot(
      {
        ...options,
        ...size(place),
        padding: [8, 8, 0, 0],
        scales: { x: { range: () => this.range }, ...options.scales },
        cursor: { sync: { key: "time" }, y: false, drag: { x: false, y: false }, points: { size: 7 } },
        hooks: { ...options.hooks, setCursor: [restOnLast] },
      },
      [[], ...options.series.slice(1).map(() => [])],
      place,
    );
    this.resize = new ResizeObserver(() => this.plot.setSize(size(place)));
    this.resize.observe(place);
  }

  show(columns, range) {
    this.range = range;
    this.plot.setData(columns);
    restOnLast(this.plot);
    this.describe(columns);
  }

  /** For who cannot see the picture: its newest values. */
  describe([ats, ...columns]) {
    const drawn = this.plot.series.slice(1).filter((series) => series.stroke);
    const newest = drawn.map((series, i) => `${series.label} ${series.value(this.plot, columns[i].at(-1))}`);
    this.place.setAttribute("aria-label", ats.length === 0 ? "Nothing to show yet" : `Newest values: ${newest.join(", ")}`);
    this.place.toggleAttribute("data-empty", ats.length === 0);
  }

  destroy() {
    this.resize.disconnect();
    this.plot.destroy();
  }
}

const size = (place) => ({ width: place.clientWidth, height: Number(getComputedStyle(place).getPropertyValue("--plot-height")) });

/** While nobody points at the chart its legend tells the newest values. */
function restOnLast(plot) {
  if ((plot.cursor.left ?? -1) < 0 && plot.data[0].length > 0) plot.setLegend({ idx: plot.data[0].length - 1 }, false);
}

/** A thin line at each swap, fainter where they crowd, with a tick at the foot. */
function drawSwaps(plot, swaps) {
  const { left, top, width, height } = plot.bbox;
  const { ctx } = plot;
  const xs = swaps.map((swap) => Math.round(plot.valToPos(swap.at, "x", true))).filter((x) => x >= left && x <= left + width);
  const alpha = Math.max(0.12, Math.min(0.35, (width / devicePixelRatio / Math.max(1, xs.length)) / 60));
  ctx.save();
  ctx.fillStyle = colour("swap");
  for (const x of xs) {
    ctx.globalAlpha = alpha;
    ctx.fillRect(x, top, 1, height);
    ctx.globalAlpha = 0.9;
    ctx.fillRect(x, top + height - 5 * devicePixelRatio, 1, 5 * devicePixelRatio);
  }
  ctx.restore();
}

/** All three, in the colours that hold now: `show(data, [from, to])`, and `destroy()` before others take their place. */
export class Charts {
  constructor(places) {
    this.swaps = [];
    this.reward = new Chart(places.reward, {
      series: [
        clock,
        line("Learned", "learned", number, { width: 2.25, fill: colour("learned-wash") }),
        line("Fallback", "fallback", number),
        line("Control", "control", number),
        { label: "Policy", class: "plain", value: (plot, _, __, i) => this.versionAt(i === null ? undefined : plot.data[0][i]) },
      ],
      axes: axes((x) => String(Number(x.toPrecision(4)))),
      scales: { y: { range: { min: { pad: 0.1, soft: 0, mode: 1 }, max: { pad: 0.15, soft: 0.01, mode: 2 } } } },
      hooks: { drawClear: [(plot) => drawSwaps(plot, this.swaps)] },
    });
    this.latency = new Chart(places.latency, {
      series: [
        clock,
        line("p50", "low", milliseconds),
        line("p95", "middle", milliseconds),
        line("p99", "high", milliseconds),
      ],
      axes: axes((x) => String(Number(x.toPrecision(2))), { splits: logSteps, filter: (_, steps) => steps }),
      scales: { y: { distr: 3, range: (_, low, high) => [(low ?? 1) / 1.3, (high ?? 10) * 1.3] } },
    });
    this.freshness = new Chart(places.freshness, {
      series: [clock, line("p50", "low", seconds), line("p95", "high", seconds)],
      axes: axes((x) => String(Number(x.toPrecision(4)))),
      scales: { y: { range: { min: { soft: 0, mode: 1 }, max: { pad: 0.15, soft: 1, mode: 1 } } } },
    });
  }

  show(data, range) {
    const since = (rows, from) => rows.filter((row) => row.at >= from);
    const rewardRange = rewardRangeOf(data, range);
    const rewards = since(settled(data), rewardRange[0]);
    const [ats, ...means] = onGrid(rewards, ["learned", "fallback", "control"], range[1] - range[0]);
    const latency = since(data.latency, range[0]);
    const freshness = since(data.freshness, range[0]);
    this.swaps = data.swaps;
    this.reward.show([ats, ...means, ats.map(() => null)], rewardRange);
    this.latency.show(withGaps(latency, ["p50_ms", "p95_ms", "p99_ms"], LATENCY_GAP_SECONDS), range);
    this.freshness.show(withGaps(freshness, ["p50_seconds", "p95_seconds"], FRESHNESS_GAP_SECONDS), range);
  }

  versionAt(at) {
    return this.swaps.findLast((swap) => swap.at <= at)?.version ?? NONE;
  }

  destroy() {
    for (const chart of [this.reward, this.latency, this.freshness]) chart.destroy();
  }
}
