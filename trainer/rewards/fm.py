"""A factorization machine (Rendle 2010): a bias, linear terms, and the products of all pairs of embeddings."""

import torch
from torch import Tensor, nn

from policies.features import Layout
from schemas.loop_file import Loop, WeightsAction
from trainer.networks import Embeddings
from trainer.replay.batch import TransitionBatch
from trainer.rewards.network_estimator import NetworkEstimator
from trainer.rewards.reward_network import RewardModel

_FACTOR_SD = 0.05
_FACTOR_SCALE = 4.0


class FmEstimator(NetworkEstimator):
    """For ids with few impressions each: tastes are products, and their number of parameters is small."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop, FactorizationMachine)


class FactorizationMachine(RewardModel):
    """w₀ + Σᵢ wᵢ xᵢ + Σᵢ<ⱼ ⟨vᵢ, vⱼ⟩ xᵢ xⱼ (Rendle 2010, equation 1), for each output o with ⟨·⟩ weighted by c_o.

    Its fields are the tables of state and item, of which x is 1, and their numbers; for `weights` those of the state
    and the action's. With one output and c = 1 it is Rendle's own; c lets several outputs share the embeddings.
    """

    def __init__(self, loop: Loop, embeddings: Embeddings, num_outputs: int) -> None:
        super().__init__()
        dim = loop.network.embedding_dim
        self._layouts = (embeddings.state_layout, embeddings.item_layout)
        num_numbers = sum(layout.num_numbers for layout in self._layouts)
        if isinstance(loop.action, WeightsAction):
            num_numbers += loop.action.dim
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        self.of_rows = _embeddings_of_zero(loop, num_outputs)
        self.of_numbers = nn.Parameter(torch.zeros(num_numbers, num_outputs))
        self.factors = nn.Parameter(torch.randn(num_numbers, dim) * _FACTOR_SD)
        self.of_products = nn.Parameter(torch.full((dim, num_outputs), float(_FACTOR_SCALE)))

    def forward(self, embeddings: Embeddings, batch: TransitionBatch) -> Tensor:
        rows, numbers = self._fields(embeddings, batch, self.factors.shape[1])  # [B, T, d], [B, G]
        linear, _ = self._fields(self.of_rows, batch, len(self.bias))  # [B, T, m]
        products = pairwise(torch.cat([rows, numbers.unsqueeze(-1) * self.factors], dim=1))  # [B, d]
        out: Tensor = self.bias + linear.sum(dim=1) + numbers @ self.of_numbers + products @ self.of_products
        return out

    def id_penalty(self) -> Tensor:
        return self.of_rows.id_penalty()

    def _fields(self, embeddings: Embeddings, batch: TransitionBatch, dim: int) -> tuple[Tensor, Tensor]:
        """The rows [B, T, d] of all tables, and all numbers [B, G]."""
        state = embeddings.state(batch.state_slots, batch.state_numbers)
        item = embeddings.items(batch.item_slots, batch.item_numbers)
        of_state, of_item = (_split(*each, dim) for each in zip((state, item), self._layouts, strict=True))
        rows = torch.cat([of_state[0], of_item[0]], dim=1)
        return rows, torch.cat([of_state[1], of_item[1], batch.action], dim=1)


def pairwise(fields: Tensor) -> Tensor:
    """Σᵢ<ⱼ vᵢ ∘ vⱼ of fields [B, F, d], as [B, d]: ½ ((Σ v)² − Σ v²) (Rendle 2010, lemma 3.1)."""
    return 0.5 * (fields.sum(dim=1).square() - fields.square().sum(dim=1))


def _split(features: Tensor, layout: Layout, dim: int) -> tuple[Tensor, Tensor]:
    """The rows [B, T, d] that features [B, F] begin with, and the numbers [B, G] that follow."""
    num = len(layout.tables)
    rows = features[:, : num * dim].reshape(len(features), num, dim)
    return rows, features[:, num * dim :]


def _embeddings_of_zero(loop: Loop, dim: int) -> Embeddings:
    """A number for each row of every table and each output, 0 at first."""
    network = loop.network.model_copy(update={"embedding_dim": dim})
    embeddings = Embeddings(loop.model_copy(update={"network": network}))
    for table in embeddings.tables:
        nn.init.zeros_(table)
    return embeddings
