"""The ring of the newest decisions, each linked to the next of its session (DESIGN §7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from trainer.replay.columns import Columns, RowShape
from trainer.replay.decision_ids import DecisionIds
from trainer.replay.index_set import IndexSet
from trainer.replay.sessions import NO_ROW, Entry, Link, SessionIndex


@dataclass(frozen=True, slots=True)
class EncodedDecision:
    """One decision as the networks see it. Lists of positions are K long, `candidates` C, padded."""

    decision_id: str
    session: str | None
    decided_at: float
    final_at: float
    terminated: bool
    state_slots: list[int]  # [S]
    state_numbers: list[float]  # [G]
    slate: list[int]  # [K] rows of the item table
    rewards: list[float]  # [K] nan where there is no impression
    propensities: list[float]  # [K] nan where unknown
    candidates: list[int]  # [C] rows of the item table
    action: list[float]  # [A]
    log_density: float


class Buffer:
    """Rows [0, capacity). An impression is named by its code: row · K + position."""

    def __init__(self, shape: RowShape, capacity: int, session_timeout_seconds: float) -> None:
        self.num_positions = shape.num_positions
        self.capacity = capacity
        self.columns = Columns.empty(shape, capacity)
        self.rewarded = IndexSet(capacity * self.num_positions)
        """Codes of impressions: what an estimator learns from."""
        self.ready = IndexSet(capacity * self.num_positions)
        """Codes of those whose decision is terminated or has a next one: what an agent learns from."""
        self.evicted_up_to = -np.inf
        """`decided_at` of the latest decision that was overwritten."""
        self._sessions = SessionIndex(session_timeout_seconds, capacity, self._entry)
        self._ids = DecisionIds(capacity)
        self._num = 0
        self._cursor = 0

    def __len__(self) -> int:
        return self._num

    def __contains__(self, decision_id: str) -> bool:
        return self._ids.row(decision_id) is not None

    def decision_ids(self, rows: NDArray[np.int64]) -> list[str]:
        return [self._ids[row] for row in rows.tolist()]

    def newest(self, num: int) -> NDArray[np.int64]:
        """The rows appended last, newest first; fewer if there are fewer."""
        return (self._cursor - 1 - np.arange(min(num, len(self)))) % max(len(self), 1)

    def append(self, decisions: Sequence[EncodedDecision]) -> NDArray[np.int64]:
        """Takes in at most `capacity` new decisions, over the oldest ones. Returns the codes that became ready."""
        if not decisions:
            return np.zeros(0, np.int64)
        rows = [(self._cursor + i) % self.capacity for i in range(len(decisions))]
        links = dict(chain.from_iterable(self._evict(row) for row in rows if row < len(self)))
        self._write(np.array(rows), decisions)
        for row, decision in zip(rows, decisions, strict=True):
            links.update(self._enter(row, decision))
        changed = np.fromiter(links.keys(), np.int64, len(links))
        self.columns.next_row[changed] = np.fromiter(links.values(), np.int64, len(links))
        return self._refresh(changed)

    def correct(self, decision_id: str, rewards: Sequence[float], terminated: bool) -> NDArray[np.int64]:
        """New rewards [K] of a decision that is here. Returns the codes that became ready."""
        row = self._ids.row(decision_id)
        assert row is not None, "it is here"
        self.columns.rewards[row] = rewards
        self.columns.terminated[row] = terminated
        return self._refresh(np.array([row]))

    def codes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """[R · K] of all positions of these rows, whether they are impressions or not."""
        return (rows[:, None] * self.num_positions + np.arange(self.num_positions)).ravel()

    def rows_and_positions(self, codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return np.divmod(codes, self.num_positions)

    def was_sampled(self, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
        return self.columns.was_sampled[self.rows_and_positions(codes)]

    def mark_sampled(self, codes: NDArray[np.int64]) -> None:
        rows, positions = self.rows_and_positions(codes)
        distinct = np.unique(rows)
        is_first = ~self.columns.was_sampled[distinct].any(axis=1)
        self.columns.is_newly_trained[distinct[is_first]] = True
        self.columns.was_sampled[rows, positions] = True

    def mark_all_ready_sampled(self) -> None:
        """Without naming them as newly trained: after a restart."""
        codes = self.codes(np.arange(len(self)))
        self.columns.was_sampled[self.rows_and_positions(codes)] = self.ready.contains(codes)

    def take_newly_trained(self) -> NDArray[np.int64]:
        """The rows sampled for the first time since the last call, by decision time."""
        rows = np.flatnonzero(self.columns.is_newly_trained[: len(self)])
        self.columns.is_newly_trained[rows] = False
        return rows[np.argsort(self.columns.decided_at[rows], kind="stable")]

    def items_in_use(self, num_items: int) -> NDArray[np.bool_]:
        """[num_items] whether a slate or a candidate is this row of the item table."""
        used = np.zeros(num_items, np.bool_)
        used[self.columns.slate[: len(self)]] = True
        used[self.columns.candidates[: len(self)]] = True
        return used

    def move_items(self, moved: NDArray[np.int32]) -> None:
        """The item table was compacted: old row → new row."""
        for rows in (self.columns.slate[: len(self)], self.columns.candidates[: len(self)]):
            np.take(moved, rows, out=rows, mode="clip")  # this mode takes no copy

    def _entry(self, row: int) -> Entry:
        return Entry(float(self.columns.decided_at[row]), self._ids[row], row)

    def _evict(self, row: int) -> list[Link]:
        self.evicted_up_to = max(self.evicted_up_to, float(self.columns.decided_at[row]))
        self._ids.remove(row)
        return self._sessions.remove(row)

    def _enter(self, row: int, decision: EncodedDecision) -> list[Link]:
        self._ids.put(row, decision.decision_id)
        self._num = max(self._num, row + 1)
        self._cursor = (row + 1) % self.capacity
        return self._sessions.insert(decision.session, Entry(decision.decided_at, decision.decision_id, row))

    def _write(self, rows: NDArray[np.int64], decisions: Sequence[EncodedDecision]) -> None:
        columns = self.columns
        columns.decided_at[rows] = [d.decided_at for d in decisions]
        columns.final_at[rows] = [d.final_at for d in decisions]
        columns.state_slots[rows] = [d.state_slots for d in decisions]
        columns.state_numbers[rows] = [d.state_numbers for d in decisions]
        columns.slate[rows] = [d.slate for d in decisions]
        columns.rewards[rows] = [d.rewards for d in decisions]
        columns.propensities[rows] = [d.propensities for d in decisions]
        columns.candidates[rows] = [d.candidates for d in decisions]
        columns.action[rows] = [d.action for d in decisions]
        columns.log_density[rows] = [d.log_density for d in decisions]
        columns.terminated[rows] = [d.terminated for d in decisions]
        columns.was_sampled[rows] = False
        columns.is_newly_trained[rows] = False

    def _refresh(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Brings both sets up to date for these rows (none twice). Returns the codes that became ready."""
        columns = self.columns
        has_propensity = columns.propensities[rows] > 0  # nan is not
        is_rewarded = has_propensity & ~np.isnan(columns.rewards[rows])  # [R, K]
        has_end = columns.terminated[rows] | (columns.next_row[rows] != NO_ROW)  # [R]
        codes = self.codes(rows)
        self.rewarded.set_members(codes, is_rewarded.ravel())
        return self.ready.set_members(codes, (is_rewarded & has_end[:, None]).ravel())
