"""An item table that was changed step by step is the one that is made at once."""

import copy
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from policies.networks import Floats, ItemVectors, SlateNetwork
from schemas.loop_file import Loop
from schemas.messages import Features
from service.catalogue import ItemTable, ItemTables, Policy
from tests.unit.service import made


@dataclass
class Item:
    item_id: str
    features: Features = field(default_factory=dict)
    deleted: bool = False


LOOP = made.slate_loop()
POLICY = made.policy(LOOP)


def table_of(items: list[Item], loop: Loop = LOOP, policy: Policy | None = POLICY) -> ItemTable:
    tables = ItemTables(loop)
    return tables.changed(tables.seen_by(tables.empty(), policy), items, policy)


def assert_same(one: ItemTable, other: ItemTable) -> None:
    """As sets of items: the order of rows is of no account."""
    assert sorted(one.ids) == sorted(other.ids)
    assert one.rows == {item_id: row for row, item_id in enumerate(one.ids)}
    rows = [other.rows[item_id] for item_id in one.ids]
    assert one.features == [other.features[row] for row in rows]
    np.testing.assert_array_equal(one.slots, other.slots[rows])
    np.testing.assert_array_equal(one.numbers, other.numbers[rows])
    assert isinstance(one.vectors, ItemVectors)
    assert isinstance(other.vectors, ItemVectors)
    np.testing.assert_allclose(one.vectors.vectors, other.vectors.vectors[:, rows], atol=1e-6)
    np.testing.assert_allclose(one.vectors.biases, other.vectors.biases[rows], atol=1e-6)


def items(num: int) -> list[Item]:
    return [Item(f"i{i}", {"price": float(i)}) for i in range(num)]


def test_items_put_later_are_as_if_put_at_once() -> None:
    tables = ItemTables(LOOP)
    table = tables.changed(table_of(items(3)), [Item("i1", {"price": 7.0}), Item("new", {"price": 1.0})], POLICY)
    expected = [*items(1), Item("i1", {"price": 7.0}), items(3)[2], Item("new", {"price": 1.0})]
    assert_same(table, table_of(expected))


def test_only_what_was_put_goes_through_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    table, num_items = table_of(items(5)), []
    real = SlateNetwork.item_vectors

    def counting(network: SlateNetwork, slots: NDArray[np.intp], numbers: Floats) -> ItemVectors:
        num_items.append(len(slots))
        return real(network, slots, numbers)

    monkeypatch.setattr(SlateNetwork, "item_vectors", counting)
    ItemTables(LOOP).changed(table, [Item("i1"), Item("i9")], POLICY)
    assert num_items == [2]


def test_deleted_items_are_gone_and_unknown_deletions_are_harmless() -> None:
    gone = [Item("i0", deleted=True), Item("i2", deleted=True), Item("never", deleted=True)]
    assert_same(ItemTables(LOOP).changed(table_of(items(4)), gone, POLICY), table_of([items(4)[1], items(4)[3]]))


def test_all_items_can_go_and_come_back() -> None:
    tables = ItemTables(LOOP)
    empty = tables.changed(table_of(items(2)), [Item("i0", deleted=True), Item("i1", deleted=True)], POLICY)
    assert len(empty) == 0
    assert_same(tables.changed(empty, items(2), POLICY), table_of(items(2)))


def test_until_a_change_is_committed_the_table_is_as_it_was() -> None:
    table = table_of(items(3))
    held, vectors = copy.deepcopy(table), table.vectors
    assert isinstance(vectors, ItemVectors)
    puts = [Item("i0", {"price": 9.0}), Item("i1", deleted=True), Item("i5"), Item("i2", deleted=True)]
    change = ItemTables(LOOP).change(table, puts, POLICY)
    assert_same(table, held)
    assert_same(change.commit(), table_of([Item("i0", {"price": 9.0}), Item("i5")]))
    assert isinstance(held.vectors, ItemVectors)
    np.testing.assert_array_equal(vectors.vectors, held.vectors.vectors)


def test_any_order_of_puts_and_deletions_gives_the_items_that_are_left() -> None:
    rng, tables, table = np.random.default_rng(0), ItemTables(LOOP), table_of([])
    left: dict[str, Item] = {}
    for _ in range(60):
        changes = {
            f"i{i}": Item(f"i{i}", {"price": float(p)}, bool(d)) for i, p, d in rng.integers((30, 9, 2), size=(9, 3))
        }
        table = tables.changed(table, [*changes.values()], POLICY)
        left = {item_id: item for item_id, item in (left | changes).items() if not item.deleted}
        assert_same(table, table_of([*left.values()]))


def test_another_policy_sees_the_same_items_by_its_own_vectors() -> None:
    other = made.policy(LOOP, made.random_tensors(LOOP, seed=1))
    assert_same(ItemTables(LOOP).seen_by(table_of(items(3)), other), table_of(items(3), policy=other))


def test_without_a_policy_there_are_no_vectors() -> None:
    assert table_of(items(2), policy=None).vectors is None


def test_features_that_no_longer_fit_the_loop_file_count_as_absent() -> None:
    table = table_of([Item("i1", {"price": "much", "colour": "red"})])
    np.testing.assert_array_equal(table.numbers, table_of([Item("i1")]).numbers)
    assert table.features == [{"price": "much", "colour": "red"}]


def test_for_weights_an_item_is_its_numbers_whatever_the_policy() -> None:
    loop = made.weights_loop()
    table = table_of([Item("a", {"taste": [1.0, 2.0]}), Item("b", {"taste": [3.0, 4.0]})], loop, policy=None)
    assert isinstance(table.vectors, ItemVectors)
    np.testing.assert_array_equal(table.vectors.vectors, [[1.0, 3.0], [2.0, 4.0]])
