"""The catalogue in memory, as one policy sees it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from policies.features import Encoded, ItemEncoder
from policies.networks import Floats, ItemVectors
from policies.policy import SlatePolicy, WeightsPolicy
from schemas.loop_file import Loop
from schemas.messages import Features

Policy = SlatePolicy | WeightsPolicy


class ChangedItem(Protocol):
    """What the store says of an item that was put or deleted."""

    @property
    def item_id(self) -> str: ...
    @property
    def features(self) -> Features: ...
    @property
    def deleted(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class ItemTable:
    """N items. Never changed once made: who holds one sees one state of the catalogue, by one policy."""

    ids: list[str]
    rows: dict[str, int]
    features: list[Features]
    slots: NDArray[np.intp]  # [N, Si]
    numbers: Floats  # [N, Gi]
    vectors: ItemVectors | None
    """By which items are scored, [D, N]; None while nothing can score them."""

    def __len__(self) -> int:
        return len(self.ids)


class ItemTables:
    """Makes item tables out of earlier ones."""

    def __init__(self, loop: Loop) -> None:
        self._encoder = ItemEncoder(loop)
        self._is_slate = loop.action.kind == "slate"

    def empty(self) -> ItemTable:
        layout = self._encoder.layout
        slots, numbers = np.empty((0, layout.num_slots), np.intp), np.empty((0, layout.num_numbers), np.float32)
        return ItemTable([], {}, [], slots, numbers, self._vectors(slots, numbers, None))

    def seen_by(self, table: ItemTable, policy: Policy | None) -> ItemTable:
        """The same items as another policy sees them."""
        return replace(table, vectors=self._vectors(table.slots, table.numbers, policy))

    def changed(self, table: ItemTable, items: Sequence[ChangedItem], policy: Policy | None) -> ItemTable:
        """`table` with `items` put and deleted, as `policy` sees them, by which `table` must be seen already: only
        what was put goes through the network. Of features, what no longer fits the loop file counts as absent.
        """
        put = [item for item in items if not item.deleted]
        table = self._with(table, put, policy) if put else table
        gone = [table.rows[item.item_id] for item in items if item.deleted and item.item_id in table.rows]
        return _without(table, gone) if gone else table

    def _with(self, table: ItemTable, items: Sequence[ChangedItem], policy: Policy | None) -> ItemTable:
        ids, rows, features = table.ids.copy(), table.rows.copy(), table.features.copy()
        for item in items:
            if rows.setdefault(item.item_id, len(ids)) == len(ids):
                ids.append(item.item_id)
                features.append(item.features)
            features[rows[item.item_id]] = item.features
        at = np.array([rows[item.item_id] for item in items], np.intp)
        slots, numbers = self._arrays([self._encoder.encode(i.item_id, i.features, lenient=True) for i in items])
        return ItemTable(
            ids,
            rows,
            features,
            _grown(table.slots, len(ids), at, slots),
            _grown(table.numbers, len(ids), at, numbers),
            _grown_vectors(table.vectors, len(ids), at, self._vectors(slots, numbers, policy)),
        )

    def _arrays(self, encoded: Sequence[Encoded]) -> tuple[NDArray[np.intp], Floats]:
        layout, n = self._encoder.layout, len(encoded)
        slots = np.array([each.slots for each in encoded], np.intp).reshape(n, layout.num_slots)
        return slots, np.array([each.numbers for each in encoded], np.float32).reshape(n, layout.num_numbers)

    def _vectors(self, slots: NDArray[np.intp], numbers: Floats, policy: Policy | None) -> ItemVectors | None:
        if not self._is_slate:
            return number_vectors(numbers)
        return policy.network.item_vectors(slots, numbers) if isinstance(policy, SlatePolicy) else None


def number_vectors(numbers: Floats) -> ItemVectors:
    """What a weight vector ranks items by: their encoded numbers [N, Gi], whatever the policy."""
    return ItemVectors(np.ascontiguousarray(numbers.T), np.zeros(len(numbers), np.float32))


def _grown(old: NDArray[Any], num: int, at: NDArray[np.intp], new: NDArray[Any]) -> NDArray[Any]:
    """A copy of `old` with `num` rows, those `at` from `new`."""
    grown = np.empty((num, *old.shape[1:]), old.dtype)
    grown[: len(old)] = old
    grown[at] = new
    return grown


def _grown_vectors(
    old: ItemVectors | None, num: int, at: NDArray[np.intp], new: ItemVectors | None
) -> ItemVectors | None:
    if old is None or new is None:
        return None
    vectors = np.empty((len(old.vectors), num), np.float32)
    vectors[:, : len(old)] = old.vectors
    vectors[:, at] = new.vectors
    return ItemVectors(vectors, _grown(old.biases, num, at, new.biases))


def _without(table: ItemTable, gone: Sequence[int]) -> ItemTable:
    kept = np.delete(np.arange(len(table)), gone)
    ids = [table.ids[row] for row in kept]
    return ItemTable(
        ids,
        {item_id: row for row, item_id in enumerate(ids)},
        [table.features[row] for row in kept],
        table.slots[kept],
        table.numbers[kept],
        None if table.vectors is None else table.vectors.take(kept),
    )
