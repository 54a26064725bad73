"""Which impressions make a minibatch."""

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas import kinds
from schemas.kinds import AgentKind
from tests.unit.replay.worlds import slate_loop
from trainer.replay.columns import RowShape
from trainer.replay.index_set import IndexSet
from trainer.replay.sampler import Sampler


class Impressions:
    """Codes 0 … 99, of which those given to `enter` are ready."""

    def __init__(self) -> None:
        self.sampler = Sampler(slate_loop(size=1), RowShape(1, 1, 1, 4, 0), np.random.default_rng(0))
        self.ready = IndexSet(100)
        self.sampled = np.zeros(100, np.bool_)

    def enter(self, *codes: int) -> None:
        self.sampler.put(self.ready.set_members(np.array(codes), np.ones(len(codes), np.bool_)))

    def draw(self, size: int) -> NDArray[np.int64] | None:
        codes = self.sampler.draw(size, self.ready, lambda codes: self.sampled[codes])
        if codes is not None:
            self.sampled[codes] = True
        return codes


@pytest.fixture
def off_policy() -> Impressions:
    return Impressions()


@pytest.fixture
def on_policy(monkeypatch: pytest.MonkeyPatch) -> Impressions:
    monkeypatch.setitem(kinds.AGENTS, "dqn", AgentKind(("slate",), on_policy=True))
    return Impressions()


def test_off_policy_half_are_new_and_the_others_any(off_policy: Impressions) -> None:
    off_policy.enter(*range(4))
    assert off_policy.draw(5) is None
    off_policy.draw(4)
    off_policy.enter(50, 51)
    codes = off_policy.draw(6)
    assert codes is not None
    assert len(codes) == 6
    assert {50, 51} <= set(codes.tolist()) <= {0, 1, 2, 3, 50, 51}


def test_on_policy_each_is_taken_once_and_what_was_left_is_too_old(on_policy: Impressions) -> None:
    on_policy.enter(0, 1, 2)
    assert on_policy.draw(4) is None
    on_policy.enter(3, 4, 5)
    codes = on_policy.draw(4)
    assert codes is not None
    assert {3, 4, 5} < set(codes.tolist())
    assert len(codes) == 4
    assert on_policy.draw(1) is None
    on_policy.enter(6)
    assert on_policy.draw(1) == [6]


def test_on_policy_what_is_no_longer_ready_is_left_out(on_policy: Impressions) -> None:
    on_policy.enter(0, 1)
    on_policy.ready.set_members(np.array([0]), np.array([False]))
    assert on_policy.draw(2) == [1]
    on_policy.enter(2)
    on_policy.ready.set_members(np.array([2]), np.array([False]))
    assert on_policy.draw(1) is None
