// Numbers and texts of the page, as pure functions of what /console/data says. Times are seconds since the epoch.

const MINUTE = 60;

export const NONE = "–";

const significant = new Intl.NumberFormat("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

const known = (x) => typeof x === "number" && Number.isFinite(x);

export const number = (x) => (!known(x) ? NONE : Math.abs(x) < 1000 ? significant.format(x) : whole.format(x));
export const count = (x) => (known(x) ? whole.format(x) : NONE);
export const signed = (x) => (x > 0 ? `+${number(x)}` : number(x).replace("-", "−"));
export const percent = (x) => (known(x) ? `${(100 * x).toFixed(1)} %` : NONE);
export const share = (x) => (x < 0.005 ? "under 1 %" : `${(100 * x).toFixed(0)} %`);
export const seconds = (x) => (!known(x) ? NONE : x < 100 ? `${x.toFixed(1)} s` : `${whole.format(x)} s`);
export const milliseconds = (x) => (known(x) ? `${x.toFixed(x < 1 ? 2 : x < 10 ? 1 : 0)} ms` : NONE);

/** "3.1 s", "42 s", "7 min", "5 h", "3 d". */
export function age(x) {
  if (!known(x)) return NONE;
  if (x < 10) return `${Math.max(0, x).toFixed(1)} s`;
  for (const [size, unit, until] of [[1, "s", 90], [60, "min", 90], [3600, "h", 48]]) {
    if (x < until * size) return `${Math.round(x / size)} ${unit}`;
  }
  return `${Math.round(x / 86400)} d`;
}

/** Seconds since the epoch, of those or of an ISO 8601 text. */
export const moment = (x) => (typeof x === "string" ? Date.parse(x) / 1000 : x);

/**
 * The rows whose every decision is final. Younger ones hold only what closed early, which is to say purchases,
 * and would show a reward that is too good.
 */
export function settled(data) {
  const end = data.now - data.loop.wait_seconds;
  return data.reward.filter((row) => row.at + 2 <= end);
}

/** The mean of `series` over rows, weighted by their decisions; null where no row has it. */
export function mean(rows, series) {
  const having = rows.filter((row) => known(row[series]) && row.decisions > 0);
  const num = having.reduce((sum, row) => sum + row.decisions, 0);
  return num === 0 ? null : having.reduce((sum, row) => sum + row.decisions * row[series], 0) / num;
}

/** Reward per decision of the last minute and of the fallback's first, and the one over the other. */
export function rewardNow(data) {
  const rows = settled(data);
  const lastMinute = rows.filter((row) => row.at >= data.now - data.loop.wait_seconds - MINUTE - 2);
  const first = rows.find((row) => known(row.fallback));
  const baseline = data.baseline?.mean ?? mean(rows.filter((row) => first && row.at < first.at + MINUTE), "fallback");
  const learned = mean(lastMinute, "learned");
  return {
    now: learned ?? mean(lastMinute, "fallback"),
    isLearned: learned !== null,
    baseline,
    times: learned !== null && baseline > 0 ? learned / baseline : null,
  };
}

/** The share of the reward's variance that the estimator cannot explain, as the learner tells it or as it follows. */
export function noiseShare(learner) {
  if (known(learner?.noise_share)) return learner.noise_share;
  const { reward_variance: all, estimate_variance: explained } = learner ?? {};
  return known(explained) && all > 0 ? Math.min(1, Math.max(0, 1 - explained / all)) : null;
}

/** Rows of `series`, [[at…], [value…], …], in means over a grid of steps that fits the span; empty steps are null. */
export function onGrid(rows, series, span) {
  const step = Math.max(2, 2 * Math.round(span / 200));
  const steps = new Map();
  for (const row of rows) {
    const at = row.at - (row.at % step);
    steps.set(at, [...(steps.get(at) ?? []), row]);
  }
  const ats = [];
  if (rows.length > 0) for (let at = rows[0].at - (rows[0].at % step); at <= rows.at(-1).at; at += step) ats.push(at);
  return [ats, ...series.map((name) => ats.map((at) => mean(steps.get(at) ?? [], name)))];
}

/** Rows as columns, [[at…], [value…], …], with a null between rows further apart than `maxGap` seconds. */
export function withGaps(rows, series, maxGap) {
  const columns = [[], ...series.map(() => [])];
  for (const row of rows) {
    const last = columns[0].at(-1);
    if (last !== undefined && row.at - last > maxGap) push(columns, { at: (last + row.at) / 2 }, series);
    push(columns, row, series);
  }
  return columns;
}

function push(columns, row, series) {
  columns[0].push(row.at);
  series.forEach((name, i) => columns[i + 1].push(row[name] ?? null));
}

/** [from, to] that the charts show: what there is of the last `num` seconds, a minute at least. */
export function rangeOf(data, num) {
  const firsts = [data.reward, data.latency].filter((rows) => rows.length > 0).map((rows) => rows[0].at);
  const first = Math.min(...firsts, data.now - MINUTE);
  return [Math.max(first, data.now - num), data.now];
}

/** The same for rewards: where they become final long after the decision, it looks as far back. */
export function rewardRangeOf(data, [from, to]) {
  const { wait_seconds: wait } = data.loop;
  return wait > MINUTE ? [from - wait, to - wait] : [from, to];
}
