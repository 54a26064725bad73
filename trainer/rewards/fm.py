"""A factorization machine (Rendle 2010): a bias, linear terms, and products of embeddings."""

import torch
from torch import Tensor, nn

from schemas.loop_file import Loop
from schemas.sections import WeightsAction
from trainer.networks import Embeddings
from trainer.replay.batch import TransitionBatch
from trainer.rewards.network_estimator import NetworkEstimator
from trainer.rewards.reward_network import RewardModel, split_features

_FACTOR_SD = 0.05
_PENALTY_SHARE = 0.1
"""Of the id penalty of a network, which scales its embeddings up again; here nothing does, so it pulls harder."""
_BIAS_SHARE = 0.25
"""Of the penalty of embeddings: an id has one bias to learn, and a product of all its dimensions."""


class FmEstimator(NetworkEstimator):
    """For ids with few impressions each: tastes are products, which a network has to find out first."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop, FactorizationMachine, penalty_share=_PENALTY_SHARE)


class FactorizationMachine(RewardModel):
    """w₀ + Σᵢ wᵢ xᵢ + Σᵢⱼ ⟨vᵢ, vⱼ⟩ xᵢ xⱼ (Rendle 2010, equation 1), i a field of the state and j of the item.

    Fields are tables, of which x is 1, and numbers; for `weights` the action's numbers stand for the item. Pairs
    within the state or within the item are left out: the same for all items, or a part of the item's bias, they only
    add noise. The sum over pairs is that of the sums, ⟨Σᵢ vᵢ xᵢ, Σⱼ vⱼ xⱼ⟩, so that it costs O(d) a field (lemma 3.1).

    The first output is this; the others have linear terms of their own and weigh the dimensions of the products.
    """

    def __init__(self, loop: Loop, embeddings: Embeddings, num_outputs: int) -> None:
        super().__init__()
        self._dim = loop.network.embedding_dim
        self._layouts = (embeddings.state_layout, embeddings.item_layout)
        num_of_state, num_of_item = (layout.num_numbers for layout in self._layouts)
        if isinstance(loop.action, WeightsAction):
            num_of_item += loop.action.dim
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        self.of_rows = _embeddings_of_zero(loop, num_outputs)
        self.of_numbers = nn.Parameter(torch.zeros(num_of_state + num_of_item, num_outputs))
        self.of_state_numbers = nn.Parameter(torch.randn(num_of_state, self._dim) * _FACTOR_SD)
        self.of_item_numbers = nn.Parameter(torch.randn(num_of_item, self._dim) * _FACTOR_SD)
        self.of_products = nn.Parameter(torch.ones(self._dim, num_outputs - 1))

    def forward(self, embeddings: Embeddings, batch: TransitionBatch) -> Tensor:
        (state_rows, state_numbers), (item_rows, item_numbers) = self._fields(embeddings, batch, self._dim)
        (state_terms, _), (item_terms, _) = self._fields(self.of_rows, batch, len(self.bias))
        u = state_rows.sum(dim=1) + state_numbers @ self.of_state_numbers  # [B, d]
        v = item_rows.sum(dim=1) + item_numbers @ self.of_item_numbers  # [B, d]
        numbers = torch.cat([state_numbers, item_numbers], dim=1)
        linear = self.bias + state_terms.sum(dim=1) + item_terms.sum(dim=1) + numbers @ self.of_numbers  # [B, m]
        products = u * v
        return linear + torch.cat([products.sum(dim=1, keepdim=True), products @ self.of_products], dim=1)

    def id_penalty(self) -> Tensor:
        return _BIAS_SHARE * self.of_rows.id_penalty()

    def _fields(
        self, embeddings: Embeddings, batch: TransitionBatch, dim: int
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The rows [B, T, d] and the numbers [B, G] of the state, then of the item."""
        state = embeddings.state(batch.state_slots, batch.state_numbers)
        item = embeddings.items(batch.item_slots, batch.item_numbers)
        rows, numbers = split_features(item, self._layouts[1], dim)
        of_item = rows, torch.cat([numbers, batch.action], dim=1)
        return split_features(state, self._layouts[0], dim), of_item


def _embeddings_of_zero(loop: Loop, dim: int) -> Embeddings:
    """A number for each row of every table and each output, 0 at first."""
    network = loop.network.model_copy(update={"embedding_dim": dim})
    embeddings = Embeddings(loop.model_copy(update={"network": network}))
    nn.init.zeros_(embeddings.rows)
    return embeddings
