"""The report of a run: what shoppers and ranker told, and what the store holds in the end."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.tables import REWARD_BUCKET_SECONDS
from service.up.ranker import RankerRecord
from service.up.shoppers import WINDOW_SECONDS, ShoppersRecord
from storage.story import RewardTotal

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a report is made of."""

    ranker: RankerRecord
    shoppers: ShoppersRecord | None
    """None: no world was asked for."""
    seconds: float
    """How long the ranker has answered; with shoppers their own time counts."""
    num_stored: int | None
    """Feedback events of this run in the store; None: it could not be read."""
    totals: list[RewardTotal]
    """Rewards of this run, by bucket and mode."""
    restarts: Mapping[str, int]
    """By child."""
    loop_name: str
    url: str


def make_report(evidence: Evidence) -> Report:
    """Figures by name; null where there is none. Rewards are means a decision, exploration included."""
    shoppers = evidence.shoppers
    figures = _by_store(evidence) if shoppers is None else _by_shoppers(shoppers)
    decisions, seconds = figures["decisions"], figures["seconds"]
    freshness = evidence.ranker.freshness
    return {
        "loop": evidence.loop_name,
        **figures,
        "decisions_per_second": decisions / seconds if seconds else None,
        "policies_swapped": max(len(evidence.ranker.versions), 0 if shoppers is None else shoppers.latest.versions),
        "feedback_stored": evidence.num_stored,
        "feedback_to_served_seconds": {"p50": freshness.p50, "p95": freshness.p95},
        "learner": dict(evidence.ranker.learner),
        "restarts": dict(evidence.restarts),
        "console": f"{evidence.url}/console",
    }


def problems(report: Report) -> list[str]:
    """What must not be, as sentences; empty if all is well.

    More may be stored than was accepted: an event of which the ranker was killed before it could say so. Without a
    world the counts need not agree, since a product's retries are accepted twice and stored once.
    """
    found = []
    if not report["decisions"]:
        found.append("no decision was made")
    if report["feedback_stored"] is None:
        found.append("the store could not be read, so nobody knows whether it holds all feedback")
    elif report["world"] is not None and report["feedback_stored"] < report["feedback_accepted"]:
        num_missing = report["feedback_accepted"] - report["feedback_stored"]
        found.append(f"{num_missing:,} of {report['feedback_accepted']:,} accepted feedback events are not stored")
    return found


def write_report(path: Path, report: Report) -> None:
    """Whole or not at all: whoever waits for the file finds it complete."""
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.replace(path)


def summary(report: Report) -> str:
    """A few lines for people."""
    reward, freshness, ctr = report["reward_per_decision"], report["feedback_to_served_seconds"], report.get("ctr")
    failed, accepted, stored = (report[name] for name in ("requests_failed", "feedback_accepted", "feedback_stored"))
    end = f"{number(reward['end'])} at the end" + times(reward["end"], reward["random"], "random")
    lines = [
        f"{report['decisions']:,} decisions in {report['seconds']:.0f} s",
        f"reward a decision: {number(reward['start'])} at the start, {end}",
        *([f"click-through rate: {number(ctr['start'])} at the start, {number(ctr['end'])} at the end"] if ctr else []),
        f"policies swapped in: {report['policies_swapped']}",
        f"from feedback to served: p50 {seconds(freshness['p50'])}, p95 {seconds(freshness['p95'])}",
        f"requests failed: {count(failed)}",
        f"feedback events: {count(accepted)} accepted, {count(stored)} stored",
    ]
    restarts = ", ".join(f"{name} {num}×" for name, num in report["restarts"].items() if num)
    return "\n".join([*lines, *([f"restarted: {restarts}"] if restarts else [])])


def number(x: float | None) -> str:
    """Three digits that count."""
    return "–" if x is None else f"{x:.3g}"


def count(x: int | None) -> str:
    return "–" if x is None else f"{x:,}"


def seconds(x: float | None) -> str:
    return "–" if x is None else f"{x:.1f} s"


def times(reward: float | None, baseline: float | None, name: str) -> str:
    """`, 2.25 × random (0.2)`; of the baseline alone, or nothing, where they do not compare."""
    if baseline is None:
        return ""
    if reward is None or baseline <= 0:
        return f", {name} {number(baseline)}"
    return f", {reward / baseline:.2f} × {name} ({number(baseline)})"


def _by_shoppers(shoppers: ShoppersRecord) -> Report:
    first, last, latest = shoppers.first(), shoppers.last(), shoppers.latest
    figures: Report = {
        "world": shoppers.world,
        "seconds": shoppers.seconds,
        "decisions": latest.decisions,
        "reward_per_decision": {
            "start": first.reward_per_decision,
            "end": last.reward_per_decision,
            "random": shoppers.random,
        },
        "requests_failed": latest.requests_failed,
        "feedback_accepted": latest.feedback_accepted,
    }
    if latest.pages:
        figures["ctr"] = {"start": first.click_through_rate, "end": last.click_through_rate}
    return figures


def _by_store(evidence: Evidence) -> Report:
    totals = evidence.totals
    begin = min((total.bucket_start for total in totals), default=0)
    end = max((total.bucket_start for total in totals), default=0) + REWARD_BUCKET_SECONDS
    uniform = [total for total in totals if total.mode == "control"] or [t for t in totals if t.mode == "fallback"]
    ranker = evidence.ranker.totals
    return {
        "world": None,
        "seconds": evidence.seconds,
        "decisions": ranker.decisions,
        "reward_per_decision": {
            "start": _mean(total for total in totals if total.bucket_start < begin + WINDOW_SECONDS),
            "end": _mean(total for total in totals if total.bucket_start >= end - WINDOW_SECONDS),
            "random": _mean(uniform),
        },
        "requests_failed": None,  # only those who asked could say
        "feedback_accepted": ranker.feedback_accepted,
    }


def _mean(totals: Iterable[RewardTotal]) -> float | None:
    pairs = [(total.reward_sum, total.decisions) for total in totals]
    num = sum(decisions for _, decisions in pairs)
    return sum(reward for reward, _ in pairs) / num if num else None
