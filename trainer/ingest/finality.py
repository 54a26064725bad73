"""When a reward becomes final, and when a final one is corrected (DESIGN §7.6). Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from schemas.loop_file import Loop
from storage.open_decisions import OpenDecision, StoredEvent
from storage.replay_store import RewardRow
from trainer.ingest.reward_rule import counts, outcome_of


@dataclass(frozen=True, slots=True)
class RewardChanges:
    finals: list[RewardRow]
    corrections: list[RewardRow]
    num_strangers: int
    """Events about items that their decision did not show: of those made final, and new ones of final decisions."""


def reward_changes(
    due: Iterable[OpenDecision],
    touched: Iterable[OpenDecision],
    new_event_ids: Collection[str],
    loop: Loop,
    now: float,
) -> RewardChanges:
    """Rewards to write: `due` become final, and of `touched` those that closed; final ones that changed are corrected.

    Only a new event that counts may correct a final reward, so that a changed `[reward]` leaves the past alone.
    """
    finals = {decision.decision_id: decision for decision in due}
    corrections = []
    num_strangers = 0
    for decision in touched:
        if decision.final_at is not None:
            num_strangers += sum(e.event_id in new_event_ids and _is_strange(e, decision) for e in decision.events)
            corrections += _correction(decision, decision.final_at, new_event_ids, loop, now)
        elif outcome_of(decision, loop).closed_at is not None:
            finals[decision.decision_id] = decision
    num_strangers += sum(_is_strange(e, decision) for decision in finals.values() for e in decision.events)
    return RewardChanges([_final(decision, loop, now) for decision in finals.values()], corrections, num_strangers)


def _is_strange(event: StoredEvent, decision: OpenDecision) -> bool:
    return event.item_id is not None and not decision.is_weights and event.item_id not in decision.item_ids


def _final(decision: OpenDecision, loop: Loop, now: float) -> RewardRow:
    outcome = outcome_of(decision, loop)
    return RewardRow(decision.decision_id, outcome.rewards, outcome.terminated, final_at=now, corrected_at=None)


def _correction(
    decision: OpenDecision, final_at: float, new_event_ids: Collection[str], loop: Loop, now: float
) -> list[RewardRow]:
    """The corrected row, if there is anything to correct."""
    if not any(e.event_id in new_event_ids and counts(e, decision.decided_at, loop) for e in decision.events):
        return []
    outcome = outcome_of(decision, loop)
    if (outcome.rewards, outcome.terminated) == (decision.rewards, decision.terminated):
        return []
    return [RewardRow(decision.decision_id, outcome.rewards, outcome.terminated, final_at, corrected_at=now)]
