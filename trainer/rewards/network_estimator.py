"""What estimators with a network have in common: a network of state and action, a head, and their optimizer."""

from collections.abc import Callable

import torch
from torch import Tensor

from schemas.loop_file import Loop
from trainer.adam import Adam
from trainer.network_setup import rescale
from trainer.networks import Embeddings
from trainer.replay.batch import TransitionBatch
from trainer.replay.statistics import NumberStatistics
from trainer.rewards.heads import make_head
from trainer.rewards.reward_network import RewardModel
from trainer.rewards.weight_average import WeightAverage
from trainer.state import Kept, OfParts


class NetworkEstimator(OfParts):
    """E[r | s, a] by the likelihood of the loop's head; estimates are those of the averaged weights."""

    def __init__(
        self, loop: Loop, make_network: Callable[[Loop, Embeddings, int], RewardModel], *, penalty_share: float = 1.0
    ) -> None:
        """With new weights.

        Args:
            loop: the loop file.
            make_network: from the loop, the embeddings and the number of outputs that an impression has.
            penalty_share: of `estimator_id_penalty`.
        """
        self._penalty = penalty_share * loop.learner.estimator_id_penalty
        self.embeddings = Embeddings(loop)
        self._head = make_head(loop)
        self._network = make_network(loop, self.embeddings, self._head.num_outputs)
        self._average = WeightAverage(self.embeddings, self._network)
        trained = [*self.embeddings.parameters(), *self._network.parameters()]
        self._optimizer = Adam(trained, loop.learner.estimator_learning_rate)

    @torch.no_grad()
    def predict(self, batch: TransitionBatch) -> Tensor:
        return self._head.estimate(self._average(batch))

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        if batch.stabilized:
            raise ValueError("an estimator is fitted to raw rewards, and this batch's are stabilized")
        self._head.observe(batch.reward)
        if not self._head.is_open:
            return {}
        loss = self._head.loss(self._network(self.embeddings, batch), batch.reward)
        penalty = self.embeddings.id_penalty() + self._network.id_penalty()
        self._optimizer.differentiate(loss + self._penalty / num_examples * penalty)
        self._optimizer.step()
        self._average.follow()
        return {"estimator_loss": loss.item()}

    def observe(self, fresh: TransitionBatch) -> None:
        """Learns from `update` only."""

    def rescale(self, statistics: NumberStatistics) -> None:
        for embeddings in (self.embeddings, self._average.embeddings):
            rescale(embeddings, statistics)

    def _parts(self) -> dict[str, Kept]:
        return {
            "embeddings": self.embeddings,
            "network": self._network,
            "average": self._average,
            "head": self._head,
            "optimizer": self._optimizer,
        }
