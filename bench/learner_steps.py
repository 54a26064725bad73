"""What `bench.learner` times of ours: a replay buffer filled with decisions made at random, and an update from it."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch

from policies.features import network_layouts
from schemas.loop_file import Loop
from storage.catalogue import StoredItem
from storage.reward_tail import RewardedDecision, Tail
from trainer.replay.buffer import EncodedDecision
from trainer.replay.columns import RowShape
from trainer.replay.replay import Replay
from trainer.rewards.stabilizers import stabilized_agent

DECISIONS_A_SESSION = 10
_CHUNK = 1_024
_NUM_ITEMS = 500


class FilledReplay:
    """A real buffer, written below its encoder: encoding 5 million decisions would take most of the benchmark."""

    def __init__(self, loop: Loop, capacity: int, seed: int = 0) -> None:
        self._loop = loop
        self.replay = Replay(loop, _NoTail(), _ShopItems(), capacity, np.random.default_rng(seed))
        self.replay.advance()  # reads the items
        self._buffer = self.replay._buffer  # noqa: SLF001  what is written is made already
        self._layout = network_layouts(loop)[0]
        self._shape = RowShape.of(loop, self._layout.num_slots, self._layout.num_numbers)
        self._rng = np.random.default_rng([seed, 1])
        self._decisions = self._endless()

    def fill(self, num: int) -> None:
        """Until there are `num` decisions."""
        while len(self.replay) < num:
            self._buffer.append(list(islice(self._decisions, min(_CHUNK, num - len(self.replay)))))

    def _endless(self) -> Iterator[EncodedDecision]:
        """Ids as the ranker makes them, and sessions of 10 decisions, 100 of them at a time."""
        shape, padding = self._shape, [0] * (self._shape.num_candidates - min(self._shape.num_candidates, 10))
        at = 0
        while True:
            slots, numbers, actions, rewards = self._drawn()
            items = self._rng.integers(1, _NUM_ITEMS, (_CHUNK, 10)).tolist()
            for i in range(_CHUNK):
                session, place = at // (100 * DECISIONS_A_SESSION) * 100 + at % 100, at // 100 % DECISIONS_A_SESSION
                yield EncodedDecision(
                    decision_id=f"00112233445566778899aabb-{at:08x}",
                    session=f"session {session:012x}",
                    decided_at=at * 0.1,
                    final_at=at * 0.1 + 2.0,
                    terminated=place == DECISIONS_A_SESSION - 1,
                    state_slots=slots[i],
                    state_numbers=numbers[i],
                    slate=items[i][: shape.num_positions] if shape.num_candidates else [0],
                    rewards=rewards[i],
                    propensities=[0.5] * shape.num_positions,
                    candidates=items[i] + padding if shape.num_candidates else [],
                    action=actions[i],
                    log_density=-1.0,
                )
                at += 1

    def _drawn(self) -> tuple[list[list[int]], list[list[float]], list[list[float]], list[list[float]]]:
        """State slots, state numbers, actions and rewards of one chunk; one number in eight is not 0 or 1."""
        sizes = [table.cardinality for table in self._layout.tables for _ in range(table.slots.start, table.slots.stop)]
        numbers = self._rng.integers(0, 2, (_CHUNK, self._shape.num_state_numbers)).astype(np.float64)
        numbers[:, ::8] = self._rng.random(numbers[:, ::8].shape)
        return (
            self._rng.integers(0, sizes, (_CHUNK, len(sizes))).tolist(),
            numbers.tolist(),
            self._rng.uniform(-1, 1, (_CHUNK, self._shape.action_dim)).tolist(),
            self._rng.integers(0, 11, (_CHUNK, self._shape.num_positions)).astype(np.float64).tolist(),
        )


class _NoTail:
    """In which nothing ever comes."""

    def read(self, revision: int, limit: int) -> Tail:  # noqa: ARG002
        return Tail([], revision, math.inf)

    def latest(self, num: int, up_to_revision: int) -> Sequence[RewardedDecision]:  # noqa: ARG002
        return []


class _ShopItems:
    """500 items as the world `shop` has them; for `weights` nobody asks."""

    def changed_since(self, revision: int) -> tuple[Sequence[StoredItem], int]:
        return [
            StoredItem(f"i{k}", {"category": k % 20}, 0.0, deleted=False) for k in range(revision, _NUM_ITEMS)
        ], _NUM_ITEMS


class OurStep:
    """One update as the learner's loop makes it: a minibatch, the estimator's step, the agent's step."""

    def __init__(self, loop: Loop, replay: Replay) -> None:
        torch.manual_seed(0)
        self._learner = stabilized_agent(loop)
        self._learner.rescale(replay.number_statistics())
        self._replay = replay
        self._batch_size = loop.learner.batch_size

    def __call__(self) -> None:
        batch = self._replay.sample(self._batch_size)
        assert batch is not None, "the buffer is filled"
        self._learner.update(batch, self._replay.num_rewarded)
