"""No stabilizing: the agent learns from rewards as they came."""

from torch import Tensor

from trainer.replay.batch import TransitionBatch
from trainer.rewards.estimator import RewardEstimator
from trainer.rewards.stabilizer import Stateless


class Raw(Stateless):
    """The estimator still learns: the noise meter and the story of a decision show what stabilizing would do."""

    def rewards(self, batch: TransitionBatch, _estimator: RewardEstimator) -> Tensor:
        return batch.reward
