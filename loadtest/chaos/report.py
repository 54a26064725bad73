"""What a run came to: as JSON, as a table, and what of it must not be."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, get_args

from loadtest.chaos.audit import DecisionFindings, EventFindings, RewardFindings
from loadtest.chaos.faults import VICTIMS, Action
from loadtest.chaos.killer import Struck
from loadtest.chaos.ledger import Acknowledged, How

MAX_LAG_SECONDS = 30.0
MAX_AGE_SECONDS = 5.0
"""Of a decision that a kill lost: packed for 20 ms, then as long as the log may be silent before the spool has it; the
rest is for a machine that is too busy. A ranker that is frozen before it is killed may lose older ones by that time.
"""

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    seconds: float
    num_kills_wanted: int
    num_events_wanted: int
    struck: list[Struck]
    deaths: Mapping[str, int]
    """By program: ends that nobody asked for."""
    killed_at_end: list[str]
    """Programs that did not end when they were told to."""
    acknowledged: Mapping[str, Acknowledged]
    num_repeats: int
    counts: Counter[str]
    """Of HTTP answers and of what producers were told."""
    events: EventFindings
    rewards: RewardFindings
    decisions: DecisionFindings
    lag_seconds: float | None
    """From the begin of the last strike until the consumers had caught up; None: they had not."""
    num_spool_bytes: int
    num_policies: int


def make_report(evidence: Evidence) -> Report:
    events, rewards, decisions = evidence.events, evidence.rewards, evidence.decisions
    ages = [each.age_seconds for each in decisions.lost if math.isfinite(each.age_seconds)]
    return {
        "seconds": evidence.seconds,
        "wanted": {"kills": evidence.num_kills_wanted, "events": evidence.num_events_wanted},
        "kills": _by_victim(evidence.struck, "kill"),
        "stops": _by_victim(evidence.struck, "stop"),
        "deaths": {name: num for name, num in evidence.deaths.items() if num},
        "killed_at_end": evidence.killed_at_end,
        "acknowledged": _by_way(evidence.acknowledged),
        "acknowledged_again": evidence.num_repeats,
        "events": {
            "stored": events.num_stored,
            "lost": len(events.lost),
            "duplicated": len(events.duplicated),
            "stuck": len(events.stuck),
            "changed": len(events.changed),
            "stored_unacknowledged": len(events.unacknowledged),
        },
        "rewards": {
            "decisions": rewards.num_decisions,
            "final": rewards.num_final,
            "wrong": len(rewards.wrong),
            "open": len(rewards.open),
            "repeated": len(rewards.repeated),
            "totals_right": rewards.are_totals_right,
        },
        "decisions": {
            "answered": decisions.num_answered,
            "lost": len(decisions.lost),
            "lost_without_a_kill": sum(each.age_seconds > MAX_AGE_SECONDS for each in decisions.lost),
            "lost_by_a_kill": max(decisions.lost_by_kill().values(), default=0),
            "lost_age_seconds": {"median": median(ages), "max": max(ages)} if ages else None,
            "other_slates": decisions.num_other_slates,
            "events_of_lost": decisions.num_events_of_lost,
        },
        "lag_seconds": evidence.lag_seconds,
        "spool_bytes": evidence.num_spool_bytes,
        "policies": evidence.num_policies,
        "strikes": [asdict(each) for each in evidence.struck],
        "answers": dict(sorted(evidence.counts.items())),
        "examples": {
            "lost": events.lost[:5],
            "duplicated": events.duplicated[:5],
            "stuck": events.stuck[:5],
            "changed": events.changed[:5],
            "wrong": rewards.wrong[:5],
            "open": rewards.open[:5],
        },
    }


def problems(report: Report) -> list[str]:
    """What must not be, as sentences; empty if the promise was kept."""
    found = [f"{report[part][name]:,} {what}" for part, name, what in _MUST_BE_ZERO if report[part][name]]
    kills, num_acknowledged = sum(report["kills"].values()), sum(report["acknowledged"].values())
    if kills < report["wanted"]["kills"] or num_acknowledged < report["wanted"]["events"]:
        found.append(f"the run ended after {kills} kills and {num_acknowledged:,} events: fewer than were asked for")
    if not report["rewards"]["totals_right"]:
        found.append("reward_totals are not the sums of the final rewards")
    lag_seconds = report["lag_seconds"]
    if lag_seconds is None or lag_seconds > MAX_LAG_SECONDS:
        found.append(f"the consumers had not caught up {MAX_LAG_SECONDS:g} s after the last kill: {lag_seconds} s")
    if report["spool_bytes"]:
        found.append(f"{report['spool_bytes']:,} bytes were left in the spool")
    if report["killed_at_end"]:
        found.append(f"{', '.join(report['killed_at_end'])} did not end when told to")
    return [*found, *_wrong_answers(report["answers"])]


_MUST_BE_ZERO = (
    ("events", "lost", "acknowledged events are lost"),
    ("events", "duplicated", "events are stored twice"),
    ("events", "stuck", "acknowledged events have not arrived"),
    ("events", "changed", "events are stored with another content than was acknowledged"),
    ("rewards", "wrong", "final rewards are wrong"),
    ("rewards", "open", "decisions have no final reward"),
    ("rewards", "repeated", "decisions are stored twice"),
    ("decisions", "lost_without_a_kill", "answered decisions are lost without a kill of their ranker"),
)


def _wrong_answers(answers: Mapping[str, int]) -> Iterator[str]:
    """No request was wrong, so none may be refused; `/recommend` answers whatever is away."""
    for what, num in answers.items():
        path, _, outcome = what.partition(" ")
        if path == "/recommend" and outcome.startswith(("4", "5")):
            yield f"/recommend answered {outcome} {num:,} times"
        if path == "/feedback" and outcome.isdecimal() and outcome not in {"202", "503"}:
            yield f"/feedback answered {outcome} {num:,} times"


def table(report: Report) -> str:
    """For people."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield f"{'':16}{'kill -9':>9}{'SIGSTOP':>9}{'own deaths':>12}"
    for victim in VICTIMS:
        deaths = sum(num for name, num in report["deaths"].items() if name.startswith(victim))
        yield f"  {victim:14}{report['kills'][victim]:>9,}{report['stops'][victim]:>9,}{deaths:>12,}"
    yield f"  {'all':14}{sum(report['kills'].values()):>9,}{sum(report['stops'].values()):>9,}"
    yield ""
    events, rewards, decisions = report["events"], report["rewards"], report["decisions"]
    ways = ", ".join(f"{num:,} {way}" for way, num in report["acknowledged"].items())
    lag_seconds, ages = report["lag_seconds"], decisions["lost_age_seconds"]
    rows = {
        "events acknowledged": f"{sum(report['acknowledged'].values()):,} ({ways}), {_a_second(report):.0f}/s",
        "  stored": f"{events['stored']:,}",
        "  lost": f"{events['lost']:,}",
        "  duplicated": f"{events['duplicated']:,}",
        "  stuck": f"{events['stuck']:,}",
        "  changed": f"{events['changed']:,}",
        "acknowledged again": f"{report['acknowledged_again']:,}",
        "stored, not acknowledged": f"{events['stored_unacknowledged']:,}",
        "rewards final": f"{rewards['final']:,} of {rewards['decisions']:,} decisions",
        "  wrong": f"{rewards['wrong']:,}",
        "  still open": f"{rewards['open']:,}",
        "decisions answered": f"{decisions['answered']:,}",
        "  lost by kills": f"{decisions['lost']:,}, at most {decisions['lost_by_a_kill']:,} by one kill"
        + (f", answered {ages['median']:.3f} s before it (median), {ages['max']:.3f} s (max)" if ages else ""),
        "  lost without a kill": f"{decisions['lost_without_a_kill']:,}",
        "  stored as decided first": f"{decisions['other_slates']:,}",
        "  events of lost ones": f"{decisions['events_of_lost']:,}",
        "lag after the last kill": "not gone"
        if lag_seconds is None
        else f"gone after {lag_seconds:.1f} s{_up(report)}",
        "policies published": f"{report['policies']:,}",
    }
    yield from (f"{name:26}{text}" for name, text in rows.items())
    yield from (f"{what:42}{num:>11,}" for what, num in report["answers"].items())


def _up(report: Report) -> str:
    """How long the last victims took to come back."""
    strikes = report["strikes"]
    if not strikes:
        return ""
    seconds = max(each["ended_at"] for each in strikes) - max(each["began_at"] for each in strikes)
    return f", {seconds:.1f} s of which not all was up"


def _a_second(report: Report) -> float:
    num: int = sum(report["acknowledged"].values())
    return num / float(report["seconds"])


def _by_victim(struck: list[Struck], action: Action) -> dict[str, int]:
    counts = Counter(each.victim for each in struck if each.action == action)
    return {victim: counts[victim] for victim in VICTIMS}


def _by_way(acknowledged: Mapping[str, Acknowledged]) -> dict[str, int]:
    counts = Counter(event.how for event in acknowledged.values())
    return {way: counts[way] for way in get_args(How)}
