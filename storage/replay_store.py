"""What ingest writes: decisions, feedback, rewards and offsets, in one transaction a batch."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, exists, select, update

from schemas.messages import Decision
from schemas.tables import dead_letters, decisions, feedback, feedback_ids, ingest_pauses, rewards
from storage import day_partitions, offsets, open_decisions
from storage.bulk import insert_guarded, insert_new, is_one_of, update_rows
from storage.database import insert, next_revision, reading, writing
from storage.day_partitions import DayPartition
from storage.decision_row import decision_row, json_text
from storage.event_log import DeadLetter, Partition, Topic
from storage.open_decisions import JOINED, OpenDecision, StoredEvent, stored_rewards
from storage.reward_totals import RewardChange, add_changes


class UnknownDecisionError(Exception):
    """A reward was written for a decision that the store does not have."""


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
    """Ingest's side of the store, for one event log ("sql", "kafka"). Safe for several threads."""

    def __init__(self, engine: Engine, log: str = "sql") -> None:
        self._engine = engine
        self._log = log
        self._days: frozenset[DayPartition] = frozenset()  # those that are known to be there

    def next_offsets(self) -> dict[Partition, int]:
        """Where to go on; partitions that were never seen are not in it.

        Raises:
            StoreUnavailableError: the database is locked or away.
        """
        with reading(self._engine) as connection:
            return offsets.stored_offsets(connection, self._log)

    def is_paused(self) -> bool:
        """Whether ingest is to read no more, until someone resumes it.

        Raises:
            StoreUnavailableError: the database is locked or away.
        """
        with reading(self._engine) as connection:
            return connection.execute(select(exists().where(ingest_pauses.c.resumed_at.is_(None)))).scalar_one()

    def resume(self, now: float) -> int:
        """Let ingest go on; returns how many pauses ended.

        Raises:
            StoreUnavailableError: the database is locked or away.
        """
        with writing(self._engine) as connection:
            is_on = ingest_pauses.c.resumed_at.is_(None)
            return connection.execute(update(ingest_pauses).where(is_on).values(resumed_at=now)).rowcount

    @contextmanager
    def transaction(self) -> Iterator["IngestTransaction"]:
        """All or nothing.

        Raises:
            StoreUnavailableError: the database is locked or away; nothing was written.
        """
        try:
            with writing(self._engine) as connection:
                transaction = IngestTransaction(connection, self._log, self._days)
                yield transaction
        except BaseException:
            self._days = frozenset()  # one of them may have been pruned: look again
            raise
        self._days = transaction.days


