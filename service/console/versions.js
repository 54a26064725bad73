// The list of versions and what a person may do with it: promote, roll back, unpin.

import { age, moment, number, percent, NONE } from "/console/figures.js";

const MAX_ROWS = 20;
const FIRST_METRICS = ["noise_share", "reward_mean", "reward_correlation", "estimator_loss", "agent_loss"];

const byId = (id) => document.getElementById(id);

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** `ask(title, text, verb, path)` confirms an action and does it. */
export class Versions {
  constructor(ask) {
    this.ask = ask;
    this.rows = new Map();
    this.body = byId("versions").tBodies[0];
    byId("rollback").addEventListener("click", () => this.rollback());
    byId("unpin").addEventListener("click", () => this.unpin());
  }

  /** Rows are kept and altered in place, so that a focused button keeps its focus. */
  show({ champion, pinned, policies }, now) {
    this.pinned = Boolean(pinned);
    for (const id of ["pinned", "pinned-note", "unpin"]) byId(id).hidden = !pinned;
    byId("rollback").disabled = !champion;
    byId("versions").hidden = policies.length === 0;
    byId("no-versions").hidden = policies.length > 0;
    const listed = withChampion(policies);
    const rows = listed.map((policy) => this.row(policy, now));
    for (const [version, { row }] of this.rows) {
      if (!listed.some((policy) => policy.version === version)) {
        row.remove();
        this.rows.delete(version);
      }
    }
    rows.forEach((row, i) => {
      if (this.body.rows[i] !== row) this.body.insertBefore(row, this.body.rows[i] ?? null);
    });
  }

  row(policy, now) {
    if (!this.rows.has(policy.version)) this.rows.set(policy.version, this.newRow(policy));
    const { row, state, created, button } = this.rows.get(policy.version);
    row.className = policy.state;
    state.className = `badge ${policy.state}`;
    state.textContent = policy.state;
    const at = moment(policy.created_at);
    created.textContent = `${age(now - at)} ago`;
    created.title = new Date(1000 * at).toLocaleString("en-GB");
    this.label(button, policy);
    return row;
  }

  /** A promotion by hand pins, so promoting the champion itself is how to pin it. */
  label(button, { version, state }) {
    const isChampion = state === "champion";
    button.hidden = !(state === "published" || (isChampion && !this.pinned));
    button.textContent = isChampion ? "Pin" : "Promote";
    button.setAttribute("aria-label", `${button.textContent} ${version}`);
  }

  newRow(policy) {
    const row = element("tr");
    const version = element("th", "version", policy.version);
    version.scope = "row";
    const state = element("span");
    const created = element("td", "created");
    const button = element("button", "small");
    button.addEventListener("click", () => this.promote(policy.version, button.textContent));
    row.append(version, cell("", state), created, element("td", "parent", policy.parent ?? NONE));
    row.append(cell("metrics", metrics(policy.metrics ?? {})), cell("act", button));
    return { row, state, created, button };
  }

  promote(version, verb) {
    const text = verb === "Pin"
      ? "It goes on serving, and the learner promotes nothing until you unpin."
      : "It serves within a second, and stays: the learner promotes nothing until you unpin.";
    this.ask(`${verb} ${version}?`, text, verb, `/policies/${encodeURIComponent(version)}/promote`);
  }

  rollback() {
    const text = "The champion before this one serves within a second, and stays: the learner promotes nothing until you unpin.";
    this.ask("Roll back?", text, "Roll back", "/policies/rollback");
  }

  unpin() {
    this.ask("Unpin?", "The learner's next good policy takes over.", "Unpin", "/policies/unpin");
  }
}

/** The newest, and the champion even where it is older than those. */
function withChampion(policies) {
  const older = policies.slice(MAX_ROWS).filter((policy) => policy.state === "champion");
  return [...policies.slice(0, MAX_ROWS - older.length), ...older];
}

function cell(className, child) {
  const made = element("td", className);
  made.append(child);
  return made;
}

/** The foremost metrics in a line that opens to all of them. */
function metrics(values) {
  const names = Object.keys(values).sort((a, b) => rank(a) - rank(b));
  if (names.length === 0) return document.createTextNode(NONE);
  const details = element("details");
  const summary = element("summary", "", names.slice(0, 3).map((name) => `${words(name)} ${shown(name, values[name])}`).join(" · "));
  const list = element("dl", "all");
  for (const name of names) list.append(element("dt", "", words(name)), element("dd", "", shown(name, values[name])));
  details.append(summary, list);
  return details;
}

const rank = (name) => (FIRST_METRICS.includes(name) ? FIRST_METRICS.indexOf(name) : FIRST_METRICS.length);
const words = (name) => name.replaceAll("_", " ");
const shown = (name, x) => (name.endsWith("_share") ? percent(x) : number(x));
