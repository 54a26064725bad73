"""Several estimators in one: their mean is steadier than each, and their spread says where they know little."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.networks import Embeddings
from trainer.replay.batch import TransitionBatch
from trainer.replay.statistics import NumberStatistics
from trainer.rewards.estimator import RewardEstimator
from trainer.state import Kept, OfParts

_POISSON_TAILS = np.cumsum([1 / np.e, 1 / np.e, 1 / (2 * np.e), 1 / (6 * np.e), 1 / (24 * np.e)])
"""P(Poisson(1) ≤ k) for k = 0 … 4; what is left is 5."""


class Ensemble(OfParts):
    """Members of one kind that differ by how they start, and by which impressions they see how often.

    That is the online bootstrap (Oza and Russell 2001): each member sees an impression Poisson(1) times. How often is a
    function of the impression's place in the buffer, so that a member sees the same sample whenever it is drawn.
    """

    def __init__(self, members: Sequence[RewardEstimator]) -> None:
        self._members = members

    @property
    def embeddings(self) -> Embeddings:
        """The first member's: an agent can see through one set only."""
        return self._members[0].embeddings

    def predict(self, batch: TransitionBatch) -> Tensor:
        return self._estimates(batch).mean(dim=0)

    def spread(self, batch: TransitionBatch) -> Tensor:
        """The standard deviation over members of the batch's estimates, [B]: 0 where all agree."""
        return self._estimates(batch).std(dim=0, correction=0)

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        """The figures are means over the members."""
        figures: dict[str, list[float]] = {}
        for i, member in enumerate(self._members):
            drawn = np.repeat(np.arange(len(batch.rows)), poisson_weights(batch.rows, batch.positions, i))
            if not len(drawn):
                continue
            for name, value in member.update(batch.at(drawn), num_examples).items():
                figures.setdefault(name, []).append(value)
        return {name: sum(values) / len(values) for name, values in figures.items()}

    def observe(self, fresh: TransitionBatch) -> None:
        for member in self._members:
            member.observe(fresh)

    def rescale(self, statistics: NumberStatistics) -> None:
        for member in self._members:
            member.rescale(statistics)

    def _parts(self) -> dict[str, Kept]:
        return {f"member{i}": member for i, member in enumerate(self._members)}

    def _estimates(self, batch: TransitionBatch) -> Tensor:
        """[M, B]"""
        return torch.stack([member.predict(batch) for member in self._members])


def poisson_weights(rows: NDArray[np.int64], positions: NDArray[np.int64], member: int) -> NDArray[np.int64]:
    """How often a member sees each impression, [B]: Poisson(1) of a hash of where it lies."""
    key = (rows.astype(np.uint64) << np.uint64(20)) + (positions.astype(np.uint64) << np.uint64(8)) + np.uint64(member)
    uniform = (_mixed(key) >> np.uint64(11)).astype(np.float64) / 2.0**53
    return np.searchsorted(_POISSON_TAILS, uniform, side="right").astype(np.int64)


def _mixed(key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014): every bit depends on every bit."""
    z = (key + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed
