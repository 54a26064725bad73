"""The catalogue: put, deleted, and seen by those that poll it."""

import itertools

import pytest
from sqlalchemy import Engine

from storage.catalogue import Catalogue, StoredItem


@pytest.fixture
def catalogue(engine: Engine) -> Catalogue:
    ticks = itertools.count(100)
    return Catalogue(engine, clock=lambda: float(next(ticks)))


def test_an_item_comes_back_as_it_was_put_last(catalogue: Catalogue) -> None:
    catalogue.upsert([("i1", {"price": 3.5, "tags": ["é", None]}), ("i2", {})])
    assert catalogue.get("i1") == StoredItem("i1", {"price": 3.5, "tags": ["é", None]}, 100.0, deleted=False)
    catalogue.upsert([("i1", {"price": 4}), ("i1", {"price": 5})])
    assert catalogue.get("i1") == StoredItem("i1", {"price": 5}, 101.0, deleted=False)
    assert catalogue.get("i2") == StoredItem("i2", {}, 100.0, deleted=False)
    assert catalogue.get("unknown") is None


def test_a_deleted_item_is_gone_also_the_second_time_and_can_come_back(catalogue: Catalogue) -> None:
    catalogue.upsert([("i1", {"price": 1}), ("i2", {})])
    catalogue.delete("i1")
    catalogue.delete("i1")
    catalogue.delete("unknown")
    assert catalogue.get("i1") is None
    assert catalogue.get("i2") is not None
    catalogue.upsert([("i1", {"price": 2})])
    back = catalogue.get("i1")
    assert back is not None
    assert back.features == {"price": 2}


def test_a_poller_sees_every_change_once(catalogue: Catalogue) -> None:
    assert catalogue.changed_since(0) == ([], 0)
    catalogue.upsert([("i1", {"price": 1}), ("i2", {})])
    changed, revision = catalogue.changed_since(0)
    assert [(item.item_id, item.deleted) for item in changed] == [("i1", False), ("i2", False)]
    assert catalogue.changed_since(revision) == ([], revision)

    catalogue.upsert([])
    catalogue.delete("i1")
    catalogue.upsert([("i3", {})])
    changed, later = catalogue.changed_since(revision)
    assert [(item.item_id, item.deleted) for item in changed] == [("i1", True), ("i3", False)]
    catalogue.delete("i1")  # deleted already: nothing changed
    assert catalogue.changed_since(later) == ([], later)


def test_ten_thousand_items_in_one_put(catalogue: Catalogue) -> None:
    catalogue.upsert([(f"i{n}", {"price": n}) for n in range(10_000)])
    changed, _ = catalogue.changed_since(0)
    assert {item.item_id: item.features["price"] for item in changed} == {f"i{n}": n for n in range(10_000)}
