"""A reward model of the policy's own shape; for `weights` one network of state and action."""

from collections.abc import Mapping

import torch
from torch import Tensor

from schemas.loop_file import Loop
from trainer.adam import Adam
from trainer.network_setup import rescale
from trainer.networks import Embeddings
from trainer.replay.batch import TransitionBatch
from trainer.replay.statistics import NumberStatistics
from trainer.rewards.reward_network import RewardNetwork
from trainer.rewards.reward_range import RewardRange
from trainer.state import Kept, gather, scatter


class MlpEstimator:
    """E[r | s, a] by cross-entropy over the observed range of rewards."""

    def __init__(self, loop: Loop) -> None:
        self._settings = loop.learner
        self.embeddings = Embeddings(loop)
        self._network = RewardNetwork(loop, self.embeddings)
        self._range = RewardRange()
        trained = [*self.embeddings.parameters(), *self._network.parameters()]
        self._optimizer = Adam(trained, self._settings.estimator_learning_rate)

    @torch.no_grad()
    def predict(self, batch: TransitionBatch) -> Tensor:
        return self._range.estimate(self._network(self.embeddings, batch))

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        if batch.stabilized:
            raise ValueError("an estimator is fitted to raw rewards, and this batch's are stabilized")
        self._range.observe(batch.reward)
        if not self._range.is_open:
            return {}
        loss = self._range.loss(self._network(self.embeddings, batch), batch.reward)
        weight = self._settings.estimator_id_penalty / num_examples
        self._optimizer.differentiate(loss + weight * self.embeddings.id_penalty())
        self._optimizer.step()
        return {"estimator_loss": loss.item()}

    def rescale(self, statistics: NumberStatistics) -> None:
        rescale(self.embeddings, statistics)

    def state_dict(self) -> dict[str, Tensor]:
        return gather(**self._parts())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        scatter(state, **self._parts())

    def _parts(self) -> dict[str, Kept]:
        return {
            "embeddings": self.embeddings,
            "network": self._network,
            "range": self._range,
            "optimizer": self._optimizer,
        }
