"""The network of reward models: the policy's kind for `slate`; for `weights` one of state and action."""

import torch
from torch import Tensor, nn

from policies.features import Layout
from schemas.loop_file import Loop
from schemas.sections import WeightsAction
from trainer.network_setup import start_at_zero
from trainer.networks import Embeddings, JointHead, Mlp, SlateHead, slate_head
from trainer.replay.batch import TransitionBatch


class RewardModel(nn.Module):
    """Any network of state and action that gives m outputs [B, m] for a batch's impressions."""

    def id_penalty(self) -> Tensor:
        """The sum of squares of what it has for each id beside the embeddings."""
        return torch.zeros(())


class RewardNetwork(RewardModel):
    """A network for each output over the same embeddings; all outputs are 0 at first."""

    def __init__(self, loop: Loop, embeddings: Embeddings, num_outputs: int = 1) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_head(loop, embeddings) for _ in range(num_outputs))

    def forward(self, embeddings: Embeddings, batch: TransitionBatch) -> Tensor:
        """[B, m] of the batch's impressions."""
        state = embeddings.state(batch.state_slots, batch.state_numbers)  # [B, Fs]
        if isinstance(self.heads[0], SlateHead):
            item = embeddings.items(batch.item_slots, batch.item_numbers)  # [B, Fi]
            return torch.cat([head(state, item.unsqueeze(1)) for head in self.heads], dim=1)
        features = torch.cat([state, batch.action], dim=1)
        return torch.cat([head(features) for head in self.heads], dim=1)


def _head(loop: Loop, embeddings: Embeddings) -> SlateHead | Mlp:
    head = _new_head(loop, embeddings)
    start_at_zero(head)
    return head


def _new_head(loop: Loop, embeddings: Embeddings) -> SlateHead | Mlp:
    if isinstance(loop.action, WeightsAction):
        shape = loop.network
        return Mlp(embeddings.state_dim + loop.action.dim, shape.hidden, 1, layer_norm=shape.layer_norm)
    if loop.network.interaction == "attention":  # an item alone has nothing to see
        return JointHead(loop, embeddings.state_dim, embeddings.item_dim)
    return slate_head(loop, embeddings.state_dim, embeddings.item_dim)


def split_features(features: Tensor, layout: Layout, dim: int) -> tuple[Tensor, Tensor]:
    """The embedded rows [B, T, d] of a layout's T tables that features [B, F] begin with, and the numbers [B, G]."""
    num = len(layout.tables)
    rows = features[:, : num * dim].reshape(len(features), num, dim)
    return rows, features[:, num * dim :]
