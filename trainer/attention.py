"""What candidates find in each other and in the state's history; `policies.attention` is the same in numpy."""

import math
from typing import TypeAlias

import torch
from torch import Tensor, nn

from policies.features import ITEM_ID_TABLE, network_layouts
from schemas.loop_file import Loop

History: TypeAlias = tuple[Tensor, Tensor]
"""The rows [B, L, d] of the items of all features of kind `items`, zeros at padding, and where there is one [B, L]."""

_NEVER = -1e9  # as a logit: its softmax is 0 beside any other, and finite where nothing is left: -inf would make NaN


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q · k / √D) v over the keys (Vaswani et al., arXiv 1706.03762, eq. 1).

    Args:
        queries: [B, N, D].
        keys: [B, L, D].
        values: [B, L, V].
        mask: [B, L], True where there is a key (None: everywhere).
    """
    logits = queries @ keys.mT / math.sqrt(queries.shape[-1])  # [B, N, L]
    if mask is not None:
        logits = logits.masked_fill(~mask.unsqueeze(1), _NEVER)
    return torch.softmax(logits, dim=-1) @ values


class HistoryAttention(nn.Module):
    """What a candidate with the row e of the item table finds in the history: z_f = Σₜ softmaxₜ(q_f · hₜ / √d) hₜ over
    the items hₜ of each feature f of kind `items`, with q_f linear in e. Zeros where the feature is empty.
    """

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        state, item = network_layouts(loop)
        self._dim = loop.network.embedding_dim
        self._lengths = [t.slots.stop - t.slots.start for t in state.tables if t.name == ITEM_ID_TABLE]
        self._id_at = [t.name for t in item.tables].index(ITEM_ID_TABLE) * self._dim
        self.query = nn.Linear(self._dim, len(self._lengths) * self._dim)

    def forward(self, item_features: Tensor, history: History) -> Tensor:
        """Gives z [B, N, F · d] of items with features [B, N, Fi], one feature of kind `items` after the other."""
        queries = self.query(item_features[..., self._id_at : self._id_at + self._dim])
        rows, there = (torch.split(part, self._lengths, dim=1) for part in history)
        of_features = zip(torch.split(queries, self._dim, dim=-1), rows, there, strict=True)
        return torch.cat([attend(q, h, h, mask) for q, h, mask in of_features], dim=-1)