class IngestTransaction:
    """What ingest does inside one transaction. Every method is harmless to repeat with the same rows."""

    def __init__(self, connection: Connection, log: str, days: frozenset[DayPartition]) -> None:
        self._connection = connection
        self._log = log
        self._is_partitioned = connection.dialect.name == "postgresql"
        self._revision: int | None = None
        self.days = days
        """PostgreSQL: the day partitions that are there."""

    def add_decisions(self, messages: Sequence[tuple[Decision, float]]) -> None:
        """Each with its `received_at`; the first with a `decision_id` wins. Also opens its row of `rewards`."""
        rows = [decision_row(decision, received_at) for decision, received_at in messages]
        if self._is_partitioned:
            self._make_days("decisions", {received_at for _, received_at in messages})
            keys = ("decision_id", "decided_at", "received_at")
            insert_guarded(self._connection, decisions, rewards, keys, rows)
        else:
            insert_new(self._connection, decisions, rows)
            insert_new(self._connection, rewards, [(*row[:3], *_OPEN) for row in rows])

    def add_feedback(self, events: Sequence[StoredEvent]) -> None:
        """The first with an `event_id` wins."""
        if self._is_partitioned:
            self._make_days("feedback", {event.received_at for event in events})
            insert_guarded(self._connection, feedback, feedback_ids, ("event_id", "received_at"), events)
        else:
            insert_new(self._connection, feedback, events)

    def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """The first of a (partition, offset, index) wins."""
        if letters:
            statement = insert(self._connection, dead_letters).on_conflict_do_nothing()
            self._connection.execute(statement, [_letter_row(letter) for letter in letters])

    def pause(self, now: float, reason: str) -> None:
        """Every consumer is to read no more, until someone resumes ingest."""
        self._connection.execute(insert(self._connection, ingest_pauses).values(paused_at=now, reason=reason))

    def make_known(self, partitions: Collection[Partition]) -> None:
        """Of partitions that nobody has read yet: the watermark waits for them."""
        offsets.make_known(self._connection, self._log, partitions)

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
        offsets.advance(self._connection, self._log, expected, next_offsets, read_up_to)

    def watermark(self, topic: Topic = "feedback") -> float:
        """The time before which every partition of `topic` has been read; -inf if one never was."""
        return offsets.watermark(self._connection, self._log, topic)

    def lock_rewards(self) -> None:
        """Until the transaction ends no other one reads what is due or makes it final. Of two that meet here the later
        one sees what the earlier one wrote; without that an event could miss the reward that is made final beside it.
        """
        if self._revision is None:
            self._revision = next_revision(self._connection, "rewards")

    def has_due(self, decided_before: float) -> bool:
        """Whether `due` would find any."""
        return open_decisions.has_due(self._connection, decided_before)

    def due(self, decided_before: float, limit: int) -> list[OpenDecision]:
        """The earliest `limit` of the decisions without a final reward that were decided before this time."""
        return open_decisions.due(self._connection, decided_before, limit)

    def touched(self, decision_ids: Collection[str]) -> list[OpenDecision]:
        """Those of these decisions that the store knows, final or not, with all their events."""
        return open_decisions.known(self._connection, decision_ids)

    def final_among(self, decision_ids: Collection[str]) -> set[str]:
        """Those of these decisions whose reward is final."""
        return open_decisions.final_among(self._connection, decision_ids)

    def with_events(self, decision_ids: Collection[str], kinds: Collection[str], earliest: float) -> set[str]:
        """Those of these decisions, the first of this time, of which there is an event of one of these kinds."""
        return open_decisions.with_events(self._connection, decision_ids, kinds, earliest)

    def write_rewards(self, rows: Sequence[RewardRow]) -> None:
        """Make rewards final, or correct final ones, under one new revision. Rows that change nothing are left alone.

        Raises:
            UnknownDecisionError: a decision is not in the store.
            ValueError: a final reward would change and `corrected_at` is null.
        """
        if not rows:
            return
        self.lock_rewards()
        stored = self._stored_rewards([row.decision_id for row in rows])
        changes = [(row, stored[row.decision_id]) for row in {row.decision_id: row for row in rows}.values()]
        changes = [(row, before) for row, before in changes if _is_change(row, before)]
        values = [_reward_values(*change, self._revision) for change in changes]
        update_rows(self._connection, rewards, "decision_id", _REWARD_VALUES, values)
        add_changes(
            self._connection, [RewardChange(b.decided_at, b.mode, b.rewards, row.rewards) for row, b in changes]
        )

    def _stored_rewards(self, decision_ids: Sequence[str]) -> dict[str, "_StoredReward"]:
        which = is_one_of(self._connection, rewards.c.decision_id, decision_ids)
        stored = {
            row.decision_id: _StoredReward(
                row.decided_at, row.mode, stored_rewards(row.rewards_json), row.terminated, row.final_at
            )
            for row in self._connection.execute(_SELECT_REWARD.where(which))
        }
        if unknown := sorted({*decision_ids} - {*stored}):
            raise UnknownDecisionError(
                f"{len(unknown)} rewards are of decisions that are not stored, as {unknown[0]!r}"
            )
        return stored

    def _make_days(self, table: str, received: Collection[float]) -> None:
        missing = day_partitions.needed(table, received) - self.days
        day_partitions.make(self._connection, missing)
        self.days |= missing


@dataclass(frozen=True, slots=True)
class _StoredReward:
    decided_at: float
    mode: str
    rewards: tuple[float | None, ...] | None
    terminated: bool | None
    final_at: float | None


_SELECT_REWARD = select(rewards, decisions.c.mode).join(decisions, JOINED)
_REWARD_VALUES = ("rewards_json", "terminated", "final_at", "corrected_at", "revision")
_OPEN = (None,) * len(_REWARD_VALUES)


def _is_change(row: RewardRow, stored: _StoredReward) -> bool:
    if stored.final_at is None:
        return True
    if (row.rewards, row.terminated) == (stored.rewards, stored.terminated):
        return False
    if row.corrected_at is None:
        raise ValueError(f"the reward of {row.decision_id!r} is final and would change: that needs a corrected_at")
    return True


def _reward_values(row: RewardRow, stored: _StoredReward, revision: int | None) -> tuple[object, ...]:
    """`_REWARD_VALUES`, then the key."""
    final_at = row.final_at if stored.final_at is None else stored.final_at
    return json_text(row.rewards), row.terminated, final_at, row.corrected_at, revision, row.decision_id


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
