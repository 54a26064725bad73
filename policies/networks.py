"""The policy's network in numpy: what the ranker acts by. `trainer.networks` is the same in torch.

Tensors go by the names that the trainer exports: `embeddings.<table>` [cardinality, d], `embeddings.state_mean`, …,
`head.state_tower.hidden.0.weight`, …. Everything is float32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policies.attention import HistoryAttention, attend, num_histories
from policies.embeddings import EmbeddingRows, Features, Floats, Tensors, tensor
from policies.features import network_layouts
from schemas.loop_file import Loop
from schemas.sections import WeightsAction

__all__ = ["ActorNetwork", "Floats", "ItemVectors", "SlateNetwork", "Tensors"]

_LAYER_NORM_EPSILON = np.float32(1e-5)
_ZERO = np.array(0.0, np.float32)  # an array, as a scalar would be made one at each use
_ITEMS_AT_ONCE = 8_192  # bounds the memory that making the vectors of a large catalogue takes


@dataclass(frozen=True, slots=True)
class ItemVectors:
    """What the item tower made of N items; [D, N] because a product with it reads memory in order."""

    vectors: Floats  # [D, N], contiguous
    biases: Floats  # [N]

    def __len__(self) -> int:
        return len(self.biases)

    def take(self, indices: Sequence[int] | NDArray[np.integer]) -> "ItemVectors":
        """Those of some of the items, in the order of `indices`."""
        return ItemVectors(self.vectors.take(indices, axis=1), self.biases.take(indices))


class SlateNetwork:
    """Scores of items in a state, by what `[network] interaction` names: two towers, or one network of both."""

    def __init__(self, loop: Loop, tensors: Tensors) -> None:
        """Raises ValueError: a tensor is missing, or its shape or type is not what the loop file makes of it."""
        state_layout, item_layout = network_layouts(loop)
        rows = EmbeddingRows(loop, tensors, (state_layout, item_layout))
        self._state_features = Features(rows, tensors, state_layout, "state")
        self._item_features = Features(rows, tensors, item_layout, "item")
        self._head = _HEADS[loop.network.interaction](loop, tensors, self._state_features, self._item_features)
        self.scores_a_pick = self._head.scores_a_pick
        """How many items are scored in the time in which the vector of one is picked out; 0 where items see each other,
        so that only those of one request may be scored together.
        """

    def state_vectors(self, slots: ArrayLike, numbers: ArrayLike) -> Floats:
        """The vectors [..., D] of states with slots [..., S] and numbers [..., G]."""
        return self._head.state_vectors(self._state_features(slots, numbers), slots)

    def item_vectors(self, slots: ArrayLike, numbers: ArrayLike) -> ItemVectors:
        """The vectors and biases of N items with slots [N, Si] and numbers [N, Gi]."""
        slots, numbers = np.asarray(slots, np.intp), np.asarray(numbers, np.float32)
        n = len(slots)
        made = ItemVectors(np.empty((self._head.item_dim, n), np.float32), np.zeros(n, np.float32))
        for start in range(0, n, _ITEMS_AT_ONCE):
            some = slice(start, start + _ITEMS_AT_ONCE)
            features = self._item_features(slots[some], numbers[some])
            self._head.write(features, made.vectors[:, some], made.biases[some])
        return made

    def scores(self, state_vectors: Floats, items: ItemVectors) -> Floats:
        """The scores [..., N] of the items in the states of these vectors [..., D]."""
        return self._head.scores(state_vectors, items)


class _Towers:
    """s · v + b"""

    scores_a_pick = 32

    def __init__(self, loop: Loop, tensors: Tensors, state: Features, item: Features) -> None:
        shape, d = loop.network, loop.network.vector_dim
        self.item_dim = d
        self._state = _Mlp(tensors, "head.state_tower", (state.dim, *shape.hidden, d), shape.layer_norm)
        self._item = _Mlp(tensors, "head.item_tower", (item.dim, *shape.hidden, d + 1), shape.layer_norm)

    def state_vectors(self, features: Floats, slots: ArrayLike) -> Floats:  # noqa: ARG002 its features are enough
        """The vectors s [..., D] of features [..., Fs]."""
        return self._state(features)

    def write(self, features: Floats, vectors: Floats, biases: Floats) -> None:
        """Vectors v [D, N] and biases b [N] of items with features [N, Fi], into their places."""
        out = self._item(features)  # [N, D + 1]
        vectors[:] = out[:, :-1].T
        biases[:] = out[:, -1]

    def scores(self, state_vectors: Floats, items: ItemVectors) -> Floats:
        scores: Floats = state_vectors.dot(items.vectors)
        scores += items.biases
        return scores


class _Joint:
    """mlp(state features, item features, u ∘ v), u and v the sums of the state's and of the item's embeddings.

    Its first layer is Ws s + b, which is made once a state, Wi i, which is made once an item, and Wp diag(u) v.
    """

    scores_a_pick = 2

    def __init__(
        self, loop: Loop, tensors: Tensors, state: Features, item: Features, *, out_dim: int = 1, found_dim: int = 0
    ) -> None:
        shape, self._d = loop.network, loop.network.embedding_dim
        parts = (state.dim, item.dim, self._d, found_dim)
        self._mlp = _Mlp(tensors, "head.joint", (sum(parts), *shape.hidden, out_dim), shape.layer_norm)
        weight, self._bias = self._mlp.linears[0]  # [Fs + Fi + d + F · d, H], [H]
        self._of_state, self._of_item, self._of_product, self._of_found = np.split(weight, np.cumsum(parts[:-1]))
        self._state, self._item = state, item
        self._width = len(self._bias)
        self.item_dim = self._width + self._d

    def state_vectors(self, features: Floats, slots: ArrayLike) -> Floats:  # noqa: ARG002
        """Ws s + b [..., H], then u [..., d]."""
        return np.concatenate((features @ self._of_state + self._bias, self._state.summed(features)), axis=-1)

    def write(self, features: Floats, vectors: Floats, biases: Floats) -> None:  # noqa: ARG002 its items have no bias
        """Wi i [H, N] above v [d, N] of items with features [N, Fi], into their place."""
        vectors[: self._width] = (features @ self._of_item).T
        vectors[self._width :] = self._item.summed(features).T

    def scores(self, state_vectors: Floats, items: ItemVectors) -> Floats:
        if state_vectors.ndim > 1:  # all of them at once would take B · N · H numbers
            return np.stack([self.scores(each, items) for each in state_vectors])
        return self.of_state(state_vectors, items)

    def of_state(self, state_vector: Floats, items: ItemVectors) -> Floats:
        """The scores [N] in the state of one vector [D]."""
        return self.outputs(state_vector, items)[:, 0]

    def outputs(self, state_vector: Floats, items: ItemVectors) -> Floats:
        """What the network of both gives, [N, out_dim]."""
        first = self._of_pairs(state_vector[self._width :], items.vectors[self._width :])  # [N, H]
        first += items.vectors[: self._width].T
        first += state_vector[: self._width]
        return self._mlp.after_first(first)

    def _of_pairs(self, u: Floats, v: Floats) -> Floats:
        """Wp diag(u) v [N, H] of u [d] and v [d, N]."""
        return v.T @ (u[:, None] * self._of_product)


class _Attention(_Joint):
    """The joint network's vectors h [N, D], to which one self-attention layer adds; then w · relu(·) + b. Where the
    state has a history, the joint network also reads z, what the item finds there, and u + Σ z in place of u.
    """

    scores_a_pick = 0

    def __init__(self, loop: Loop, tensors: Tensors, state: Features, item: Features) -> None:
        d, e = loop.network.vector_dim, loop.network.embedding_dim
        found_dim = num_histories(loop) * e
        super().__init__(loop, tensors, state, item, out_dim=d, found_dim=found_dim)
        self._interest: HistoryAttention | None = None
        if found_dim:
            self._interest = HistoryAttention(loop, *_Mlp.linear(tensors, "head.interest.query", e, found_dim))
            self.item_dim += found_dim
        self._qkv = _Mlp.linear(tensors, "head.attention", d, 3 * d)
        self._out = _Mlp.linear(tensors, "head.out", d, 1)

    def state_vectors(self, features: Floats, slots: ArrayLike) -> Floats:
        """As of the joint network, then what `HistoryAttention.found` reads of states."""
        vectors = super().state_vectors(features, slots)
        if self._interest is None:
            return vectors
        slots = np.asarray(slots, np.intp)
        of_history = self._interest.of_states(self._state.rows(slots), slots)
        return np.concatenate((vectors, of_history), axis=-1)

    def write(self, features: Floats, vectors: Floats, biases: Floats) -> None:
        """As of the joint network, above the queries [F · d, N]."""
        shared = self._width + self._d
        super().write(features, vectors[:shared], biases)
        if self._interest is not None:
            vectors[shared:] = self._interest.queries(features).T

    def _of_pairs(self, u: Floats, v: Floats) -> Floats:
        if self._interest is None:
            return super()._of_pairs(u, v)
        z = self._interest.found(v[self._d :].T, u[self._d :])  # [N, F, d]
        pairs: Floats = (v[: self._d].T * (u[: self._d] + z.sum(axis=1))) @ self._of_product
        pairs += z.reshape(len(z), len(self._of_found)) @ self._of_found
        return pairs

    def of_state(self, state_vector: Floats, items: ItemVectors) -> Floats:
        h = self.outputs(state_vector, items)  # [N, D]
        q, k, v = np.split(h @ self._qkv[0] + self._qkv[1], 3, axis=1)
        h += attend(q, k, v)
        scores: Floats = np.maximum(h, _ZERO) @ self._out[0][:, 0] + self._out[1]
        return scores


_HEADS: Mapping[str, type[_Towers | _Joint | _Attention]] = {"dot": _Towers, "mlp": _Joint, "attention": _Attention}


class ActorNetwork:
    """The action vector of a state, for the action kind `weights`."""

    def __init__(self, loop: Loop, tensors: Tensors) -> None:
        """Raises ValueError: a tensor is missing, or its shape or type is not what the loop file makes of it."""
        assert isinstance(loop.action, WeightsAction)
        state_layout, _ = network_layouts(loop)
        rows = EmbeddingRows(loop, tensors, (state_layout,))
        self._features = Features(rows, tensors, state_layout, "state")
        dims = (self._features.dim, *loop.network.hidden, loop.action.dim)
        self._tower = _Mlp(tensors, "head.tower", dims, loop.network.layer_norm)

    def action(self, slots: ArrayLike, numbers: ArrayLike) -> Floats:
        """The action [A] in [−1, 1] in a state with slots [S] and numbers [G]."""
        return np.tanh(self._tower(self._features(slots, numbers)))


class _Mlp:
    """Hidden layers of Linear, LayerNorm (if asked for) and ReLU, then a Linear; `dims` are of all layers."""

    def __init__(self, tensors: Tensors, name: str, dims: Sequence[int], layer_norm: bool) -> None:
        self.linears: list[tuple[Floats, Floats]] = []  # [in, out], [out]
        self._norms: list[tuple[Floats, Floats] | None] = []
        num_hidden = len(dims) - 2
        for i, (inner, outer) in enumerate(pairwise(dims)):
            linear = f"{name}.hidden.{i}" if i < num_hidden else f"{name}.out"
            self.linears.append(self.linear(tensors, linear, inner, outer))
            if i < num_hidden:
                norms = [
                    tensor(tensors, f"{name}.norms.{i}.{part}", (outer,)) for part in ("weight", "bias") if layer_norm
                ]
                self._norms.append((norms[0], norms[1]) if norms else None)

    @staticmethod
    def linear(tensors: Tensors, name: str, inner: int, outer: int) -> tuple[Floats, Floats]:
        """One layer alone: its weight [in, out] and its bias [out]."""
        weight = tensor(tensors, f"{name}.weight", (outer, inner))
        return np.ascontiguousarray(weight.T), tensor(tensors, f"{name}.bias", (outer,))

    def __call__(self, x: Floats) -> Floats:
        """[..., in] → [..., out]."""
        weight, bias = self.linears[0]
        first = x.dot(weight)  # of one vector it takes half the time of `@`
        first += bias
        return self.after_first(first)

    def after_first(self, x: Floats) -> Floats:
        """What follows on the first linear layer's output [..., H], which is overwritten."""
        for norm, (weight, bias) in zip(self._norms, self.linears[1:], strict=True):
            hidden = x if norm is None else _normed(x, *norm)
            x = np.maximum(hidden, _ZERO, out=hidden).dot(weight)
            x += bias
        return x


def _normed(x: Floats, weight: Floats, bias: Floats) -> Floats:
    """LayerNorm over the last axis (Ba, Kiros, Hinton 2016), biased variance."""
    n = np.float32(x.shape[-1])
    mean: Floats = np.add.reduce(x, axis=-1, keepdims=True)
    mean /= n
    centred: Floats = x - mean
    variance: Floats = np.add.reduce(centred * centred, axis=-1, keepdims=True)
    variance /= n
    centred /= np.sqrt(variance + _LAYER_NORM_EPSILON)
    centred *= weight
    centred += bias
    return centred
