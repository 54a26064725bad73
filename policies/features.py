"""What a context and an item's features become: slots (rows of embedding tables) and numbers.

Encoding is on the ranker's hot path: every feature is compiled to one closure when a policy is loaded, and a request
costs one dictionary look-up and one call a value.

A number is clipped to its range and brought to [0, 1]: (x − low) / (max − low), or with `scale = "log"`
log1p(x − low) / log1p(max − low). One without a max stays as it is (log: log1p(x − low)), as do the numbers of a
vector; the network scales those as data come. Category slots are 0 for unknown or absent, else from 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from policies.feature_values import (
    FeatureError,
    Write,
    categories_write,
    category_index,
    category_write,
    item_id_index,
    items_write,
    number_write,
    vector_write,
)
from schemas.loop_file import Loop
from schemas.sections import CategoriesFeature, CategoryFeature, ItemsFeature, NumberFeature, VectorFeature

__all__ = ["Encoded", "FeatureError", "ItemEncoder", "Layout", "StateEncoder", "Table", "network_layouts"]

ITEM_ID_TABLE = "item.id"

_Feature: TypeAlias = NumberFeature | CategoryFeature | CategoriesFeature | VectorFeature | ItemsFeature


@dataclass(frozen=True, slots=True)
class Table:
    """Which slots index the embedding table `name`; two entries of one name share it.

    Pooled: the mean of the rows of the slots that are not 0; the zero vector where all are.
    """

    name: str
    cardinality: int
    slots: slice
    pooled: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """The shape of an encoded state or item; `tables` lie in the order of their slots."""

    tables: tuple[Table, ...]
    num_slots: int
    num_numbers: int
    scaled_by_data: tuple[bool, ...]
    """For each number, whether it has no range to be scaled by."""


class Encoded(msgspec.Struct, frozen=True, gc=False):
    slots: list[int]  # [S]
    numbers: list[float]  # [G]
    num_clipped: int
    num_unknown: int


class _Encoder:
    """Features of one section of the loop file, compiled."""

    def __init__(self, section: str, features: Mapping[str, _Feature], item_id: CategoryFeature | None) -> None:
        self._section = section
        self._writes: dict[str, Write] = {}
        self._tables: list[Table] = []
        self._slots: list[int] = []
        self._numbers: list[float] = []
        scaled: list[bool] = []
        for name, feature in features.items():
            if isinstance(feature, NumberFeature):
                self._add_number(name, feature, scaled)
            elif isinstance(feature, VectorFeature):
                self._writes[name] = vector_write(name, feature.dim, len(self._numbers))
                self._numbers += [0.0] * feature.dim
                scaled += [True] * feature.dim
            else:
                self._add_slots(name, feature, item_id)
        self.layout = Layout(tuple(self._tables), len(self._slots), len(self._numbers), tuple(scaled))

    def _add_number(self, name: str, feature: NumberFeature, scaled: list[bool]) -> None:
        write = number_write(name, feature, len(self._numbers))
        self._writes[name] = write
        self._numbers.append(0.0)
        write(0.0, self._slots, self._numbers, [0, 0])  # a missing number is 0, clipped to its range
        scaled.append(feature.max is None)

    def _add_slots(self, name: str, feature: CategoryFeature | ItemsFeature, item_id: CategoryFeature | None) -> None:
        at = len(self._slots)
        if isinstance(feature, ItemsFeature):
            assert item_id is not None, "the loop file makes sure of it"
            self._writes[name] = items_write(name, feature.length, item_id_index(item_id), at)
            table, cardinality, length = ITEM_ID_TABLE, item_id.cardinality, feature.length
        elif isinstance(feature, CategoriesFeature):
            self._writes[name] = categories_write(name, feature.length, category_index(feature), at)
            table, cardinality, length = f"{self._section}.{name}", feature.cardinality, feature.length
        else:
            self._writes[name] = category_write(name, category_index(feature), at)
            table, cardinality, length = f"{self._section}.{name}", feature.cardinality, 1
        pooled = isinstance(feature, ItemsFeature | CategoriesFeature)
        self._tables.append(Table(table, cardinality, slice(at, at + length), pooled))
        self._slots += [0] * length

    def _encode(self, features: Mapping[str, object], slots: list[int], counts: list[int], *, lenient: bool) -> Encoded:
        numbers = self._numbers.copy()
        writes = self._writes
        for name, value in features.items():
            write = writes.get(name)
            try:
                if write is None:
                    raise self._unknown(name, value)
                if value is not None:
                    write(value, slots, numbers, counts)
            except FeatureError:
                if not lenient:
                    raise
        return Encoded(slots, numbers, counts[0], counts[1])

    def _unknown(self, name: str, value: object) -> FeatureError:
        if self._section == "item" and name == "id":
            return FeatureError((name,), "is filled from item_id; leave it out", value)
        known = ", ".join(self._writes) or "no features"
        return FeatureError((name,), f"is not known; [{self._section}] of the loop file has {known}", value)


class StateEncoder(_Encoder):
    """Contexts by the `[state]` section."""

    def __init__(self, loop: Loop) -> None:
        super().__init__("state", loop.state, _item_id(loop))

    def encode(self, context: Mapping[str, object] | None, *, lenient: bool = False) -> Encoded:
        """The encoded state; what is absent or null takes its default.

        Args:
            context: values by feature name.
            lenient: what does not fit takes its default too: for contexts stored under an older loop file.

        Raises:
            FeatureError: an unknown key, or a value of the wrong type.
        """
        return self._encode(context or {}, self._slots.copy(), [0, 0], lenient=lenient)


class ItemEncoder(_Encoder):
    """Items by the `[item]` section; the feature `id` is filled from the item's id."""

    def __init__(self, loop: Loop) -> None:
        super().__init__("item", loop.item, _item_id(loop))
        id_feature = _item_id(loop)
        self._index = None if id_feature is None else item_id_index(id_feature)
        self._id_slot = next((t.slots.start for t in self._tables if t.name == ITEM_ID_TABLE), -1)
        self._writes.pop("id", None)

    def encode(self, item_id: str, features: Mapping[str, object], *, lenient: bool = False) -> Encoded:
        """The encoded item; what is absent or null takes its default.

        Args:
            item_id: fills the feature `id`.
            features: values by feature name.
            lenient: what does not fit takes its default too: for items stored under an older loop file.

        Raises:
            FeatureError: an unknown key, `id`, or a value of the wrong type.
        """
        slots, counts = self._slots.copy(), [0, 0]
        if self._index is not None:
            slots[self._id_slot] = index = self._index(item_id)
            counts[1] = int(index == 0)
        return self._encode(features, slots, counts, lenient=lenient)


def network_layouts(loop: Loop) -> tuple[Layout, Layout]:
    """What the network reads of a state and of an item; for the action kind `weights` nothing of an item."""
    items = ItemEncoder(loop).layout if loop.action.kind == "slate" else Layout((), 0, 0, ())
    return StateEncoder(loop).layout, items


def _item_id(loop: Loop) -> CategoryFeature | None:
    feature = loop.item.get("id")
    assert feature is None or isinstance(feature, CategoryFeature), "the loop file makes sure of it"
    return feature
