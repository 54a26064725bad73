"""The network of reward models: the policy's kind for `slate`; for `weights` one of state and action."""

import torch
from torch import Tensor, nn

from schemas.loop_file import Loop, WeightsAction
from trainer.network_setup import start_at_zero
from trainer.networks import Embeddings, JointHead, Mlp, SlateHead, slate_head
from trainer.replay.batch import TransitionBatch


class RewardNetwork(nn.Module):
    """One number for each impression, 0 at first."""

    def __init__(self, loop: Loop, embeddings: Embeddings) -> None:
        super().__init__()
        self.head = _head(loop, embeddings)
        start_at_zero(self.head)

    def forward(self, embeddings: Embeddings, batch: TransitionBatch) -> Tensor:
        """[B] of the batch's impressions."""
        state = embeddings.state(batch.state_slots, batch.state_numbers)  # [B, Fs]
        if isinstance(self.head, SlateHead):
            item = embeddings.items(batch.item_slots, batch.item_numbers)  # [B, Fi]
            out: Tensor = self.head(state, item.unsqueeze(1))  # [B, 1]
        else:
            out = self.head(torch.cat([state, batch.action], dim=1))  # [B, 1]
        return out.squeeze(1)


def _head(loop: Loop, embeddings: Embeddings) -> SlateHead | Mlp:
    if isinstance(loop.action, WeightsAction):
        shape = loop.network
        return Mlp(embeddings.state_dim + loop.action.dim, shape.hidden, 1, layer_norm=shape.layer_norm)
    if loop.network.interaction == "attention":  # an item alone has nothing to see
        return JointHead(loop, embeddings.state_dim, embeddings.item_dim)
    return slate_head(loop, embeddings.state_dim, embeddings.item_dim)
