"""The policy's network in numpy: what the ranker acts by. `trainer.networks` is the same in torch.

Tensors go by the names that the trainer exports: `embeddings.<table>` [cardinality, d], `embeddings.state_mean`, …,
`head.state_tower.hidden.0.weight`, …. Everything is float32.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policies.features import Layout, network_layouts
from schemas.loop_file import Loop
from schemas.sections import WeightsAction

Floats: TypeAlias = NDArray[np.float32]
Tensors: TypeAlias = Mapping[str, Floats]

_LAYER_NORM_EPSILON = np.float32(1e-5)
_ZERO, _ONE = np.array(0.0, np.float32), np.float32(1.0)  # an array, as a scalar would be made one at each use
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
        rows = _EmbeddingRows(loop, tensors, (state_layout, item_layout))
        self._state_features = _Features(rows, tensors, state_layout, "state")
        self._item_features = _Features(rows, tensors, item_layout, "item")
        self.items_see_each_other = loop.network.interaction == "attention"
        self._head = _HEADS[loop.network.interaction](loop, tensors, self._state_features, self._item_features)

    def state_vectors(self, slots: ArrayLike, numbers: ArrayLike) -> Floats:
        """The vectors [..., D] of states with slots [..., S] and numbers [..., G]; `scores` takes one of them."""
        return self._head.state_vectors(self._state_features(slots, numbers))

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

    def scores(self, state_vector: Floats, items: ItemVectors) -> Floats:
        """The scores [N] of the items in the state of this vector."""
        return self._head.scores(state_vector, items)


class _Towers:
    """s · v + b"""

    def __init__(self, loop: Loop, tensors: Tensors, state: "_Features", item: "_Features") -> None:
        shape, d = loop.network, loop.network.vector_dim
        self.item_dim = d
        self._state = _Mlp(tensors, "head.state_tower", (state.dim, *shape.hidden, d), shape.layer_norm)
        self._item = _Mlp(tensors, "head.item_tower", (item.dim, *shape.hidden, d + 1), shape.layer_norm)

    def state_vectors(self, features: Floats) -> Floats:
        """The vectors s [..., D] of features [..., Fs]."""
        return self._state(features)

    def write(self, features: Floats, vectors: Floats, biases: Floats) -> None:
        """Vectors v [D, N] and biases b [N] of items with features [N, Fi], into their places."""
        out = self._item(features)  # [N, D + 1]
        vectors[:] = out[:, :-1].T
        biases[:] = out[:, -1]

    def scores(self, state_vector: Floats, items: ItemVectors) -> Floats:
        scores: Floats = state_vector.dot(items.vectors)
        scores += items.biases
        return scores


class _Joint:
    """mlp(state features, item features, u ∘ v), u and v the sums of the state's and of the item's embeddings.

    Its first layer is Ws s + b, which is made once a state, Wi i, which is made once an item, and Wp diag(u) v.
    """

    def __init__(self, loop: Loop, tensors: Tensors, state: "_Features", item: "_Features", out_dim: int = 1) -> None:
        shape, self._d = loop.network, loop.network.embedding_dim
        dims = (state.dim + item.dim + self._d, *shape.hidden, out_dim)
        self._mlp = _Mlp(tensors, "head.joint", dims, shape.layer_norm)
        weight, self._bias = self._mlp.linears[0]  # [Fs + Fi + d, H], [H]
        self._of_state, self._of_item, self._of_product = np.split(weight, [state.dim, state.dim + item.dim])
        self._state, self._item = state, item
        self._width = len(self._bias)
        self.item_dim = self._width + self._d

    def state_vectors(self, features: Floats) -> Floats:
        """Ws s + b [..., H], then u [..., d]."""
        return np.concatenate((features @ self._of_state + self._bias, self._state.summed(features)), axis=-1)

    def write(self, features: Floats, vectors: Floats, biases: Floats) -> None:  # noqa: ARG002 its items have no bias
        """Wi i [H, N] above v [d, N] of items with features [N, Fi], into their place."""
        vectors[: self._width] = (features @ self._of_item).T
        vectors[self._width :] = self._item.summed(features).T

    def scores(self, state_vector: Floats, items: ItemVectors) -> Floats:
        return self.outputs(state_vector, items)[:, 0]

    def outputs(self, state_vector: Floats, items: ItemVectors) -> Floats:
        """What the network of both gives, [N, out_dim]."""
        of_state, u = state_vector[: self._width], state_vector[self._width :]
        first = items.vectors[self._width :].T @ (u[:, None] * self._of_product)  # [N, H]
        first += items.vectors[: self._width].T
        first += of_state
        return self._mlp.after_first(first)


class _Attention(_Joint):
    """The joint network's vectors h [N, D], to which one self-attention layer adds; then w · relu(·) + b."""

    def __init__(self, loop: Loop, tensors: Tensors, state: "_Features", item: "_Features") -> None:
        d = loop.network.vector_dim
        super().__init__(loop, tensors, state, item, d)
        self._qkv = _Mlp.linear(tensors, "head.attention", d, 3 * d)
        self._out = _Mlp.linear(tensors, "head.out", d, 1)

    def scores(self, state_vector: Floats, items: ItemVectors) -> Floats:
        h = self.outputs(state_vector, items)  # [N, D]
        q, k, v = np.split(h @ self._qkv[0] + self._qkv[1], 3, axis=1)
        weights: Floats = q @ k.T / np.float32(math.sqrt(h.shape[1]))  # [N, N]
        weights -= weights.max(axis=1, keepdims=True, initial=-np.inf)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=1, keepdims=True)
        h += weights @ v
        scores: Floats = np.maximum(h, _ZERO) @ self._out[0][:, 0] + self._out[1]
        return scores


