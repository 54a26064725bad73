"""The product's own ranker and learner beat the random policy where the truth is known.

These are floors, far below what studies/RESULTS.md shows: they fail when learning breaks, not when luck is bad.
"""

import numpy as np
import pytest
import torch

from schemas.kinds import STABILIZERS
from simulators.shop import Dials, Shop
from simulators.world import random_reward
from studies.online import OnlineRun, changed


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.parametrize("stabilizer", STABILIZERS)
def test_the_shop_is_learned_with_every_stabilizer(stabilizer: str) -> None:
    shop = Shop(3)
    curve = OnlineRun(shop, changed(shop.loop, learner={"stabilizer": stabilizer}), 3).run(16_000, num_points=32)
    random = random_reward(shop, 2_000, np.random.default_rng(0))
    assert curve[0] == pytest.approx(random, rel=0.15)  # 500 decisions, before the first policy
    assert curve[-1] > 1.25 * random


@pytest.mark.slow
def test_a_slate_of_three_is_learned() -> None:
    shop = Shop(3, Dials(k=3))
    curve = OnlineRun(shop, shop.loop, 3).run(12_000, num_points=6)
    random = random_reward(shop, 2_000, np.random.default_rng(0))
    assert curve[-1] > 1.2 * random
