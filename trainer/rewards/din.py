"""A deep interest network (arXiv 1706.06978): what the candidate's id finds in the history of the state."""

import torch
from torch import Tensor

from policies.features import ITEM_ID_TABLE
from schemas.loop_file import Loop
from trainer.network_setup import start_at_zero
from trainer.networks import Embeddings, Mlp
from trainer.replay.batch import TransitionBatch
from trainer.rewards.network_estimator import NetworkEstimator
from trainer.rewards.reward_network import RewardModel, split_features


class DinEstimator(NetworkEstimator):
    """For states with a history of items: which of them count depends on the candidate."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop, InterestNetwork)


class InterestNetwork(RewardModel):
    """mlp(state, item, z, (u + z) ∘ v) with z = Σₜ a(hₜ, e, hₜ − e, hₜ ∘ e) hₜ; e is the
    candidate's row, hₜ the history's.

    The weights a are not normalised, so that z tells strong interests from weak ones (§4.3 of the paper). u and v are
    the sums of the state's and the item's embeddings, as in the policy's own network (docs/decisions/0010).
    """

    def __init__(self, loop: Loop, embeddings: Embeddings, num_outputs: int) -> None:
        super().__init__()
        shape = loop.network
        self._dim = shape.embedding_dim
        self._layouts = (embeddings.state_layout, embeddings.item_layout)
        self._histories = [table.slots for table in embeddings.state_layout.tables if table.name == ITEM_ID_TABLE]
        [self._id] = [table.slots for table in embeddings.item_layout.tables if table.name == ITEM_ID_TABLE]
        self.attention = Mlp(4 * self._dim, shape.hidden, 1, layer_norm=shape.layer_norm)
        in_dim = embeddings.state_dim + embeddings.item_dim + 2 * self._dim
        self.joint = Mlp(in_dim, shape.hidden, num_outputs, layer_norm=shape.layer_norm)
        start_at_zero(self.joint)

    def forward(self, embeddings: Embeddings, batch: TransitionBatch) -> Tensor:
        state = embeddings.state(batch.state_slots, batch.state_numbers)  # [B, Fs]
        item = embeddings.items(batch.item_slots, batch.item_numbers)  # [B, Fi]
        z = self.interest(embeddings, batch)  # [B, d]
        u, v = (
            split_features(features, layout, self._dim)[0].sum(dim=1)
            for features, layout in zip((state, item), self._layouts, strict=True)
        )
        out: Tensor = self.joint(torch.cat([state, item, z, (u + z) * v], dim=1))
        return out

    def interest(self, embeddings: Embeddings, batch: TransitionBatch) -> Tensor:
        """The interest z, [B, d]; zero where the history is empty."""
        slots = torch.cat([batch.state_slots[:, history] for history in self._histories], dim=1)  # [B, L]
        history = embeddings.rows_of(ITEM_ID_TABLE, slots)  # [B, L, d]
        candidate = embeddings.rows_of(ITEM_ID_TABLE, batch.item_slots[:, self._id]).expand_as(history)
        pairs = torch.cat([history, candidate, history - candidate, history * candidate], dim=2)
        weights: Tensor = self.attention(pairs) * (slots != 0).unsqueeze(2)  # [B, L, 1]
        return (weights * history).sum(dim=1)
