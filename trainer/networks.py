"""The policy's network in torch, which learns; `policies.networks` is the same in numpy, which acts.

The embeddings stand apart from the heads, so that one module may move them and another read them detached.
tests/contract/test_networks_agree.py holds the two within 1e-5.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from policies.features import Layout, network_layouts
from schemas.loop_file import Loop
from schemas.sections import WeightsAction

_EMBEDDING_SD = 0.05
_NEVER = -1e9  # as a logit: its softmax is 0 beside any other
_MIN_PENALIZED_CARDINALITY = 100  # smaller tables see every row often enough


class Embeddings(nn.Module):
    """All embedding tables of states and items, and the scales of their numbers.

    The buffers `state_mean`, `state_scale` [G] and `item_mean`, `item_scale` [Gi] are 0 and 1 until they are filled
    in; the scales must be positive. For the action kind `weights` an item has no slots and no numbers.
    """

    state_mean: Tensor
    state_scale: Tensor
    item_mean: Tensor
    item_scale: Tensor
    _state_offsets: Tensor
    _item_offsets: Tensor

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self.state_layout, self.item_layout = network_layouts(loop)
        cardinality = {t.name: t.cardinality for t in (*self.state_layout.tables, *self.item_layout.tables)}
        dim = loop.network.embedding_dim
        self.table_names = tuple(cardinality)
        self._sizes = list(cardinality.values())
        # All tables in one matrix, so that all slots of a state are one look-up.
        self.rows = nn.Parameter(torch.randn(sum(self._sizes), dim) * _EMBEDDING_SD)
        starts = dict(zip(cardinality, np.cumsum([0, *self._sizes]).tolist(), strict=False))
        for part, layout in (("state", self.state_layout), ("item", self.item_layout)):
            self.register_buffer(f"{part}_mean", torch.zeros(layout.num_numbers))
            self.register_buffer(f"{part}_scale", torch.ones(layout.num_numbers))
            offsets = [starts[t.name] for t in layout.tables for _ in range(t.slots.start, t.slots.stop)]
            self.register_buffer(f"_{part}_offsets", torch.tensor(offsets, dtype=torch.int64), persistent=False)
        self.state_dim = len(self.state_layout.tables) * dim + self.state_layout.num_numbers
        self.item_dim = len(self.item_layout.tables) * dim + self.item_layout.num_numbers

    @property
    def tables(self) -> tuple[Tensor, ...]:
        """The rows [n, d] of each table, in the order of `table_names`: views, to be written to without gradients."""
        return torch.split(self.rows, self._sizes)

    def state(self, slots: Tensor, numbers: Tensor) -> Tensor:
        """Features [B, Fs] of states with slots [B, S] and numbers [B, G]."""
        scaled = (numbers - self.state_mean) / self.state_scale
        return torch.cat([self._embedded(self.state_layout, slots, self._state_offsets), scaled], dim=-1)

    def items(self, slots: Tensor, numbers: Tensor) -> Tensor:
        """Features [..., Fi] of items with slots [..., Si] and numbers [..., Gi]."""
        scaled = (numbers - self.item_mean) / self.item_scale
        return torch.cat([self._embedded(self.item_layout, slots, self._item_offsets), scaled], dim=-1)

    def rows_of(self, table_name: str, slots: Tensor) -> Tensor:
        """The rows [..., d] of one table at slots [...], not pooled."""
        return functional.embedding(slots, self.tables[self.table_names.index(table_name)])

    def id_penalty(self) -> Tensor:
        """The sum of squares of the tables of 100 rows or more: ids, of which each is seen seldom."""
        if max(self._sizes, default=0) < _MIN_PENALIZED_CARDINALITY:
            return torch.zeros(())
        large = [table.square().sum() for table in self.tables if table.shape[0] >= _MIN_PENALIZED_CARDINALITY]
        return torch.stack(large).sum()

    def _embedded(self, layout: Layout, slots: Tensor, offsets: Tensor) -> Tensor:
        """[..., T · d]: a vector a table of the layout."""
        rows = functional.embedding(slots + offsets, self.rows)  # [..., S, d]
        if any(table.pooled for table in layout.tables):
            means = [
                _masked_mean(rows[..., table.slots, :], slots[..., table.slots] != 0)
                if table.pooled
                else rows[..., table.slots.start, :]
                for table in layout.tables
            ]
            return torch.cat(means, dim=-1)
        return rows.flatten(-2)


def _masked_mean(rows: Tensor, mask: Tensor) -> Tensor:
    """The mean [..., d] of the rows [..., L, d] where mask [..., L]; zeros where there is none."""
    weights = mask.to(rows.dtype).unsqueeze(-1)
    return (rows * weights).sum(dim=-2) / weights.sum(dim=-2).clamp(min=1.0)


class Mlp(nn.Module):
    """Hidden layers of Linear, LayerNorm (if asked for) and ReLU, then a Linear."""

    def __init__(self, in_dim: int, hidden: Sequence[int], out_dim: int, *, layer_norm: bool = False) -> None:
        super().__init__()
        dims = [in_dim, *hidden]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(dims))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for dim in hidden) if layer_norm else nn.ModuleList()
        self.out = nn.Linear(dims[-1], out_dim)

    @property
    def first(self) -> nn.Linear:
        """The first linear layer, which may be the last."""
        first = self.hidden[0] if len(self.hidden) else self.out
        assert isinstance(first, nn.Linear)
        return first

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_dim] → [..., out_dim]."""
        return self.after_first(self.first(x))

    def after_first(self, x: Tensor) -> Tensor:
        """What follows on the first linear layer's output."""
        linears = [*self.hidden, self.out]
        for i, linear in enumerate(linears[1:]):
            x = linear(torch.relu(self.norms[i](x) if self.norms else x))
        return x


