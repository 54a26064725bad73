"""What a stabilizer is: it says what trains the agent in place of the raw rewards of a batch."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from trainer.replay.batch import TransitionBatch
from trainer.replay.statistics import NumberStatistics
from trainer.rewards.estimator import RewardEstimator


class Stabilizer(Protocol):
    """`state_dict` and `load_state_dict` are for checkpoints."""

    def rewards(self, batch: TransitionBatch, estimator: RewardEstimator) -> Tensor:
        """What trains the agent in place of a raw batch's rewards, [B]; a new tensor or the batch's own, unaltered."""

    def fit(self, batch: TransitionBatch, estimator: RewardEstimator, num_examples: int) -> dict[str, float]:
        """One gradient step of what it learns itself, on raw rewards. Returns figures by name.

        Args:
            batch: B impressions; what came next is not looked at.
            estimator: fitted to this batch already.
            num_examples: impressions there are to learn from.
        """

    def observe(self, fresh: TransitionBatch, estimate: Tensor) -> None:
        """Sees impressions that nothing has learned from yet, with the estimates r̂ [B] of their rewards."""

    def figures(self) -> dict[str, float]:
        """What it says of itself to people, by name."""

    def rescale(self, statistics: NumberStatistics) -> None:
        """Sets the mean and the scale by which it normalises the numbers that data scale."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class Stateless:
    """What stabilizers have in common that learn nothing themselves."""

    def fit(self, _batch: TransitionBatch, _estimator: RewardEstimator, _num_examples: int) -> dict[str, float]:
        return {}

    def observe(self, fresh: TransitionBatch, estimate: Tensor) -> None:
        """Looks at nothing."""

    def figures(self) -> dict[str, float]:
        return {}

    def rescale(self, statistics: NumberStatistics) -> None:
        """Sees no numbers."""

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Has no state."""