_HEADS: Mapping[str, type[_Towers | _Joint | _Attention]] = {"dot": _Towers, "mlp": _Joint, "attention": _Attention}


class ActorNetwork:
    """The action vector of a state, for the action kind `weights`."""

    def __init__(self, loop: Loop, tensors: Tensors) -> None:
        """Raises ValueError: a tensor is missing, or its shape or type is not what the loop file makes of it."""
        assert isinstance(loop.action, WeightsAction)
        state_layout, _ = network_layouts(loop)
        rows = _EmbeddingRows(loop, tensors, (state_layout,))
        self._features = _Features(rows, tensors, state_layout, "state")
        dims = (self._features.dim, *loop.network.hidden, loop.action.dim)
        self._tower = _Mlp(tensors, "head.tower", dims, loop.network.layer_norm)

    def action(self, slots: ArrayLike, numbers: ArrayLike) -> Floats:
        """The action [A] in [−1, 1] in a state with slots [S] and numbers [G]."""
        return np.tanh(self._tower(self._features(slots, numbers)))


class _EmbeddingRows:
    """All tables in one matrix, so that all slots of a state are one look-up."""

    def __init__(self, loop: Loop, tensors: Tensors, layouts: Sequence[Layout]) -> None:
        d = loop.network.embedding_dim
        cardinality = {table.name: table.cardinality for layout in layouts for table in layout.tables}
        tables = [_tensor(tensors, f"embeddings.{name}", (n, d)) for name, n in cardinality.items()]
        self.matrix: Floats = np.concatenate(tables) if tables else np.zeros((0, d), np.float32)
        ends = np.cumsum([0, *cardinality.values()]).tolist()
        self.start = dict(zip(cardinality, ends, strict=False))


class _Features:
    """Slots and numbers → the features that a tower reads: a vector a table, then the scaled numbers."""

    def __init__(self, rows: _EmbeddingRows, tensors: Tensors, layout: Layout, part: str) -> None:
        self._rows = rows.matrix
        starts = [rows.start[t.name] for t in layout.tables for _ in range(t.slots.start, t.slots.stop)]
        single = [not t.pooled for t in layout.tables for _ in range(t.slots.start, t.slots.stop)]
        self._offsets = np.array(starts, np.intp)  # [S]
        self._single = np.array(single, np.bool_)  # [S]
        self._has_pooled = not all(single)
        self._first_slots = np.array([t.slots.start for t in layout.tables], np.intp)  # [T]
        self._mean = _tensor(tensors, f"embeddings.{part}_mean", (layout.num_numbers,))
        self._scale = _tensor(tensors, f"embeddings.{part}_scale", (layout.num_numbers,))
        if not (self._scale > 0).all():
            raise ValueError(f"tensor embeddings.{part}_scale has entries that are not above 0")
        self._num_tables, self._d = len(layout.tables), self._rows.shape[1]
        self.dim = self._num_tables * self._d + layout.num_numbers

    def __call__(self, slots: ArrayLike, numbers: ArrayLike) -> Floats:
        """Features [..., F] of slots [..., S] and numbers [..., G]."""
        scaled: Floats = (np.asarray(numbers, np.float32) - self._mean) / self._scale
        if not self._num_tables:
            return scaled
        slots = np.asarray(slots, np.intp)
        rows = self._rows.take(slots + self._offsets, axis=0)  # [..., S, d]
        if self._has_pooled:
            rows = self._pooled(rows, (slots != 0) | self._single)
        return np.concatenate((rows.reshape(*slots.shape[:-1], self.dim - scaled.shape[-1]), scaled), axis=-1)

    def summed(self, features: Floats) -> Floats:
        """The sum [..., d] of the embeddings that features [..., F] begin with."""
        embedded = features[..., : self._num_tables * self._d]
        summed: Floats = embedded.reshape(*features.shape[:-1], self._num_tables, self._d).sum(axis=-2)
        return summed

    def _pooled(self, rows: Floats, kept: NDArray[np.bool_]) -> Floats:
        """The mean [..., T, d] over each table's slots of the rows [..., S, d] that are kept [..., S]."""
        weights = kept.astype(np.float32)
        sums: Floats = np.add.reduceat(rows * weights[..., None], self._first_slots, axis=-2)
        counts: Floats = np.add.reduceat(weights, self._first_slots, axis=-1)
        sums /= np.maximum(counts, _ONE)[..., None]
        return sums


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
                    _tensor(tensors, f"{name}.norms.{i}.{part}", (outer,)) for part in ("weight", "bias") if layer_norm
                ]
                self._norms.append((norms[0], norms[1]) if norms else None)

    @staticmethod
    def linear(tensors: Tensors, name: str, inner: int, outer: int) -> tuple[Floats, Floats]:
        """One layer alone: its weight [in, out] and its bias [out]."""
        weight = _tensor(tensors, f"{name}.weight", (outer, inner))
        return np.ascontiguousarray(weight.T), _tensor(tensors, f"{name}.bias", (outer,))

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


def _tensor(tensors: Tensors, name: str, shape: tuple[int, ...]) -> Floats:
    found = tensors.get(name)
    if found is None:
        raise ValueError(f"tensor {name} is missing")
    if found.shape != shape or found.dtype != np.float32:
        raise ValueError(f"tensor {name} is {found.dtype} {found.shape}; the loop file makes it float32 {shape}")
    return found
