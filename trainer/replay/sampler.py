"""Which impressions make the agent's next minibatch. Codes of impressions: row · K + position."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from schemas.kinds import AGENTS
from schemas.loop_file import Loop
from trainer.replay.columns import RowShape
from trainer.replay.fresh import FreshQueue
from trainer.replay.index_set import IndexSet


class Sampler:
    """Off-policy: at most half are the newest that were never sampled; the others are uniform, with replacement.
    On-policy: the newest that were never sampled, and what was not taken then is too old to be taken later.
    """

    def __init__(self, loop: Loop, shape: RowShape, rng: np.random.Generator) -> None:
        self._rng = rng
        self._on_policy = AGENTS[loop.learner.agent].on_policy
        self._fresh = FreshQueue(shape.num_positions, rng)

    def put(self, codes: NDArray[np.int64]) -> None:
        """Takes in impressions that became ready."""
        self._fresh.put(codes)

    def draw(
        self, size: int, ready: IndexSet, was_sampled: Callable[[NDArray[np.int64]], NDArray[np.bool_]]
    ) -> NDArray[np.int64] | None:
        """The codes of a minibatch, or None while there are too few."""
        if len(self._fresh if self._on_policy else ready) < size:
            return None
        fresh = self._fresh.take(size if self._on_policy else size // 2)
        fresh = fresh[ready.contains(fresh) & ~was_sampled(fresh)]
        if not self._on_policy:
            return np.concatenate([fresh, ready.draw(size - len(fresh), self._rng)])
        self._fresh.clear()
        return fresh if len(fresh) else None
