"""What a reward estimator is: a supervised model of E[r | s, a], fitted to raw rewards only."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from schemas.loop_file import Loop
from trainer.networks import Embeddings
from trainer.replay.batch import TransitionBatch
from trainer.replay.statistics import NumberStatistics


class RewardEstimator(Protocol):
    """`state_dict` and `load_state_dict` are for checkpoints."""

    @property
    def embeddings(self) -> Embeddings:
        """Those that its loss trains, and that SRS2 shares with the agent; the loop file refuses it where none are."""

    def predict(self, batch: TransitionBatch) -> Tensor:
        """The estimates r̂ of the batch's impressions, [B], in the unit of the reward; without a gradient."""

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        """One gradient step on raw rewards. Returns figures by name, each starting with `estimator_`.

        Args:
            batch: B impressions; what came next is not looked at.
            num_examples: impressions there are to learn from, N: a penalty of k/N weighs as much as k of them.

        Raises:
            ValueError: the batch's reward is stabilized.
        """

    def observe(self, fresh: TransitionBatch) -> None:
        """Sees impressions that nothing has learned from yet, after their rewards were estimated."""

    def rescale(self, statistics: NumberStatistics) -> None:
        """Sets the mean and the scale by which it normalises the numbers that data scale."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class EstimatorFactory(Protocol):
    def __call__(self, loop: Loop) -> RewardEstimator: ...
