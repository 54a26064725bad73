"""The catalogue in memory, as one policy sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from policies.features import Encoded, ItemEncoder
from policies.networks import Floats, ItemVectors
from policies.policy import SlatePolicy, WeightsPolicy
from schemas.loop_file import Loop
from schemas.messages import Features
from service.indexed import IndexedVectors, indexed_vectors

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
    """N items, as one policy sees them.

    The arrays never change. `ids`, `rows` and `features` belong to the newest table of a catalogue: copying a million
    entries would hold up requests, so the next table takes them over (`Change.commit`), and this one is used up.
    """

    ids: list[str]
    rows: dict[str, int]
    features: list[Features]
    slots: NDArray[np.intp]  # [N, Si]
    numbers: Floats  # [N, Gi]
    vectors: ItemVectors | IndexedVectors | None
    """By which items are scored, [D, N]; None while nothing can score them."""

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True, slots=True)
class Change:
    """Items put and deleted, as far as it can be done while the table that they are of goes on serving."""

    table: ItemTable
    """The next one, but for what `commit` does."""
    put: Mapping[str, Features]
    deleted: Sequence[str]
    """Known ones."""

    def commit(self) -> ItemTable:
        """The next table; takes half a microsecond an item. Where no request is half answered: on the event loop."""
        ids, rows, features = self.table.ids, self.table.rows, self.table.features
        for item_id, of_item in self.put.items():
            if rows.setdefault(item_id, len(ids)) == len(ids):
                ids.append(item_id)
                features.append(of_item)
            features[rows[item_id]] = of_item
        for item_id in self.deleted:
            row, last, of_last = rows.pop(item_id), ids.pop(), features.pop()
            if row < len(ids):  # the last one moves to its row
                ids[row], features[row], rows[last] = last, of_last, row
        return self.table


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
        """The same items as another policy sees them; both tables are good until one of them changes."""
        if isinstance(policy, SlatePolicy) and policy.index is not None:
            vectors = indexed_vectors(policy.index, policy, table.rows, table.slots, table.numbers)
            return replace(table, vectors=vectors)
        return replace(table, vectors=self._vectors(table.slots, table.numbers, policy))

    def changed(self, table: ItemTable, items: Sequence[ChangedItem], policy: Policy | None) -> ItemTable:
        """`table`, which is used up, with `items` put and deleted."""
        return self.change(table, items, policy).commit()

    def change(self, table: ItemTable, items: Sequence[ChangedItem], policy: Policy | None) -> Change:
        """What puts and deletes `items`, as `policy` sees them, by which `table` must be seen already: only what was
        put goes through the network. Of features, what no longer fits the loop file counts as absent.
        """
        put = {item.item_id: item.features for item in items if not item.deleted}
        deleted = [item.item_id for item in items if item.deleted and item.item_id in table.rows]
        if put:
            table = self._with(table, put, policy)
        return Change(_without(table, deleted, [*put]) if deleted else table, put, deleted)

    def _with(self, table: ItemTable, put: Mapping[str, Features], policy: Policy | None) -> ItemTable:
        new = count(len(table))
        at = np.array([table.rows[i] if i in table.rows else next(new) for i in put], np.intp)
        num = next(new)
        slots, numbers = self._arrays([self._encoder.encode(*item, lenient=True) for item in put.items()])
        return replace(
            table,
            slots=_grown(table.slots, num, at, slots),
            numbers=_grown(table.numbers, num, at, numbers),
            vectors=_grown_vectors(table.vectors, num, at, self._vectors(slots, numbers, policy)),
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
    old: ItemVectors | IndexedVectors | None, num: int, at: NDArray[np.intp], new: ItemVectors | None
) -> ItemVectors | IndexedVectors | None:
    if old is None or new is None:
        return None
    if isinstance(old, IndexedVectors):
        return old.put(num, at, new)
    vectors = np.empty((len(old.vectors), num), np.float32)
    vectors[:, : len(old)] = old.vectors
    vectors[:, at] = new.vectors
    return ItemVectors(vectors, _grown(old.biases, num, at, new.biases))


def _without(table: ItemTable, deleted: Sequence[str], put: Sequence[str]) -> ItemTable:
    """The rows as `Change.commit` will have moved them: in turn, the last row to that of each deleted one."""
    new = [item_id for item_id in put if item_id not in table.rows]
    order, moved = np.arange(len(table)), dict[str, int]()
    num = len(table)
    for item_id in deleted:
        row = moved.get(item_id, table.rows[item_id])
        num -= 1
        last = int(order[num])
        order[row] = last
        moved[table.ids[last] if last < len(table.ids) else new[last - len(table.ids)]] = row
    order = order[:num]
    vectors = table.vectors
    moved_vectors = vectors.take(order) if isinstance(vectors, ItemVectors) else vectors and vectors.moved(order)
    return replace(table, slots=table.slots[order], numbers=table.numbers[order], vectors=moved_vectors)
