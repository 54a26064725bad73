"""What was acknowledged, held against what is stored, row by row. Pure."""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from loadtest.chaos.killer import Struck
from loadtest.chaos.ledger import Acknowledged, Answered
from schemas.loop_file import Loop
from storage.open_decisions import OpenDecision, StoredEvent
from storage.story import RewardTotal
from trainer.ingest.reward_rule import outcome_of

_TOLERANCE = 1e-6


@dataclass(slots=True)
class EventFindings:
    """Ids of events, by what became of them; all but `stored` and `unacknowledged` should be empty."""

    num_stored: int = 0
    """Acknowledged ones that are stored."""
    lost: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    """Not stored, but in a spool or in the log."""
    duplicated: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """Stored with another content than was acknowledged."""
    unacknowledged: list[StoredEvent] = field(default_factory=list)
    """Stored, and nobody was told: who sent it was cut off, or the process that would have told was killed."""


def audit_events(
    acknowledged: Mapping[str, Acknowledged], stored: Iterable[StoredEvent], waiting: Callable[[], Collection[str]]
) -> EventFindings:
    """`waiting` tells the ids that may still arrive; it is asked only if any are missing."""
    findings, seen = EventFindings(), set[str]()
    for row in stored:
        if row.event_id in seen:
            findings.duplicated.append(row.event_id)
            continue
        seen.add(row.event_id)
        promised = acknowledged.get(row.event_id)
        if promised is None:
            findings.unacknowledged.append(row)
        elif promised.content != (row.decision_id, row.item_id, row.kind, row.value, row.occurred_at):
            findings.changed.append(row.event_id)
        else:
            findings.num_stored += 1
    missing = acknowledged.keys() - seen
    late = set(waiting()) if missing else set[str]()
    findings.stuck, findings.lost = sorted(missing & late), sorted(missing - late)
    return findings


@dataclass(slots=True)
class RewardFindings:
    """`wrong`, `repeated` and `open` have decision ids, and should be empty."""

    num_decisions: int = 0
    num_final: int = 0
    wrong: list[str] = field(default_factory=list)
    """Their final reward is not what their events come to."""
    open: list[str] = field(default_factory=list)
    """Without a final reward although their window ended before the watermark."""
    repeated: list[str] = field(default_factory=list)
    """Stored twice."""
    are_totals_right: bool = True
    """Whether the sums that ingest keeps over final rewards are what these come to."""


def audit_rewards(
    decisions: Iterable[OpenDecision],
    events: Iterable[StoredEvent],
    totals: Iterable[RewardTotal],
    loop: Loop,
    watermark: float,
) -> RewardFindings:
    """Recomputes every final reward from `events`: what the load knows to have happened, not what the store says.

    `decisions` are as stored, with their rewards and without events.
    """
    findings, of_decision, sums = RewardFindings(), _by_decision(events), _Sums()
    seen: set[str] = set()
    for decision in decisions:
        if decision.decision_id in seen:
            findings.repeated.append(decision.decision_id)
            continue
        seen.add(decision.decision_id)
        if decision.final_at is None:
            if decision.decided_at + loop.reward.wait_seconds <= watermark:
                findings.open.append(decision.decision_id)
            continue
        outcome = outcome_of(replace(decision, events=tuple(of_decision.get(decision.decision_id, ()))), loop)
        if (outcome.rewards, outcome.terminated) != (decision.rewards, decision.terminated):
            findings.wrong.append(decision.decision_id)
        findings.num_final += 1
        sums.add(decision.mode, 1, sum(reward for reward in decision.rewards or () if reward is not None))
    findings.num_decisions = len(seen)
    findings.are_totals_right = sums.agree_with(totals)
    return findings


def _by_decision(events: Iterable[StoredEvent]) -> Mapping[str, Sequence[StoredEvent]]:
    found: defaultdict[str, list[StoredEvent]] = defaultdict(list)
    for event in events:
        found[event.decision_id].append(event)
    return found


class _Sums:
    """Decisions and rewards by mode."""

    def __init__(self) -> None:
        self._decisions: Counter[str] = Counter()
        self._rewards: defaultdict[str, float] = defaultdict(float)

    def add(self, mode: str, num: int, reward: float) -> None:
        self._decisions[mode] += num
        self._rewards[mode] += reward

    def agree_with(self, totals: Iterable[RewardTotal]) -> bool:
        other = _Sums()
        for total in totals:
            other.add(total.mode, total.decisions, total.reward_sum)
        return self._decisions == other._decisions and all(
            math.isclose(reward, other._rewards[mode], rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
            for mode, reward in self._rewards.items()
        )


def as_stored(event: Acknowledged) -> StoredEvent:
    """What the row of it must say; when the log got it plays no part in its reward."""
    return StoredEvent._make((event.event_id, *event.content, math.nan))


READ_LATE_SECONDS = 0.5
"""An answer that a killed ranker had sent is read by a busy client within this time."""


@dataclass(frozen=True, slots=True)
class LostDecision:
    decision_id: str
    age_seconds: float
    """Between the answer and the kill of the ranker that gave it, negative where it was read after that; infinite: it
    was not killed afterwards."""
    killed_at: float


@dataclass(frozen=True, slots=True)
class DecisionFindings:
    num_answered: int
    lost: list[LostDecision]
    """Answered and not stored."""
    num_other_slates: int
    """Stored as another ranker had decided, which was asked first and did not answer: retries may get another slate."""
    num_events_of_lost: int
    """Acknowledged events that speak of lost decisions: to be stored like all others."""

    def lost_by_kill(self) -> Counter[float]:
        """How many each kill of a ranker cost, by its time."""
        return Counter(each.killed_at for each in self.lost if math.isfinite(each.killed_at))


def audit_decisions(
    answered: Mapping[str, Answered],
    stored: Mapping[str, Sequence[str]],
    acknowledged: Iterable[Acknowledged],
    struck: Iterable[Struck],
) -> DecisionFindings:
    """`stored` has the item ids of each stored decision."""
    kills: defaultdict[int, list[float]] = defaultdict(list)
    for each in sorted(struck, key=lambda each: each.began_at):
        if (each.victim, each.action) == ("serve", "kill"):
            kills[each.number].append(each.began_at)
    lost = [_lost(each, kills[each.ranker + 1]) for each in answered.values() if each.decision_id not in stored]
    lost_ids = {each.decision_id for each in lost}
    return DecisionFindings(
        num_answered=len(answered),
        lost=lost,
        num_other_slates=sum(
            each.decision_id in stored and tuple(stored[each.decision_id]) != each.item_ids
            for each in answered.values()
        ),
        num_events_of_lost=sum(event.decision_id in lost_ids for event in acknowledged),
    )


def _lost(answer: Answered, kills: Sequence[float]) -> LostDecision:
    # An answer may be read, and timed, when the ranker that had sent it is dead already.
    place = bisect_left(kills, answer.at - READ_LATE_SECONDS)
    killed_at = kills[place] if place < len(kills) else math.inf
    return LostDecision(answer.decision_id, killed_at - answer.at, killed_at)
