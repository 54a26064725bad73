"""The learner's memory: what was rewarded, in order of decision time, and minibatches of it (DESIGN §7)."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policies.features import network_layouts
from schemas.kinds import AGENTS
from schemas.loop_file import Loop
from storage.reward_tail import RewardedDecision, Tail
from trainer.replay.batch import TransitionBatch
from trainer.replay.batches import reward_batch, transition_batch, with_candidates
from trainer.replay.buffer import Buffer, EncodedDecision
from trainer.replay.columns import RowShape
from trainer.replay.encoding import DecisionEncoder, UnusableDecisionError, is_terminated
from trainer.replay.item_table import PADDING
from trainer.replay.items import CatalogueItems, Items, ItemSource
from trainer.replay.sampler import Sampler
from trainer.replay.statistics import NumberStatistics, mean_and_std
from trainer.replay.waiting import Waiting

_READ_LIMIT = 2_000
_KEPT_WHILE_BEHIND = 10_000
"""Decisions that wait on while the tail is not read to its end: earlier ones may come in it."""
_CHUNK = 1_024
_ITEM_SLACK = 10_000
"""Rows of the item table that may lie unused before it is compacted."""
_STATISTICS_ROWS = 10_000


class TailSource(Protocol):
    """Where rewarded decisions come from; `storage.reward_tail.RewardTail` is one."""

    def read(self, revision: int, limit: int) -> Tail: ...

    def latest(self, num: int, up_to_revision: int) -> Iterable[RewardedDecision]: ...


@dataclass(frozen=True, slots=True)
class FirstTrained:
    """D decisions that the agent saw for the first time, in order of decision time."""

    decision_ids: list[str]
    final_at: NDArray[np.float64]  # [D] when their rewards became final, seconds since the epoch
    rows: NDArray[np.int64]  # [D] where they lie in the buffer: `Replay.batch_of(rows)`


@dataclass(frozen=True, slots=True)
class ProbeStates:
    """P recent states with their candidates, for golden outputs and the gate. For `weights` C = 0."""

    state_slots: NDArray[np.int64]  # [P, S]
    state_numbers: NDArray[np.float32]  # [P, G]
    item_slots: NDArray[np.int64]  # [P, C, Si]
    item_numbers: NDArray[np.float32]  # [P, C, Gi]
    mask: NDArray[np.bool_]  # [P, C], True where there is a candidate

    def states(self) -> tuple[Tensor, Tensor]:
        """Slots and numbers of the states, as networks take them."""
        return torch.from_numpy(self.state_slots), torch.from_numpy(self.state_numbers)

    def items(self) -> tuple[Tensor, Tensor]:
        """Slots and numbers of the candidates."""
        return torch.from_numpy(self.item_slots), torch.from_numpy(self.item_numbers)


class Replay:
    """Not safe for several threads: one learner owns it."""

    num_admitted: int
    """Decisions admitted since the start; those of `refill` are not counted."""
    num_skipped: int
    """Decisions left out since the start: they do not encode under this loop file, or have another kind of action."""

    def __init__(
        self, loop: Loop, source: TailSource, catalogue: ItemSource, capacity: int, rng: np.random.Generator
    ) -> None:
        """An empty buffer of at most `capacity` decisions."""
        state, item = network_layouts(loop)
        shape = RowShape.of(loop, state.num_slots, state.num_numbers)
        self.num_admitted = 0
        self.num_skipped = 0
        self._source = source
        self._rng = rng
        self._scaled = (state.scaled_by_data, item.scaled_by_data)
        self._items = Items(loop, catalogue, rng)
        self._encoder = DecisionEncoder(loop, self._items, shape)
        self._buffer = Buffer(shape, capacity, loop.session.timeout_seconds)
        self._sampler = Sampler(loop, shape, rng)
        self._needs_candidates = AGENTS[loop.learner.agent].needs_candidates
        self._waiting = Waiting()
        self._read_revision = 0
        self._num_items_kept = 0

    def __len__(self) -> int:
        """Decisions in the buffer."""
        return len(self._buffer)

    @property
    def revision(self) -> int:
        """What a checkpoint keeps and `refill` takes: all that came up to this revision of `rewards` was admitted."""
        first_waiting = self._waiting.first_revision()
        return self._read_revision if first_waiting is None else first_waiting - 1

    @property
    def num_waiting(self) -> int:
        """Decisions with final rewards that earlier ones, still open, hold up."""
        return len(self._waiting)

    @property
    def num_ready(self) -> int:
        """Impressions that the agent may learn from now."""
        return len(self._buffer.ready)

    @property
    def num_rewarded(self) -> int:
        """Impressions that the estimator may learn from now."""
        return len(self._buffer.rewarded)

    def refill(self, revision: int) -> None:
        """After a restart, into the empty buffer: the newest decisions of the store that were admitted before.

        Those that are ready count as trained on: `first_trained` does not name them. Raises `StoreUnavailableError`.
        """
        self._items.refresh()
        decisions = iter(self._source.latest(self._buffer.capacity, revision))
        while chunk := list(islice(decisions, _CHUNK)):
            self._buffer.append(self._encoded(chunk))
        self._buffer.mark_all_ready_sampled()
        if len(self._buffer) == self._buffer.capacity:
            self._buffer.evicted_up_to = float(self._buffer.columns.decided_at.min())
        self._read_revision = revision

    def advance(self) -> int:
        """Reads the tail, corrects rewards, and admits what lies before the horizon, in order of decision time.

        Returns how many were newly admitted. Raises `StoreUnavailableError`; asking again is harmless.
        """
        self._items.refresh()
        horizon, is_behind = self._read()
        due = self._waiting.take(horizon, keep=_KEPT_WHILE_BEHIND if is_behind else 0)
        num_before = self.num_admitted
        while chunk := list(islice(due, min(_CHUNK, self._buffer.capacity))):
            encoded = self._encoded(chunk)
            self._sampler.put(self._buffer.append(encoded))
            self.num_admitted += len(encoded)
        self._forget_items()
        return self.num_admitted - num_before

    def _read(self) -> tuple[float, bool]:
        """Returns the horizon, and whether there is more to read before all of it may be admitted."""
        while True:
            tail = self._source.read(self._read_revision, _READ_LIMIT)
            for decision in tail.decisions:
                self._receive(decision)
            self._read_revision = tail.revision
            if len(tail.decisions) < _READ_LIMIT:
                return tail.horizon, False
            if len(self._waiting) >= _KEPT_WHILE_BEHIND + _READ_LIMIT:
                return tail.horizon, True

    def _receive(self, decision: RewardedDecision) -> None:
        if decision.decision_id in self._buffer:
            rewards = self._encoder.rewards(decision.rewards)
            self._sampler.put(self._buffer.correct(decision.decision_id, rewards, is_terminated(decision)))
        elif decision.corrected_at is None or decision.decided_at > self._buffer.evicted_up_to:
            self._waiting.put(decision)

    def _encoded(self, decisions: Iterable[RewardedDecision]) -> list[EncodedDecision]:
        encoded = []
        for decision in decisions:
            try:
                encoded.append(self._encoder.encode(decision))
            except UnusableDecisionError:
                self.num_skipped += 1
        return encoded

    def _forget_items(self) -> None:
        table = self._items.table
        if len(table) > 2 * self._num_items_kept + _ITEM_SLACK:
            self._buffer.move_items(self._items.compact(self._buffer.items_in_use(len(table))))
            self._num_items_kept = len(table)

    def sample(self, batch_size: int) -> TransitionBatch | None:
        """The agent's minibatch: `batch_size` impressions with a propensity, and a next decision or terminated.

        Which ones, `Sampler` says. None while there are too few.
        """
        codes = self._sampler.draw(batch_size, self._buffer.ready, self._buffer.was_sampled)
        if codes is None:
            return None
        self._buffer.mark_sampled(codes)
        columns, items = self._buffer.columns, self._items.table
        batch = transition_batch(columns, items, *self._buffer.rows_and_positions(codes))
        return with_candidates(batch, columns, items) if self._needs_candidates else batch

    def sample_rewards(self, batch_size: int) -> TransitionBatch | None:
        """The estimator's minibatch: any impressions, uniform, with replacement; `next_*` zero, `terminated` True.

        None while fewer than `batch_size` are there.
        """
        rewarded = self._buffer.rewarded
        return self._reward_batch(rewarded.draw(batch_size, self._rng)) if len(rewarded) >= batch_size else None

    def first_trained(self) -> FirstTrained:
        """The decisions of which `sample` gave an impression for the first time since the last call."""
        rows = self._buffer.take_newly_trained()
        return FirstTrained(self._buffer.decision_ids(rows), self._buffer.columns.final_at[rows], rows)

    def batch_of(self, rows: NDArray[np.int64]) -> TransitionBatch:
        """All impressions of these decisions, by (rows as given, position), as `sample_rewards` gives them."""
        codes = self._buffer.codes(rows)
        return self._reward_batch(codes[self._buffer.rewarded.contains(codes)])

    def newest(self, num: int) -> TransitionBatch:
        """All impressions of the `num` decisions that were admitted last, as `sample_rewards` gives them."""
        return self.batch_of(self._buffer.newest(num))

    def _reward_batch(self, codes: NDArray[np.int64]) -> TransitionBatch:
        return reward_batch(self._buffer.columns, self._items.table, *self._buffer.rows_and_positions(codes))

    def probe(self, num: int) -> ProbeStates:
        """The newest `num` states, newest first; fewer if there are fewer."""
        columns, table = self._buffer.columns, self._items.table
        rows = self._buffer.newest(num)
        candidates = columns.candidates[rows]
        return ProbeStates(
            state_slots=columns.state_slots[rows].astype(np.int64),
            state_numbers=columns.state_numbers[rows],
            item_slots=table.slots[candidates].astype(np.int64),
            item_numbers=table.numbers[candidates],
            mask=candidates != PADDING,
        )

    def catalogue(self) -> CatalogueItems:
        """What can be recommended now, as it was at the last `advance`."""
        return self._items.catalogue()

    def number_statistics(self) -> NumberStatistics:
        """Over at most 10,000 decisions, evenly spaced in the buffer, and their candidates."""
        step = max(1, len(self) // _STATISTICS_ROWS)
        columns = self._buffer.columns
        candidates = columns.candidates[: len(self) : step]
        items = self._items.table.numbers[candidates[candidates != PADDING]]
        state_scaled, item_scaled = self._scaled
        return NumberStatistics(
            *mean_and_std(columns.state_numbers[: len(self) : step], state_scaled), *mean_and_std(items, item_scaled)
        )
