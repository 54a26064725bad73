"""The policy registry: publish, promote, roll back, prune."""

import itertools
import math
import threading
import time

import pytest
from sqlalchemy import Engine

from schemas.manifest import PolicyManifest
from storage.registry import (
    Champion,
    NoPredecessorError,
    NotPromotableError,
    PolicyRegistry,
    PolicyRow,
    Published,
    UnknownPolicyError,
)


@pytest.fixture
def registry(engine: Engine) -> PolicyRegistry:
    ticks = itertools.count(1_000)
    return PolicyRegistry(engine, clock=lambda: float(next(ticks)))


def publish(registry: PolicyRegistry, version: str, state: Published = "published", **metrics: float) -> None:
    manifest = PolicyManifest(
        version=version,
        parent="parent",
        loop_hash="hash",
        created_at=float(ord(version[-1])),
        sha256={},
        metrics=metrics,
        revision=3,
        final_at=[],
    )
    registry.publish(manifest, state)


def promote_all(registry: PolicyRegistry, versions: str) -> None:
    for version in versions:
        publish(registry, version)
        assert registry.promote_unless_pinned(version)


def test_without_a_promotion_there_is_no_champion(registry: PolicyRegistry) -> None:
    publish(registry, "A")
    assert registry.champion() is None
    assert registry.listing() == [PolicyRow("A", "published", 65.0, "parent", {})]
    with pytest.raises(NoPredecessorError):
        registry.rollback()
    registry.unpin()
    assert registry.champion() is None


def test_versions_are_never_given_twice(registry: PolicyRegistry, engine: Engine) -> None:
    assert [registry.next_version(), registry.next_version()] == ["000001", "000002"]
    assert PolicyRegistry(engine, clock=lambda: 0.0).next_version() == "000003"


def test_rolling_back_goes_down_a_stack_and_pins(registry: PolicyRegistry) -> None:
    promote_all(registry, "ABC")
    assert registry.champion() == Champion("C", pinned=False)
    assert registry.rollback() == "B"
    assert registry.champion() == Champion("B", pinned=True)
    assert registry.rollback() == "A"
    with pytest.raises(NoPredecessorError):
        registry.rollback()
    assert registry.champion() == Champion("A", pinned=True)


def test_a_promotion_after_a_rollback_stands_on_the_one_rolled_back_to(registry: PolicyRegistry) -> None:
    promote_all(registry, "ABC")
    registry.rollback()
    publish(registry, "D")
    registry.promote("D", pinned=False)
    assert registry.rollback() == "B"
    assert registry.rollback() == "A"


def test_the_learner_does_not_promote_while_the_champion_is_pinned(registry: PolicyRegistry) -> None:
    promote_all(registry, "AB")
    registry.promote("A", pinned=True)
    publish(registry, "C")
    assert not registry.promote_unless_pinned("C")
    assert registry.champion() == Champion("A", pinned=True)
    registry.unpin()
    assert registry.champion() == Champion("A", pinned=False)
    assert registry.promote_unless_pinned("C")
    assert registry.champion() == Champion("C", pinned=False)


def test_promoting_the_champion_again_only_pins_it(registry: PolicyRegistry) -> None:
    promote_all(registry, "AB")
    registry.promote("B", pinned=True)
    registry.promote("B", pinned=True)
    assert registry.champion() == Champion("B", pinned=True)
    assert registry.rollback() == "A"


def test_what_cannot_serve_is_not_promoted(registry: PolicyRegistry) -> None:
    promote_all(registry, "AB")
    publish(registry, "C", "rejected")
    publish(registry, "D")
    assert registry.mark_pruned(["D"]) == ["D"]
    with pytest.raises(UnknownPolicyError, match="'Z'"):
        registry.promote("Z", pinned=True)
    with pytest.raises(NotPromotableError, match="gate rejected it"):
        registry.promote("C", pinned=True)
    with pytest.raises(NotPromotableError, match="pruned"):
        registry.promote_unless_pinned("D")
    assert registry.champion() == Champion("B", pinned=False)


def test_the_listing_is_newest_first_with_the_champion_always(registry: PolicyRegistry) -> None:
    publish(registry, "A", loss=1.5, diverged=math.nan)
    promote_all(registry, "BCD")
    publish(registry, "E", "rejected")
    registry.promote("A", pinned=True)
    registry.mark_pruned(["B"])
    assert [(row.version, row.state) for row in registry.listing()] == [
        ("E", "rejected"),
        ("D", "published"),
        ("C", "published"),
        ("B", "pruned"),
        ("A", "champion"),
    ]
    assert [row.version for row in registry.listing(limit=2)] == ["E", "D", "A"]
    assert registry.listing()[-1].metrics == {"loss": 1.5, "diverged": None}


def test_publishing_again_changes_nothing(registry: PolicyRegistry) -> None:
    publish(registry, "A", loss=1.0)
    publish(registry, "A", "rejected", loss=2.0)
    assert registry.listing() == [PolicyRow("A", "published", 65.0, "parent", {"loss": 1.0})]


def test_prunable_are_those_that_nobody_can_need(registry: PolicyRegistry) -> None:
    promote_all(registry, "ABCDE")
    publish(registry, "F", "rejected")
    registry.promote("A", pinned=True)  # the one before it is E
    assert registry.prunable(keep=1) == ["D", "C", "B"]
    assert registry.mark_pruned(registry.prunable(keep=1)) == ["B", "C", "D"]
    assert registry.prunable(keep=1) == []
    assert registry.prunable(keep=0) == ["F"]
    assert registry.mark_pruned([]) == []


def test_what_was_promoted_after_it_was_found_prunable_is_not_marked(registry: PolicyRegistry) -> None:
    promote_all(registry, "ABCD")
    prunable = registry.prunable(keep=0)
    assert prunable == ["B", "A"]
    registry.promote("A", pinned=True)
    assert registry.mark_pruned([*prunable, "C"]) == ["B", "C"]
    assert registry.champion() == Champion("A", pinned=True)


def test_rolling_back_to_files_that_are_gone_is_refused(registry: PolicyRegistry) -> None:
    promote_all(registry, "ABC")
    assert registry.mark_pruned(["A"]) == ["A"]
    assert registry.rollback() == "B"
    with pytest.raises(NoPredecessorError, match="files of A"):
        registry.rollback()


def test_a_pin_by_hand_and_the_learner_never_cross(registry: PolicyRegistry) -> None:
    publish(registry, "A")
    publish(registry, "B")
    stop = threading.Event()

    def learn() -> None:
        while not stop.is_set():
            registry.promote_unless_pinned("B")
            time.sleep(0.001)

    thread = threading.Thread(target=learn)
    thread.start()
    try:
        for _ in range(20):
            registry.promote("A", pinned=True)
            assert registry.champion() == Champion("A", pinned=True)
            registry.unpin()
    finally:
        stop.set()
        thread.join()
