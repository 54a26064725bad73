"""What the console, and `steadyrank up`, show of a ranker: the answer of `GET /console/data`."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from service.parts import Parts
from service.story import moment
from storage.database import StoreUnavailableError
from storage.registry import Champion, PolicyRow
from storage.story import RewardTotal

_95_PERCENT = 1.959964  # standard deviations to either side
BASELINE_SECONDS = 60.0
_GROUPS: dict[str, str] = {"learned": "learned", "explore": "learned", "fallback": "fallback", "control": "control"}
"""What a policy did is one group, whether it explored or not: that is the policy as it behaves."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store knows."""

    totals: list[RewardTotal]
    baseline: list[RewardTotal]
    champion: Champion | None
    policies: list[PolicyRow]


def read_stored(parts: Parts, since: float) -> Stored:
    """Blocks; empty while the store is away, for what this process knows is worth showing then too.

    Rewards lie back by the attribution window: of younger decisions only those that closed early are final, and they
    are the good ones.
    """
    store, wait_seconds = parts.store, parts.loop.reward.wait_seconds
    try:
        totals = store.reward_totals(since - wait_seconds, parts.clock() - wait_seconds)
        baseline = store.first_of_fallback(BASELINE_SECONDS)
        champion, policies = store.call(lambda: (store.registry.champion(), store.registry.listing()))
        return Stored(totals, baseline, champion, policies)
    except StoreUnavailableError as error:
        parts.health.failed(error)
        return Stored([], [], None, [])


def policies_answer(champion: Champion | None, policies: Sequence[PolicyRow]) -> dict[str, Any]:
    """The answer of `GET /policies`."""
    return {
        "champion": None if champion is None else champion.version,
        "pinned": champion is not None and champion.pinned,
        "policies": [
            {
                "version": row.version,
                "state": row.state,
                "created_at": moment(row.created_at),
                "parent": row.parent,
                "metrics": row.metrics,
            }
            for row in policies
        ],
    }


def console_data(parts: Parts, stored: Stored, since: float) -> dict[str, Any]:
    """On the event loop, to whose turn the windows of this process belong."""
    return {
        "now": parts.clock(),
        "loop": _loop_facts(parts),
        "ready": parts.is_ready,
        "trouble": parts.health.trouble,
        "reward": _reward_rows(stored.totals),
        "baseline": _baseline(stored.baseline),
        "lift": lift(stored.totals),
        **_live_rows(parts, since),
        "policy": _policy(parts),
        "policies": policies_answer(stored.champion, stored.policies),
        "learner": _champion_metrics(stored),
        **_counts(parts),
    }


def lift(totals: Iterable[RewardTotal]) -> dict[str, float] | None:
    """Mean reward of a learned decision less that of a control one, with its 95 % interval (normal approximation,
    decisions taken as independent); None without two of each.
    """
    learned, control = _Sums(), _Sums()
    for row in totals:
        if _GROUPS[row.mode] == "learned":
            learned.add(row)
        elif row.mode == "control":
            control.add(row)
    if min(learned.num, control.num) < 2:
        return None
    mean = learned.mean - control.mean
    margin = _95_PERCENT * math.sqrt(learned.variance_of_mean + control.variance_of_mean)
    return {"mean": mean, "low": mean - margin, "high": mean + margin}


def _baseline(totals: Iterable[RewardTotal]) -> dict[str, float] | None:
    sums = _Sums()
    for row in totals:
        sums.add(row)
    return {"mean": sums.mean, "decisions": sums.num} if sums.num else None


class _Sums:
    def __init__(self) -> None:
        self.num = 0
        self.total = 0.0
        self.squares = 0.0

    def add(self, row: RewardTotal) -> None:
        self.num += row.decisions
        self.total += row.reward_sum
        self.squares += row.reward_square_sum

    @property
    def mean(self) -> float:
        return self.total / self.num

    @property
    def variance_of_mean(self) -> float:
        return max(self.squares - self.num * self.mean**2, 0.0) / (self.num - 1) / self.num


def _reward_rows(totals: Iterable[RewardTotal]) -> list[dict[str, Any]]:
    buckets: dict[int, dict[str, _Sums]] = defaultdict(lambda: defaultdict(_Sums))
    for row in totals:
        buckets[row.bucket_start][_GROUPS[row.mode]].add(row)
    return [
        {
            "at": at,
            "decisions": sum(each.num for each in groups.values()),
            **{name: groups[name].mean if groups[name].num else None for name in ("learned", "fallback", "control")},
        }
        for at, groups in sorted(buckets.items())
    ]


def _live_rows(parts: Parts, since: float) -> dict[str, Any]:
    live = parts.live
    total = live.freshness_total()
    p50, p95 = total.percentiles((0.5, 0.95)) if total.num else (None, None)
    return {
        "swaps": [{"at": swap.at, "version": swap.version} for swap in live.swaps(since)],
        "latency": [
            {
                "at": row.at,
                "requests": row.requests,
                "p50_ms": 1e3 * row.p50,
                "p95_ms": 1e3 * row.p95,
                "p99_ms": 1e3 * row.p99,
            }
            for row in live.latency(since)
        ],
        "freshness": [{"at": row.at, "p50_seconds": row.p50, "p95_seconds": row.p95} for row in live.freshness(since)],
        "freshness_total": {"p50": p50, "p95": p95, "count": total.num},
        "decisions_per_second": live.decisions_per_second(),
    }


def _loop_facts(parts: Parts) -> dict[str, Any]:
    loop = parts.loop
    return {
        "name": loop.name,
        "agent": loop.learner.agent,
        "estimator": loop.learner.estimator,
        "stabilizer": loop.learner.stabilizer,
        "wait_seconds": loop.reward.wait_seconds,
    }


def _policy(parts: Parts) -> dict[str, Any] | None:
    policy = parts.handle.current().policy
    if policy is None:
        return None
    age = max(parts.clock() - policy.created_at, 0.0)
    return {"version": policy.version, "age_seconds": age, "created_at": moment(policy.created_at)}


def _champion_metrics(stored: Stored) -> dict[str, float | None]:
    return next((row.metrics for row in stored.policies if row.state == "champion"), {})


def _counts(parts: Parts) -> dict[str, Any]:
    def count(name: str, **labels: str) -> int:
        return int(parts.registry.get_sample_value(f"steadyrank_{name}_total", labels) or 0)

    modes = {mode: count("decisions", mode=mode) for mode in _GROUPS}
    return {
        "modes": modes,
        "totals": {
            "decisions": sum(modes.values()),
            "feedback_accepted": count("feedback_accepted"),
            "swaps": count("policy_swaps"),
            "failed_loads": count("policy_failed_loads"),
            "clipped": count("clipped_numbers"),
            "unknown": count("unknown_values"),
        },
    }
