"""What ingest writes: decisions, feedback, rewards and offsets, in one transaction a batch."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, Table, bindparam, case, func, select, update

from schemas.messages import Decision
from schemas.tables import dead_letters, decisions, feedback, log_offsets, rewards
from storage.database import insert, next_revision, reading, writing
from storage.decision_row import REWARDS, decision_row, item_ids, json_text
from storage.event_log import Partition, Topic
from storage.reward_totals import RewardChange, add_changes

_MAX_IDS = 1_000  # in one IN list: SQLite takes 32,766 parameters, PostgreSQL 65,535


class StaleOffsetsError(Exception):
    """Another consumer has moved the stored offsets: this one has lost its partitions and must seek anew."""


class UnknownDecisionError(Exception):
    """A reward was written for a decision that the store does not have."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One feedback event with its defaults filled in; times in seconds since the epoch."""

    event_id: str
    decision_id: str
    item_id: str | None
    kind: str
    value: float
    occurred_at: float
    received_at: float


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be read of one record; `value` is the record's, or of an array's element its JSON."""

    partition: Partition
    offset: int
    index: int
    reason: str
    detail: str
    value: bytes
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


@dataclass(frozen=True, slots=True)
class RewardRow:
    """A reward that is final. `rewards` [K] by position, null where there was no impression; `weights`: [1]."""

    decision_id: str
    rewards: tuple[float | None, ...]
    terminated: bool
    final_at: float
    """Counts the first time only: a correction does not move it."""
    corrected_at: float | None
    """Set when this replaces rewards that are final already."""


class ReplayStore:
    """Ingest's side of the store. Safe for several threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def next_offsets(self) -> dict[Partition, int]:
        """Where to go on; partitions that were never read are not in it.

        Raises:
            StoreUnavailableError: the database is locked or away.
        """
        statement = select(log_offsets.c.topic, log_offsets.c.partition, log_offsets.c.next_offset)
        with reading(self._engine) as connection:
            return {Partition(topic, number): offset for topic, number, offset in connection.execute(statement)}

    @contextmanager
    def transaction(self) -> Iterator["IngestTransaction"]:
        """All or nothing.

        Raises:
            StoreUnavailableError: the database is locked or away; nothing was written.
        """
        with writing(self._engine) as connection:
            yield IngestTransaction(connection)


class IngestTransaction:
    """What ingest does inside one transaction. Every method is harmless to repeat with the same rows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add_decisions(self, messages: Sequence[tuple[Decision, float]]) -> None:
        """Each with its `received_at`; the first with a `decision_id` wins. Also opens its row of `rewards`."""
        rows = [decision_row(decision, received_at) for decision, received_at in messages]
        self._add(decisions, rows)
        self._add(rewards, [{"decision_id": row["decision_id"], "decided_at": row["decided_at"]} for row in rows])

    def add_feedback(self, events: Sequence[StoredEvent]) -> None:
        """The first with an `event_id` wins."""
        self._add(feedback, [{name: getattr(event, name) for name in feedback.c.keys()} for event in events])  # noqa: SIM118

    def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """The first of a (partition, offset, index) wins."""
        self._add(dead_letters, [_letter_row(letter) for letter in letters])

    def advance(
        self,
        expected: Mapping[Partition, int],
        next_offsets: Mapping[Partition, int],
        read_up_to: Mapping[Partition, float],
    ) -> None:
        """Move the offsets on from `expected` (absent: 0) by compare-and-set, and the watermarks forward.

        A partition that `next_offsets` does not name stays where `expected` has it. Watermarks never go back.

        Raises:
            StaleOffsetsError: another consumer moved them; leave the transaction, so that nothing is written.
        """
        for partition in {*expected, *next_offsets, *read_up_to}:
            before = expected.get(partition, 0)
            after = next_offsets.get(partition, before)
            self._advance_one(partition, before, after, read_up_to.get(partition, -math.inf))

    def watermark(self, topic: Topic = "feedback") -> float:
        """The time before which every partition of `topic` has been read; -inf if none ever was."""
        statement = select(func.min(log_offsets.c.read_up_to)).where(log_offsets.c.topic == topic)
        watermark: float | None = self._connection.execute(statement).scalar()
        return -math.inf if watermark is None else watermark

    def due(self, decided_before: float, limit: int) -> list[OpenDecision]:
        """The earliest `limit` of the decisions without a final reward that were decided at or before this time."""
        statement = _SELECT_OPEN.where(rewards.c.final_at.is_(None), rewards.c.decided_at <= decided_before)
        return self._open_decisions(statement.order_by(rewards.c.decided_at).limit(limit))

    def touched(self, decision_ids: Collection[str]) -> list[OpenDecision]:
        """Those of these decisions that the store knows, final or not, with all their events."""
        return [
            decision
            for ids in _chunks(decision_ids)
            for decision in self._open_decisions(_SELECT_OPEN.where(rewards.c.decision_id.in_(ids)))
        ]

    def write_rewards(self, rows: Sequence[RewardRow]) -> None:
        """Make rewards final, or correct final ones, under one new revision. Rows that change nothing are left alone.

        Raises:
            UnknownDecisionError: a decision is not in the store.
            ValueError: a final reward would change and `corrected_at` is null.
        """
        if not rows:
            return
        revision = next_revision(self._connection, "rewards")  # first: its lock keeps the rows from changing meanwhile
        stored = self._stored_rewards([row.decision_id for row in rows])
        changes = [(row, stored[row.decision_id]) for row in {row.decision_id: row for row in rows}.values()]
        changes = [(row, before) for row, before in changes if _is_change(row, before)]
        if changes:
            self._connection.execute(_UPDATE_REWARD, [_reward_row(*change, revision) for change in changes])
        add_changes(
            self._connection, [RewardChange(b.decided_at, b.mode, b.rewards, row.rewards) for row, b in changes]
        )

    def _stored_rewards(self, decision_ids: Sequence[str]) -> dict[str, "_StoredReward"]:
        stored = {
            row.decision_id: _StoredReward(
                row.decided_at, row.mode, _rewards(row.rewards_json), row.terminated, row.final_at
            )
            for ids in _chunks(decision_ids)
            for row in self._connection.execute(_SELECT_REWARD.where(rewards.c.decision_id.in_(ids)))
        }
        if unknown := sorted({*decision_ids} - {*stored}):
            raise UnknownDecisionError(
                f"{len(unknown)} rewards are of decisions that are not stored, as {unknown[0]!r}"
            )
        return stored

    def _open_decisions(self, statement: Select[Any]) -> list[OpenDecision]:
        rows = self._connection.execute(statement).all()
        events = self._events([row.decision_id for row in rows])
        return [_open_decision(row, tuple(events[row.decision_id])) for row in rows]

    def _events(self, decision_ids: Sequence[str]) -> defaultdict[str, list[StoredEvent]]:
        """By decision, in order of (occurred_at, event_id)."""
        events: defaultdict[str, list[StoredEvent]] = defaultdict(list)
        statement = select(feedback).order_by(feedback.c.occurred_at, feedback.c.event_id)
        for ids in _chunks(decision_ids):
            for row in self._connection.execute(statement.where(feedback.c.decision_id.in_(ids))).all():
                events[row.decision_id].append(StoredEvent(*row))
        return events

    def _advance_one(self, partition: Partition, before: int, after: int, read_up_to: float) -> None:
        key = {"topic": partition.topic, "partition": partition.number}
        if before == 0:
            self._add(log_offsets, [{**key, "next_offset": 0, "read_up_to": -math.inf}])
        columns = log_offsets.c
        statement = update(log_offsets).where(
            columns.topic == partition.topic, columns.partition == partition.number, columns.next_offset == before
        )
        furthest = case((columns.read_up_to > read_up_to, columns.read_up_to), else_=read_up_to)
        if self._connection.execute(statement.values(next_offset=after, read_up_to=furthest)).rowcount != 1:
            raise StaleOffsetsError(f"{partition.topic}/{partition.number} is no longer at offset {before}")

    def _add(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert the rows whose keys are new."""
        if rows:
            self._connection.execute(insert(self._connection, table).on_conflict_do_nothing(), rows)


