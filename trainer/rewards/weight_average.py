"""The average of the weights that a reward model's optimizer passes through."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from trainer.agents.losses import polyak_update
from trainer.embeddings import Embeddings
from trainer.replay.batch import TransitionBatch
from trainer.rewards.reward_network import RewardModel

_LEAST_RATE = 0.01
"""From some 300 steps on it looks back over about a hundred: enough to lose the last minibatches' noise."""
_DECAY = 2.0


class WeightAverage(nn.Module):
    """A model's outputs by averaged weights.

    With a constant learning rate the last weights carry the noise of the last minibatches, and rare ids most of it.
    Their average loses it as a falling rate would, and needs no end of training to fall to (Polyak and Juditsky 1992).
    This is the polynomial-decay average of Shamir and Zhang (2013), which forgets where it started, with a floor for
    its rate, since rewards drift.
    """

    num_steps: Tensor

    def __init__(self, embeddings: Embeddings, network: RewardModel) -> None:
        """Of a model with new weights, which it follows from there."""
        super().__init__()
        self.embeddings = deepcopy(embeddings).requires_grad_(False)
        self.network = deepcopy(network).requires_grad_(False)
        self.register_buffer("num_steps", torch.tensor(0.0))
        self._pairs = [*self.parameters()], [*embeddings.parameters(), *network.parameters()]

    @torch.no_grad()
    def follow(self) -> None:
        """Takes in the model's weights after one more step."""
        self.num_steps += 1.0
        rate = max(_LEAST_RATE, (_DECAY + 1.0) / (_DECAY + float(self.num_steps)))
        polyak_update(*self._pairs, rate)

    def forward(self, batch: TransitionBatch) -> Tensor:
        """[B, m] of the batch's impressions."""
        outputs: Tensor = self.network(self.embeddings, batch)
        return outputs
