"""Decisions with all their events, as the reward rule wants them."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, select

from schemas.tables import decisions, feedback, rewards
from storage.bulk import is_one_of
from storage.decision_row import REWARDS, item_ids

MAX_EARLY_SECONDS = 86_400.0
"""How long before its decision an event may be received: of older days' partitions nobody needs to look."""


class StoredEvent(NamedTuple):
    """One feedback event with its defaults filled in: a row of `feedback`. Times in seconds since the epoch."""

    event_id: str
    decision_id: str
    item_id: str | None
    kind: str
    value: float
    occurred_at: float
    received_at: float


@dataclass(frozen=True, slots=True)
class OpenDecision:
    """A decision with all its stored events, as the reward rule wants it. It may be final already: see `final_at`."""

    decision_id: str
    decided_at: float
    mode: str
    item_ids: tuple[str, ...]
    """[K] by position; empty for `weights`, whose unit is the decision."""
    is_weights: bool
    events: tuple[StoredEvent, ...]
    """By (occurred_at, event_id)."""
    rewards: tuple[float | None, ...] | None
    terminated: bool
    final_at: float | None


def has_due(connection: Connection, decided_before: float) -> bool:
    """Whether there is a decision without a final reward that was decided before this time."""
    statement = select(func.min(rewards.c.decided_at)).where(rewards.c.final_at.is_(None))
    earliest = connection.execute(statement).scalar()
    return earliest is not None and earliest < decided_before


def due(connection: Connection, decided_before: float, limit: int) -> list[OpenDecision]:
    """The earliest `limit` of the decisions without a final reward that were decided before this time.

    Not at it: a record of the very time that a log has been read up to may still be unread.
    """
    statement = _SELECT.where(rewards.c.final_at.is_(None), rewards.c.decided_at < decided_before)
    return _open_decisions(connection, statement.order_by(rewards.c.decided_at).limit(limit))


def known(connection: Connection, decision_ids: Collection[str]) -> list[OpenDecision]:
    """Those of these decisions that the store knows, final or not."""
    return _open_decisions(connection, _SELECT.where(is_one_of(connection, rewards.c.decision_id, decision_ids)))


def final_among(connection: Connection, decision_ids: Collection[str]) -> set[str]:
    """Those of these decisions whose reward is final."""
    statement = select(rewards.c.decision_id).where(rewards.c.final_at.is_not(None))
    return {*connection.execute(statement.where(is_one_of(connection, rewards.c.decision_id, decision_ids))).scalars()}


def with_events(
    connection: Connection, decision_ids: Collection[str], kinds: Collection[str], earliest: float
) -> set[str]:
    """Those of these decisions, the first of the time `earliest`, of which there is an event of one of these kinds."""
    statement = select(feedback.c.decision_id).where(_is_joined_from(earliest), feedback.c.kind.in_(kinds)).distinct()
    return {*connection.execute(statement.where(is_one_of(connection, feedback.c.decision_id, decision_ids))).scalars()}


def events_of(connection: Connection, times: Mapping[str, float]) -> dict[str, list[StoredEvent]]:
    """By decision, in order of (occurred_at, event_id); `times` has the earlier of each decision's two times."""
    events: defaultdict[str, list[StoredEvent]] = defaultdict(list)
    statement = select(feedback).where(_is_joined_from(min(times.values(), default=0.0)))
    for row in connection.execute(statement.where(is_one_of(connection, feedback.c.decision_id, times.keys()))):
        event = StoredEvent._make(row)
        if event.received_at >= times[event.decision_id] - MAX_EARLY_SECONDS:  # whatever else was asked for with it
            events[event.decision_id].append(event)
    for of_one in events.values():
        of_one.sort(key=_PLACE)
    return events


def stored_rewards(rewards_json: str | None) -> tuple[float | None, ...] | None:
    return None if rewards_json is None else REWARDS.decode(rewards_json)


# By both columns, since PostgreSQL finds a decision's day by `received_at`.
JOINED = and_(decisions.c.decision_id == rewards.c.decision_id, decisions.c.received_at == rewards.c.received_at)

_SELECT = select(
    rewards,
    decisions.c.mode,
    decisions.c.items_json,
    decisions.c.action_json.is_not(None).label("is_weights"),
).join(decisions, JOINED)


_PLACE = attrgetter("occurred_at", "event_id")


def _is_joined_from(earliest: float) -> ColumnElement[bool]:
    return feedback.c.received_at >= earliest - MAX_EARLY_SECONDS


def _open_decisions(connection: Connection, statement: Select[Any]) -> list[OpenDecision]:
    rows = connection.execute(statement).all()
    events = events_of(connection, {row.decision_id: min(row.decided_at, row.received_at) for row in rows})
    return [_open_decision(row, tuple(events.get(row.decision_id, ()))) for row in rows]


def _open_decision(row: Row[Any], events: tuple[StoredEvent, ...]) -> OpenDecision:
    return OpenDecision(
        decision_id=row.decision_id,
        decided_at=row.decided_at,
        mode=row.mode,
        item_ids=() if row.is_weights else item_ids(row.items_json),
        is_weights=row.is_weights,
        events=events,
        rewards=stored_rewards(row.rewards_json),
        terminated=bool(row.terminated),
        final_at=row.final_at,
    )
