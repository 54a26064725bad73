"""A decision's feedback events → its rewards (DESIGN §4 and §7.6). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.loop_file import Loop
from schemas.sections import Reward
from storage.open_decisions import OpenDecision, StoredEvent


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the events of a decision come to."""

    rewards: tuple[float | None, ...]
    """[K] by position, None where there was no impression; `weights`: [1]."""
    terminated: bool
    closed_at: float | None
    """From when on nothing more is expected; None: only the end of the window says so."""


def counts(event: StoredEvent, decided_at: float, loop: Loop) -> bool:
    """Whether the event lies within the attribution window; what came before the decision does, as at it."""
    return event.occurred_at <= decided_at + loop.reward.wait_seconds


def outcome_of(decision: OpenDecision, loop: Loop) -> Outcome:
    """Of all events that count, in whatever order and however late they arrived.

    A closed decision's later events count as well, as long as they lie within the window: they correct it.
    """
    events = _in_order([event for event in decision.events if counts(event, decision.decided_at, loop)], decision)
    closing = (max(e.occurred_at, decision.decided_at) for e in events if e.kind in loop.reward.closes)
    return Outcome(
        rewards=(_aggregate(_amounts(events, loop.reward), loop.reward),)
        if decision.is_weights
        else _slate_rewards(decision.item_ids, events, loop.reward),
        terminated=any(event.kind in loop.session.ends for event in events),
        closed_at=next(closing, None),
    )


def _in_order(events: list[StoredEvent], decision: OpenDecision) -> list[StoredEvent]:
    return sorted(events, key=lambda event: (max(event.occurred_at, decision.decided_at), event.event_id))


def _slate_rewards(item_ids: Sequence[str], events: Sequence[StoredEvent], rule: Reward) -> tuple[float | None, ...]:
    impressions = _impressions(item_ids, events, rule)
    rewards: list[float | None] = []
    for item_id in item_ids:
        if item_id not in impressions:
            rewards.append(None)
            continue
        mine = [event for event in events if event.item_id in (None, item_id)]
        rewards.append(_aggregate(_amounts(mine, rule, num_sharing=len(impressions)), rule))
    return tuple(rewards)


def _impressions(item_ids: Sequence[str], events: Sequence[StoredEvent], rule: Reward) -> frozenset[str]:
    """The items that the user really saw; all of them where the loop has no `seen`.

    An event of the kind `seen` without an item says that the whole slate was seen. A reward of the whole decision is
    shared over what was seen; if nothing was, over everything.
    """
    everything = frozenset(item_ids)
    for_all = [event.kind for event in events if event.item_id is None]
    if rule.seen is None or rule.seen in for_all:
        return everything
    seen = everything & {event.item_id for event in events if event.item_id is not None}
    return seen or (everything if any(kind in rule.of_kind for kind in for_all) else seen)


def _amounts(events: Sequence[StoredEvent], rule: Reward, num_sharing: int = 1) -> list[float]:
    """What each event with a reward adds; an event of the whole decision is shared by `num_sharing` impressions."""
    return [
        rule.of_kind[event.kind] * event.value / (num_sharing if event.item_id is None else 1)
        for event in events
        if event.kind in rule.of_kind
    ]


def _aggregate(amounts: Sequence[float], rule: Reward) -> float:
    if not amounts:
        return rule.default
    match rule.aggregate:
        case "sum":
            return sum(amounts)
        case "max":
            return max(amounts)
        case "first":
            return amounts[0]
        case "last":
            return amounts[-1]
