"""Candidates and the catalogue: which items a next decision could have shown."""

import numpy as np
import pytest

from schemas.messages import Candidate
from tests.unit.replay.worlds import ReplayWorld, decided, shown, slate_loop
from trainer.replay import replay as replay_module


@pytest.fixture
def world() -> ReplayWorld:
    return ReplayWorld(slate_loop(size=1, max_candidates=4))


def candidates(world: ReplayWorld) -> list[tuple[int, float]]:
    """(category, price) of the newest decision's."""
    probe = world.replay.probe(1)
    return [
        (int(slot) - 1, float(price))
        for slot, price, real in zip(probe.item_slots[0, :, 0], probe.item_numbers[0, :, 0], probe.mask[0], strict=True)
        if real
    ]


def categories(world: ReplayWorld) -> list[int]:
    return [category for category, _ in candidates(world)]


def test_an_item_shown_has_its_logged_features_and_others_those_of_the_catalogue(world: ReplayWorld) -> None:
    world.catalogue.put("i1", {"kind": 1, "price": 99.0})
    world.admit(decided("a", 1.0, items=shown(1), candidates=["i1", "i2"]))
    assert candidates(world) == [(1, 1.0), (2, 2.0)]


def test_features_of_the_request_go_over_the_catalogue(world: ReplayWorld) -> None:
    requested = ["i1", Candidate("i2", {"price": 7.0}), Candidate("new", {"kind": 9}), "unknown"]
    world.admit(decided("a", 1.0, items=shown(1), candidates=requested))
    assert candidates(world) == [(1, 1.0), (2, 7.0), (9, 0.0), (-1, 0.0)]


def test_the_catalogue_is_followed(world: ReplayWorld) -> None:
    world.admit(decided("a", 1.0, items=shown(1), candidates=["i2", "i3"]))
    world.catalogue.put("i2", {"kind": 2, "price": 20.0})
    world.catalogue.put("i3", {}, deleted=True)
    world.admit(decided("b", 2.0, items=shown(1), candidates=["i2", "i3"]))
    assert candidates(world) == [(1, 1.0), (2, 20.0), (-1, 0.0)]


def test_an_item_that_does_not_encode_is_no_candidate(world: ReplayWorld) -> None:
    requested = ["i1", Candidate("i3", {"price": "much"}), "i4"]
    world.admit(decided("a", 1.0, items=shown(1), candidates=requested, loop_hash=world.loop.hash))
    assert categories(world) == [1, 4]


def test_what_an_older_loop_file_said_of_an_item_counts_as_far_as_it_fits(world: ReplayWorld) -> None:
    world.catalogue.put("i2", {"kind": 2, "colour": "red"})
    world.admit(decided("a", 1.0, items=shown(1), candidates=["i2"]))
    assert categories(world) == [1, 2]


def test_excluded_items_are_no_candidates(world: ReplayWorld) -> None:
    world.admit(decided("a", 1.0, items=shown(1), candidates=["i1", "i2", Candidate("i3")], exclude=["i2", "i3"]))
    assert categories(world) == [1]


def test_of_too_many_candidates_those_shown_stay_and_others_are_drawn(world: ReplayWorld) -> None:
    counts = np.zeros(10)
    for number in range(300):
        world.admit(decided(f"d{number}", float(number), items=shown(5), candidates=[f"i{k}" for k in range(10)]))
        found = categories(world)
        assert (len(found), found[0]) == (4, 5)
        assert len(set(found)) == 4
        counts[found[1:]] += 1
    assert counts[5] == 0
    assert np.delete(counts, 5).min() > 60  # 100 each on average, with a deviation of 8


def test_of_the_whole_catalogue_there_is_the_shortlist_and_a_sample() -> None:
    world = ReplayWorld(slate_loop(size=1, max_candidates=7))
    world.admit(decided("a", 1.0, items=shown(1), candidates=None, shortlist=["i1", "i2", "i3"], exclude=["i4"]))
    found = categories(world)
    assert found[:3] == [1, 2, 3]
    assert len(set(found)) == len(found) <= 7
    assert 4 not in found
    assert set(found[3:]) & {0, 5, 6, 7, 8, 9}
    world.catalogue.put("i0", {}, deleted=True)
    for number in range(50):
        world.admit(decided(f"d{number}", 2.0 + number, items=shown(1), candidates=None))
        assert 0 not in categories(world)


def test_a_long_shortlist_leaves_room_for_a_sample() -> None:
    world = ReplayWorld(slate_loop(size=1, max_candidates=5))
    world.admit(decided("a", 1.0, items=shown(1), candidates=None, shortlist=[f"i{k}" for k in range(2, 7)]))
    assert len(set(categories(world)[1:3]) & {2, 3, 4, 5, 6}) == 2


def test_a_small_catalogue_is_a_candidate_as_a_whole(world: ReplayWorld) -> None:
    for number in range(3, 10):
        world.catalogue.put(f"i{number}", {}, deleted=True)
    world.admit(decided("a", 1.0, items=shown(1), candidates=None))
    assert sorted(categories(world)) == [0, 1, 2]


def test_equal_items_share_a_row_and_unused_ones_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "_ITEM_SLACK", 0)
    world = ReplayWorld(slate_loop(size=1, max_candidates=4), capacity=10)
    table = world.replay._items.table
    for number in range(500):
        requested = ["i3", Candidate("i2", {"price": 1_000.0 + number})]
        world.admit(decided(f"d{number}", float(number), items=shown(1), candidates=requested))
        assert candidates(world) == [(1, 1.0), (3, 3.0), (2, 1_000.0 + number)]
    assert (
        len(table) <= 2 * (1 + 10 + 10) + 1
    )  # the padding, the catalogue, one a decision, twice before it is compacted
    prices = world.replay.probe(10).item_numbers[:, 2, 0]
    assert prices.tolist() == [1_499.0 - k for k in range(10)]
