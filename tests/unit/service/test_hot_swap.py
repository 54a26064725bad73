"""The watchers, on a registry and a catalogue of this test's own."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from policies.features import StateEncoder
from policies.files import PolicyFileError, read_policy
from policies.networks import ItemVectors
from policies.policy import SlatePolicy
from schemas.messages import Features
from service.catalogue import ChangedItem, ItemTables, Policy
from service.hot_swap import RETRY_SECONDS, CatalogueWatcher, PolicyHandle, PolicyWatcher, StoreHealth
from service.indexed import IndexedVectors
from service.live import Live
from service.metrics import ServiceMetrics
from service.ranking import Serving
from storage.database import StoreUnavailableError
from storage.registry import Champion
from tests.unit.service import made

LOOP = made.slate_loop()


@dataclass
class Item:
    item_id: str
    features: Features = field(default_factory=dict)
    deleted: bool = False


class World:
    """A store and a folder of policies, both of which may be away."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self.now = 1_000.0
        self.version: str | None = None
        self.broken: set[str] = set()
        self.loads: list[str] = []
        self.is_away = False
        self.changes: list[tuple[int, Item]] = []
        self.registry = CollectorRegistry()
        metrics, live = ServiceMetrics(self.registry), Live(self.clock)
        tables = ItemTables(LOOP)
        self.handle = PolicyHandle(Serving(None, tables.empty(), ""))
        health = StoreHealth(metrics)
        self.policies = PolicyWatcher(
            self.handle,
            tables,
            champion=self.champion,
            load=self.load,
            default_state=StateEncoder(LOOP).encode(None),
            clock=self.clock,
            health=health,
            live=live,
            metrics=metrics,
        )
        self.catalogue = CatalogueWatcher(
            self.handle, tables, changed_since=self.changed_since, health=health, metrics=metrics
        )

    def clock(self) -> float:
        return self.now

    def champion(self) -> Champion | None:
        self._check()
        return None if self.version is None else Champion(self.version, pinned=False)

    def load(self, version: str) -> Policy:
        self.loads.append(version)
        if version in self.broken:
            raise PolicyFileError(f"{version} was altered")
        return made.policy(LOOP, made.random_tensors(LOOP, seed=int(version)), version=version)

    def changed_since(self, revision: int) -> tuple[Sequence[ChangedItem], int]:
        self._check()
        return [item for at, item in self.changes if at > revision], max([revision, *(at for at, _ in self.changes)])

    def _check(self) -> None:
        if self.is_away:
            raise StoreUnavailableError("the database is locked")

    def look(self) -> None:
        self._runner.run(self._look())

    async def _look(self) -> None:
        await asyncio.gather(self.policies.look(), self.catalogue.look())

    @property
    def serving(self) -> str | None:
        policy = self.handle.current().policy
        return None if policy is None else policy.version

    def count(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"steadyrank_{name}")


@pytest.fixture
def world() -> Iterator[World]:
    with asyncio.Runner() as runner:
        yield World(runner)


def assert_vectors_are_the_policys(world: World) -> None:
    serving = world.handle.current()
    fresh = ItemTables(LOOP).seen_by(serving.table, serving.policy)
    assert isinstance(fresh.vectors, ItemVectors)
    assert isinstance(serving.table.vectors, ItemVectors)
    assert (serving.table.vectors.vectors == fresh.vectors.vectors).all()


def test_the_champion_is_swapped_in_once(world: World) -> None:
    world.changes = [(1, Item("i1")), (1, Item("i2"))]
    world.version = "000001"
    world.look()
    world.look()
    assert (world.serving, world.loads, world.count("policy_swaps_total")) == ("000001", ["000001"], 1)
    world.version = "000002"
    world.look()
    assert (world.serving, world.count("policy_swaps_total")) == ("000002", 2)
    assert_vectors_are_the_policys(world)


def test_items_that_change_while_policies_do_are_seen_by_the_policy_that_serves(world: World) -> None:
    for i in range(1, 10):
        world.version = f"{i:06d}"
        world.changes.append((i, Item(f"i{i}", {"price": i})))
        world.look()
        assert len(world.handle.current().table) == i
        assert_vectors_are_the_policys(world)


def test_a_policy_that_cannot_be_loaded_leaves_the_old_one(world: World) -> None:
    world.version = "000001"
    world.look()
    world.version, world.broken = "000002", {"000002"}
    world.look()
    assert (world.serving, world.count("policy_failed_loads_total")) == ("000001", 1)