class SlateHead(nn.Module, ABC):
    """Scores [B, N] of items with features [B, N, Fi] in states with features [B, Fs]; see `slate_head`."""

    @abstractmethod
    def forward(self, state_features: Tensor, item_features: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask` [B, N]: True where there is an item (None: everywhere); read where items see each other."""

    @abstractmethod
    def last_layers(self) -> list[nn.Linear]:
        """What must be 0 for all scores to be."""


class TowersHead(SlateHead):
    """The product of two towers and the item's bias: s · v + b."""

    def __init__(self, loop: Loop, state_dim: int, item_dim: int) -> None:
        super().__init__()
        shape = loop.network
        self.state_tower = Mlp(state_dim, shape.hidden, shape.vector_dim, layer_norm=shape.layer_norm)
        self.item_tower = Mlp(item_dim, shape.hidden, shape.vector_dim + 1, layer_norm=shape.layer_norm)
        with torch.no_grad():  # every item starts with a bias of 0
            self.item_tower.out.weight[-1].zero_()
            self.item_tower.out.bias[-1].zero_()

    def forward(self, state_features: Tensor, item_features: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        state = self.state_tower(state_features)  # [B, D]
        item = self.item_tower(item_features)  # [B, N, D + 1]
        scores: Tensor = (item[..., :-1] @ state.unsqueeze(-1)).squeeze(-1) + item[..., -1]
        return scores

    def last_layers(self) -> list[nn.Linear]:
        return [self.item_tower.out]


class JointHead(SlateHead):
    """One network of both: mlp(state features, item features, u ∘ v), where u and v are the sums of the state's and of
    the item's embeddings. Their product is what tells it early that a taste and an item agree; without it a network of
    this size hardly learns that (docs/decisions/0010).
    """

    def __init__(self, loop: Loop, state_dim: int, item_dim: int, out_dim: int = 1) -> None:
        super().__init__()
        shape = loop.network
        self._dims = [state_dim, item_dim, shape.embedding_dim]
        self._num_tables = [len(layout.tables) for layout in network_layouts(loop)]
        self.joint = Mlp(sum(self._dims), shape.hidden, out_dim, layer_norm=shape.layer_norm)

    def forward(self, state_features: Tensor, item_features: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return self.outputs(state_features, item_features).squeeze(-1)

    def outputs(self, state_features: Tensor, item_features: Tensor) -> Tensor:
        """What the network of both gives, [B, N, out_dim]."""
        first = self.joint.first
        of_state, of_pair = torch.split(first.weight, [self._dims[0], sum(self._dims[1:])], dim=1)
        u, v = self._summed(state_features, 0), self._summed(item_features, 1)  # [B, d], [B, N, d]
        pair = torch.cat([item_features, v * u.unsqueeze(1)], dim=-1)  # [B, N, Fi + d]
        hidden = pair @ of_pair.T + functional.linear(state_features, of_state, first.bias).unsqueeze(1)
        return self.joint.after_first(hidden)

    def _summed(self, features: Tensor, side: int) -> Tensor:
        """The sum [..., d] of the embeddings that features [..., F] begin with."""
        num, dim = self._num_tables[side], self._dims[2]
        embedded = features[..., : num * dim].reshape(*features.shape[:-1], num, dim)
        return embedded.sum(dim=-2)

    def last_layers(self) -> list[nn.Linear]:
        return [self.joint.out]


class AttentionHead(JointHead):
    """Items that see each other: the joint network gives each a vector h [D], one self-attention layer (Vaswani et al.,
    arXiv 1706.03762, eq. 1, one head) adds to it softmax(q · k / √D) v over the set, and w · relu(·) + b scores it.
    """

    def __init__(self, loop: Loop, state_dim: int, item_dim: int) -> None:
        dim = loop.network.vector_dim
        super().__init__(loop, state_dim, item_dim, dim)
        self.attention = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, 1)

    def forward(self, state_features: Tensor, item_features: Tensor, mask: Tensor | None = None) -> Tensor:
        h = self.outputs(state_features, item_features)  # [B, N, D]
        q, k, v = self.attention(h).chunk(3, dim=-1)
        logits = q @ k.mT / math.sqrt(h.shape[-1])  # [B, N, N]
        if mask is not None:  # a finite number: where nothing is left, -inf would make NaN
            logits = logits.masked_fill(~mask.unsqueeze(1), _NEVER)
        seen = h + torch.softmax(logits, dim=-1) @ v
        scores: Tensor = self.out(torch.relu(seen)).squeeze(-1)
        return scores

    def last_layers(self) -> list[nn.Linear]:
        return [self.out]


_HEADS: dict[str, type[TowersHead | JointHead | AttentionHead]] = {
    "dot": TowersHead,
    "mlp": JointHead,
    "attention": AttentionHead,
}


def slate_head(loop: Loop, state_dim: int, item_dim: int) -> SlateHead:
    """The head that `[network] interaction` names."""
    return _HEADS[loop.network.interaction](loop, state_dim, item_dim)


class ActorHead(nn.Module):
    """The policy of the action kind `weights`, before its tanh."""

    def __init__(self, loop: Loop, state_dim: int) -> None:
        super().__init__()
        assert isinstance(loop.action, WeightsAction)
        shape = loop.network
        self.tower = Mlp(state_dim, shape.hidden, loop.action.dim, layer_norm=shape.layer_norm)

    def forward(self, state_features: Tensor) -> Tensor:
        """Gives z [B, A] for states [B, Fs]; the action is tanh(z)."""
        z: Tensor = self.tower(state_features)
        return z


def export(embeddings: Embeddings, head: SlateHead | ActorHead) -> dict[str, NDArray[np.float32]]:
    """The tensors of a policy by the names that `policies.networks` reads: copies, on the host, float32.

    `embeddings.<table>`, `embeddings.state_mean`, …, and `head.` with the names of the head's state dict.
    """
    tensors: dict[str, Tensor] = {
        f"embeddings.{name}": table for name, table in zip(embeddings.table_names, embeddings.tables, strict=True)
    }
    scales = ("state_mean", "state_scale", "item_mean", "item_scale")
    tensors |= {f"embeddings.{name}": getattr(embeddings, name) for name in scales}
    tensors |= {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    return {name: _array(tensor) for name, tensor in tensors.items()}


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.array(tensor.detach().to("cpu", torch.float32).numpy(), copy=True)
