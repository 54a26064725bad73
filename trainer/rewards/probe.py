"""A network that looks for what the estimator missed: E[r − r̂ | s, a], by squared error."""

import math

import torch
from torch import Tensor, nn

from schemas.loop_file import Loop
from trainer.adam import Adam
from trainer.network_setup import rescale
from trainer.networks import Embeddings
from trainer.replay.batch import TransitionBatch
from trainer.replay.statistics import NumberStatistics
from trainer.rewards.reward_network import RewardNetwork
from trainer.state import Kept, OfParts

_SMOOTHING = 0.01


class ResidualScale(nn.Module):
    """The root mean square of r − r̂, in which the network counts: one learning rate then fits clicks and revenue."""

    mean_square: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean_square", torch.tensor(0.0))
        self.register_buffer("count", torch.tensor(0.0))

    def observe(self, residual: Tensor) -> None:
        self.count += 1
        self.mean_square.lerp_(residual.square().mean(), max(_SMOOTHING, 1.0 / float(self.count)))

    @property
    def value(self) -> float:
        return math.sqrt(float(self.mean_square))


class ResidualProbe(OfParts):
    """Of the estimator's own shape, ids included: what an estimator without them misses must be found here."""

    def __init__(self, loop: Loop) -> None:
        self._settings = loop.learner
        self._embeddings = Embeddings(loop)
        self._network = RewardNetwork(loop, self._embeddings)
        self._scale = ResidualScale()
        trained = [*self._embeddings.parameters(), *self._network.parameters()]
        self._optimizer = Adam(trained, self._settings.estimator_learning_rate)

    @torch.no_grad()
    def predict(self, batch: TransitionBatch) -> Tensor:
        """ρ̂ [B], in the unit of the reward."""
        predicted: Tensor = self._network(self._embeddings, batch).squeeze(1)
        return self._scale.value * predicted

    def update(self, batch: TransitionBatch, residual: Tensor, num_examples: int) -> dict[str, float]:
        """One gradient step towards the residuals r − r̂ [B]."""
        self._scale.observe(residual)
        if self._scale.value == 0.0:
            return {}
        predicted = self._network(self._embeddings, batch).squeeze(1)
        loss = 0.5 * nn.functional.mse_loss(predicted, residual / self._scale.value)
        weight = self._settings.estimator_id_penalty / num_examples
        self._optimizer.differentiate(loss + weight * self._embeddings.id_penalty())
        self._optimizer.step()
        return {"probe_loss": loss.item()}

    def rescale(self, statistics: NumberStatistics) -> None:
        rescale(self._embeddings, statistics)

    def _parts(self) -> dict[str, Kept]:
        return {
            "embeddings": self._embeddings,
            "network": self._network,
            "scale": self._scale,
            "optimizer": self._optimizer,
        }