def test_it_is_tried_again_after_a_while_and_not_in_a_hot_loop(world: World) -> None:
    world.version, world.broken = "000001", {"000001"}
    for _ in range(5):
        world.look()
    assert world.loads == ["000001"]
    assert "000001 was altered" in world.handle.current().reason
    world.now += RETRY_SECONDS
    world.broken = set()
    world.look()
    assert (world.serving, world.handle.current().reason) == ("000001", "")


def test_another_champion_is_tried_at_once(world: World) -> None:
    world.version, world.broken = "000001", {"000001"}
    world.look()
    world.version = "000002"
    world.look()
    assert world.serving == "000002"


def test_while_the_store_is_away_all_goes_on(world: World) -> None:
    world.version = "000001"
    world.changes = [(1, Item("i1"))]
    world.look()
    world.is_away = True
    world.look()
    assert (world.serving, len(world.handle.current().table)) == ("000001", 1)
    assert world.count("store_failures_total") == 2
    world.is_away, world.version = False, "000002"
    world.look()
    assert world.serving == "000002"


def test_at_the_start_it_is_ready_once_it_has_looked_whatever_it_saw(world: World) -> None:
    assert not world.policies.has_looked
    assert not world.catalogue.looked.is_set()
    world.is_away = True
    world.look()
    assert world.policies.has_looked
    assert world.catalogue.looked.is_set()
    assert "away" in world.handle.current().reason
    world.is_away = False
    world.look()
    assert world.handle.current().reason == "no policy yet"


def test_deleted_items_go(world: World) -> None:
    world.changes = [(1, Item("i1")), (2, Item("i2"))]
    world.look()
    world.changes = [(3, Item("i1", deleted=True))]
    world.look()
    assert world.handle.current().table.ids == ["i2"]
    assert world.count("items") == 1


def test_many_changes_are_taken_over_a_few_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.hot_swap.COMMITTED_AT_ONCE", 3)
    world.version, world.changes = "000001", [(1, Item("i0"))]
    world.look()
    num_of: list[int] = []
    swap = world.handle.swap

    def swapping(serving: Serving) -> None:
        num_of.append(len(serving.table))
        swap(serving)

    monkeypatch.setattr(world.handle, "swap", swapping)
    world.changes += [(2, Item(f"i{i}", {"price": i})) for i in range(8)] + [(2, Item("i0", deleted=True))]
    world.look()
    assert num_of == [3, 6, 7]
    assert sorted(world.handle.current().table.ids) == [f"i{i}" for i in range(1, 8)]
    assert_vectors_are_the_policys(world)
    assert world.count("items") == 7


def test_policies_with_an_index_are_swapped_and_what_they_found_is_told(world: World, tmp_path: Path) -> None:
    """Old ones give back their memory, and answer all the same to whoever still holds them."""
    world.changes = [(1, Item(f"i{i}", {"price": i % 9})) for i in range(200)]
    put = [item for _, item in world.changes]
    load: Callable[[str], Policy] = lambda version: read_policy(tmp_path / version, LOOP)  # noqa: E731 (it stands in for a method)
    world.policies._load = load
    for number in range(1, 4):
        version, tensors = f"{number:06d}", made.random_tensors(LOOP, seed=number)
        made.write(tmp_path, LOOP, tensors, version=version, index=made.index_of(LOOP, put, tensors))
    held = []
    for number in range(1, 4):
        world.version = f"{number:06d}"
        world.look()
        held.append(world.handle.current())
        world.changes.append((1 + number, Item(f"new{number}", {"price": number})))
        world.look()
        assert (world.serving, len(world.handle.current().table)) == (world.version, 200 + number)
        assert world.count("index_recall") == pytest.approx(1.0, abs=0.02)
        vectors = world.handle.current().table.vectors
        assert isinstance(vectors, IndexedVectors)
        assert len(vectors.fresh) == number
    for number, serving in enumerate(held, 1):
        assert isinstance(serving.table.vectors, IndexedVectors)
        policy = made.policy(LOOP, made.random_tensors(LOOP, seed=number))
        assert isinstance(policy, SlatePolicy)
        expected = policy.item_vectors([policy.item_encoder.encode(item.item_id, item.features) for item in put])
        found = serving.table.vectors.take([serving.table.rows[item.item_id] for item in put])
        np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-6)
