"""The policy's network in torch, which learns; `policies.networks` is the same in numpy, which acts.

The embeddings stand apart from the heads, so that one module may move them and another read them detached.
tests/contract/test_networks_agree.py holds the two within 1e-5.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from policies.attention import num_histories
from policies.features import network_layouts
from schemas.loop_file import Loop
from schemas.sections import WeightsAction
from trainer.attention import History, HistoryAttention, attend
from trainer.embeddings import Embeddings

__all__ = [
    "ActorHead",
    "AttentionHead",
    "Embeddings",
    "JointHead",
    "Mlp",
    "SlateHead",
    "TowersHead",
    "export",
    "slate_head",
]


class Mlp(nn.Module):
    """Hidden layers of Linear, LayerNorm (if asked for) and ReLU, then a Linear."""

    def __init__(self, in_dim: int, hidden: Sequence[int], out_dim: int, *, layer_norm: bool = False) -> None:
        super().__init__()
        dims = [in_dim, *hidden]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(dims))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for dim in hidden) if layer_norm else nn.ModuleList()
        self.out = nn.Linear(dims[-1], out_dim)
        # The same once more, in plain lists: to look for modules takes torch as long as to multiply by small ones.
        self._linears: list[nn.Linear] = [*self.hidden, self.out]
        self._norms: list[nn.Module] = [*self.norms] or [nn.Identity() for _ in hidden]

    @property
    def first(self) -> nn.Linear:
        """The first linear layer, which may be the last."""
        return self._linears[0]

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_dim] → [..., out_dim]."""
        return self.after_first(_linear(self.first, x))

    def after_first(self, x: Tensor) -> Tensor:
        """What follows on the first linear layer's output."""
        for norm, linear in zip(self._norms, self._linears[1:], strict=True):
            x = _linear(linear, torch.relu(norm(x)))
        return x


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """What it gives, without its hooks, which nobody sets."""
    return functional.linear(x, layer.weight, layer.bias)


class SlateHead(nn.Module, ABC):
    """Scores [B, N] of items with features [B, N, Fi] in states with features [B, Fs]; see `slate_head`."""

    @abstractmethod
    def forward(
        self, state_features: Tensor, item_features: Tensor, mask: Tensor | None = None, history: History | None = None
    ) -> Tensor:
        """`mask` [B, N]: True where there is an item (None: everywhere); read where items see each other. `history`:
        read where they attend to it, and then it must not be None if the state has one.
        """

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

    def forward(
        self,
        state_features: Tensor,
        item_features: Tensor,
        mask: Tensor | None = None,  # noqa: ARG002
        history: History | None = None,  # noqa: ARG002
    ) -> Tensor:
        state = self.state_tower(state_features)  # [B, D]
        item = self.item_tower(item_features)  # [B, N, D + 1]
        scores: Tensor = (item[..., :-1] @ state.unsqueeze(-1)).squeeze(-1) + item[..., -1]
        return scores

    def last_layers(self) -> list[nn.Linear]:
        return [self.item_tower.out]


class JointHead(SlateHead):
    """One network of both: mlp(state features, item features, u ∘ v), where u and v are the sums of the state's and of
    the item's embeddings. Their product is what tells it early that a taste and an item agree; without it a network of
    this size hardly learns that (docs/decisions/0010). With `attends` and a history in the state, it also reads z,
    what an item finds there, and (u + Σ z) ∘ v in place of u ∘ v.
    """

    def __init__(self, loop: Loop, state_dim: int, item_dim: int, out_dim: int = 1, *, attends: bool = False) -> None:
        super().__init__()
        shape = loop.network
        found_dim = num_histories(loop) * shape.embedding_dim if attends else 0
        self._dims = [state_dim, item_dim, shape.embedding_dim, found_dim]
        self._num_tables = [len(layout.tables) for layout in network_layouts(loop)]
        self.joint = Mlp(sum(self._dims), shape.hidden, out_dim, layer_norm=shape.layer_norm)
        self.interest = HistoryAttention(loop) if found_dim else None

    def forward(
        self,
        state_features: Tensor,
        item_features: Tensor,
        mask: Tensor | None = None,  # noqa: ARG002
        history: History | None = None,
    ) -> Tensor:
        return self.outputs(state_features, item_features, history).squeeze(-1)

    def outputs(self, state_features: Tensor, item_features: Tensor, history: History | None) -> Tensor:
        """What the network of both gives, [B, N, out_dim]."""
        first = self.joint.first
        of_state, of_pair = torch.split(first.weight, [self._dims[0], sum(self._dims[1:])], dim=1)
        hidden = self._pairs(state_features, item_features, history) @ of_pair.T
        hidden = hidden + functional.linear(state_features, of_state, first.bias).unsqueeze(1)
        return self.joint.after_first(hidden)

    def _pairs(self, state_features: Tensor, item_features: Tensor, history: History | None) -> Tensor:
        """What is read of items in states, [B, N, Fi + d], or [B, N, Fi + d + F · d]."""
        u, v = self._summed(state_features, 0).unsqueeze(1), self._summed(item_features, 1)  # [B, 1, d], [B, N, d]
        if self.interest is None:
            return torch.cat([item_features, v * u], dim=-1)
        assert history is not None, "the state has one"
        z = self.interest(item_features, history)  # [B, N, F · d]
        u = u + z.unflatten(-1, (-1, self._dims[2])).sum(dim=-2)
        return torch.cat([item_features, v * u, z], dim=-1)

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
        super().__init__(loop, state_dim, item_dim, dim, attends=True)
        self.attention = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, 1)

    def forward(
        self, state_features: Tensor, item_features: Tensor, mask: Tensor | None = None, history: History | None = None
    ) -> Tensor:
        h = self.outputs(state_features, item_features, history)  # [B, N, D]
        q, k, v = self.attention(h).chunk(3, dim=-1)
        seen = h + attend(q, k, v, mask)
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
