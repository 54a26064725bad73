"""A reward model of the policy's own shape; for `weights` one network of state and action."""

from schemas.loop_file import Loop
from trainer.rewards.network_estimator import NetworkEstimator
from trainer.rewards.reward_network import RewardNetwork


class MlpEstimator(NetworkEstimator):
    """The default: it finds whatever a network of this size can."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop, RewardNetwork)
