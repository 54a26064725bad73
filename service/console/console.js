// The page: asks the ranker every two seconds and shows what it says.

import { keep, Refused, request } from "/console/api.js";
import { Charts } from "/console/charts.js";
import * as figures from "/console/figures.js";
import { Versions } from "/console/versions.js";

const POLL_MS = 2000;
const SHOWN_SECONDS = 600;

const byId = (id) => document.getElementById(id);
const write = (id, text) => {
  if (byId(id).textContent !== text) byId(id).textContent = text;
};

const versions = new Versions(ask);
let charts = null;
let last = null; // what the ranker said last
let lastAt = null; // when, by the clock of this machine
let turn = 0;
let timer = 0;

/** Asks now and from then on. A poll that a later one overtook is forgotten. */
async function poll() {
  const mine = ++turn;
  clearTimeout(timer);
  const outcome = await request(`/console/data?seconds=${SHOWN_SECONDS}`).catch((error) => error);
  if (mine !== turn) return;
  timer = setTimeout(poll, POLL_MS);
  if (outcome instanceof Error) {
    showFailure(outcome);
  } else {
    last = outcome;
    lastAt = new Date();
    showState("live", "live");
    show(outcome);
  }
}

function showFailure(error) {
  if (error instanceof Refused && error.status === 401) {
    showState("locked", "key needed", byId("key").value === "" ? "" : error.message);
  } else if (error instanceof Refused) {
    showState("away", "refused", error.message);
  } else {
    const since = last === null ? "" : ` Shown is what it said at ${lastAt.toLocaleTimeString("en-GB")}.`;
    showState("away", "unreachable", `The ranker does not answer; asking again every two seconds.${since}`);
  }
}

function showState(state, text, trouble = "") {
  document.body.dataset.state = state;
  write("connection", text);
  write("trouble", trouble);
  byId("trouble").hidden = trouble === "";
  byId("key-form").hidden = state !== "locked";
  byId("page").hidden = state === "locked" || (state === "away" && last === null);
}

function show(data) {
  showHeader(data);
  showReward(data);
  showLearner(data);
  showCharts(data);
  versions.show(data.policies, data.now);
  showTotals(data);
}

function showHeader({ loop, policy, trouble, decisions_per_second: rate }) {
  document.title = `${loop.name} · steadyrank`;
  write("loop-name", loop.name);
  for (const part of ["agent", "estimator", "stabilizer"]) write(part, loop[part]);
  write("version", policy?.version ?? "none yet");
  write("version-age", policy === null ? "" : `${figures.age(policy.age_seconds)} old`);
  write("rate", rate === 0 ? "0" : figures.number(rate));
  byId("no-policy").hidden = policy !== null;
  byId("store-trouble").hidden = !trouble;
  write("store-trouble", trouble ? `Recommendations go on, but the store is away, and so are rewards and versions here: ${trouble}` : "");
}

function showReward(data) {
  const { now, baseline, isLearned, times } = figures.rewardNow(data);
  write("reward", figures.number(now));
  byId("times").hidden = times === null;
  write("times", times === null ? "" : `${figures.number(times)}×`);
  write("reward-note", rewardNote(now, baseline, isLearned));
  write("lift", data.lift === null ? figures.NONE : figures.signed(data.lift.mean));
  write("lift-note", liftNote(data));
}

function rewardNote(now, baseline, isLearned) {
  if (now === null) return "no reward became final";
  if (!isLearned) return "the uniform fallback's";
  return baseline === null ? "" : `the fallback's first minute: ${figures.number(baseline)}`;
}

function liftNote({ lift, modes }) {
  if (lift === null) return modes.control > 0 ? "no control users have rewards yet" : "needs [exploration] control > 0";
  if ((lift.low ?? null) === null) return "learned minus control";
  return `95 % interval ${figures.signed(lift.low)} to ${figures.signed(lift.high)}`;
}

function showLearner({ learner, freshness_total: total }) {
  const share = figures.noiseShare(learner);
  write("noise", figures.percent(share));
  write("noise-note", share === null ? "known with the first policy" : "of the reward's variance, as far as it knows");
  write("freshness", figures.seconds(total?.p95));
  write("freshness-note", total?.count > 0 ? `p95; half within ${figures.seconds(total.p50)}` : "known with the second policy");
}

function showCharts(data) {
  charts ??= newCharts();
  charts.show(data, figures.rangeOf(data, SHOWN_SECONDS));
}

function newCharts() {
  return new Charts({ reward: byId("reward-chart"), latency: byId("latency-chart"), freshness: byId("freshness-chart") });
}

function showTotals({ totals, modes }) {
  const served = Object.values(modes).reduce((sum, num) => sum + num, 0);
  const shares = Object.entries(modes).filter(([, num]) => num > 0).map(([mode, num]) => `${mode} ${figures.share(num / served)}`);
  const facts = [
    ["Decisions", figures.count(totals.decisions)],
    ["Feedback accepted", figures.count(totals.feedback_accepted)],
    ["Policy swaps", figures.count(totals.swaps)],
    ["Failed loads", figures.count(totals.failed_loads), totals.failed_loads > 0],
    ["Clipped numbers", figures.count(totals.clipped)],
    ["Unknown categories", figures.count(totals.unknown)],
    ["Decided by", shares.join(", ") || figures.NONE],
  ];
  byId("totals").replaceChildren(...facts.map(totalOf));
}

function totalOf([name, value, isBad = false]) {
  const pair = document.createElement("div");
  const [term, description] = [document.createElement("dt"), document.createElement("dd")];
  term.textContent = name;
  description.textContent = value;
  description.classList.toggle("bad", isBad);
  pair.append(term, description);
  return pair;
}

/** Asks for a confirmation, then POSTs; a refusal is told in the dialog, which stays open. */
function ask(title, text, verb, path) {
  write("confirm-title", title);
  write("confirm-text", text);
  write("confirm-yes", verb);
  byId("confirm-error").hidden = true;
  byId("confirm-yes").disabled = false;
  byId("confirm-yes").onclick = () => act(path);
  byId("confirm").showModal();
}

async function act(path) {
  byId("confirm-yes").disabled = true;
  const outcome = await request(path, "POST").catch((error) => error);
  byId("confirm-yes").disabled = false;
  if (outcome instanceof Error) {
    write("confirm-error", outcome instanceof Refused ? outcome.message : "The ranker does not answer.");
    byId("confirm-error").hidden = false;
  } else {
    byId("confirm").close();
    poll();
  }
}

byId("confirm-no").addEventListener("click", () => byId("confirm").close());
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keep(byId("key").value.trim());
  poll();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  charts?.destroy();
  charts = null;
  if (last !== null) showCharts(last);
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else poll();
});
poll();