@dataclass(frozen=True, slots=True)
class _StoredReward:
    decided_at: float
    mode: str
    rewards: tuple[float | None, ...] | None
    terminated: bool | None
    final_at: float | None


_SELECT_REWARD = select(
    rewards.c.decision_id,
    rewards.c.decided_at,
    decisions.c.mode,
    rewards.c.rewards_json,
    rewards.c.terminated,
    rewards.c.final_at,
).join(decisions, decisions.c.decision_id == rewards.c.decision_id)

_SELECT_OPEN = _SELECT_REWARD.add_columns(
    decisions.c.items_json, decisions.c.action_json.is_not(None).label("is_weights")
)

_UPDATE_REWARD = update(rewards).where(rewards.c.decision_id == bindparam("of"))


def _is_change(row: RewardRow, stored: _StoredReward) -> bool:
    if stored.final_at is None:
        return True
    if (row.rewards, row.terminated) == (stored.rewards, stored.terminated):
        return False
    if row.corrected_at is None:
        raise ValueError(f"the reward of {row.decision_id!r} is final and would change: that needs a corrected_at")
    return True


def _reward_row(row: RewardRow, stored: _StoredReward, revision: int) -> dict[str, Any]:
    return {
        "of": row.decision_id,
        "rewards_json": json_text(row.rewards),
        "terminated": row.terminated,
        "final_at": row.final_at if stored.final_at is None else stored.final_at,
        "corrected_at": row.corrected_at,
        "revision": revision,
    }


def _open_decision(row: Row[Any], events: tuple[StoredEvent, ...]) -> OpenDecision:
    return OpenDecision(
        decision_id=row.decision_id,
        decided_at=row.decided_at,
        mode=row.mode,
        item_ids=() if row.is_weights else item_ids(row.items_json),
        is_weights=row.is_weights,
        events=events,
        rewards=_rewards(row.rewards_json),
        terminated=bool(row.terminated),
        final_at=row.final_at,
    )


def _rewards(rewards_json: str | None) -> tuple[float | None, ...] | None:
    return None if rewards_json is None else REWARDS.decode(rewards_json)


def _letter_row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "topic": letter.partition.topic,
        "partition": letter.partition.number,
        "offset": letter.offset,
        "index": letter.index,
        "reason": letter.reason,
        "detail": letter.detail,
        "value": letter.value,
        "received_at": letter.received_at,
    }


def _chunks(decision_ids: Collection[str]) -> Iterator[list[str]]:
    ids = list(decision_ids)
    return (ids[start : start + _MAX_IDS] for start in range(0, len(ids), _MAX_IDS))
