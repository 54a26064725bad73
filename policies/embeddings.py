"""Embedding tables in numpy, and the features that networks read of states and items: `trainer.networks.Embeddings`."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policies.features import Layout
from schemas.loop_file import Loop

Floats: TypeAlias = NDArray[np.float32]
Tensors: TypeAlias = Mapping[str, Floats]

_ONE = np.float32(1.0)


def tensor(tensors: Tensors, name: str, shape: tuple[int, ...]) -> Floats:
    """The tensor of this name; raises ValueError where it is missing, or of another shape or type."""
    found = tensors.get(name)
    if found is None:
        raise ValueError(f"tensor {name} is missing")
    if found.shape != shape or found.dtype != np.float32:
        raise ValueError(f"tensor {name} is {found.dtype} {found.shape}; the loop file makes it float32 {shape}")
    return found


class EmbeddingRows:
    """All tables in one matrix, so that all slots of a state are one look-up."""

    def __init__(self, loop: Loop, tensors: Tensors, layouts: Sequence[Layout]) -> None:
        d = loop.network.embedding_dim
        cardinality = {table.name: table.cardinality for layout in layouts for table in layout.tables}
        tables = [tensor(tensors, f"embeddings.{name}", (n, d)) for name, n in cardinality.items()]
        self.matrix: Floats = np.concatenate(tables) if tables else np.zeros((0, d), np.float32)
        ends = np.cumsum([0, *cardinality.values()]).tolist()
        self.start = dict(zip(cardinality, ends, strict=False))


class Features:
    """Slots and numbers → the features that a tower reads: a vector a table, then the scaled numbers."""

    def __init__(self, rows: EmbeddingRows, tensors: Tensors, layout: Layout, part: str) -> None:
        self._rows = rows.matrix
        starts = [rows.start[t.name] for t in layout.tables for _ in range(t.slots.start, t.slots.stop)]
        single = [not t.pooled for t in layout.tables for _ in range(t.slots.start, t.slots.stop)]
        self._offsets = np.array(starts, np.intp)  # [S]
        self._single = np.array(single, np.bool_)  # [S]
        self._has_pooled = not all(single)
        self._first_slots = np.array([t.slots.start for t in layout.tables], np.intp)  # [T]
        self._mean = tensor(tensors, f"embeddings.{part}_mean", (layout.num_numbers,))
        self._scale = tensor(tensors, f"embeddings.{part}_scale", (layout.num_numbers,))
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
        rows = self.rows(slots)
        if self._has_pooled:
            rows = self._pooled(rows, (slots != 0) | self._single)
        return np.concatenate((rows.reshape(*slots.shape[:-1], self.dim - scaled.shape[-1]), scaled), axis=-1)

    def rows(self, slots: NDArray[np.intp]) -> Floats:
        """The rows [..., S, d] of slots [..., S], each by itself."""
        return self._rows.take(slots + self._offsets, axis=0)

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
