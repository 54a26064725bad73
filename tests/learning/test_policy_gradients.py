"""Policy gradient agents beat the random policy in `shop`: floors, far below what they reach with more decisions."""

import numpy as np
import pytest
import torch

from simulators.shop import Shop
from simulators.shop_bounds import shop_bounds
from studies.batched import BatchedRun
from studies.online import changed

SETTINGS: dict[str, dict[str, object]] = {
    "ppo": {"learning_rate": 6e-3, "minibatch_size": 64, "decisions_per_update": 256.0},
    "reinforce": {"learning_rate": 3e-3, "decisions_per_update": 16.0},
}


@pytest.mark.slow
@pytest.mark.parametrize("agent", SETTINGS)
def test_the_shop_is_learned_from_clicks(agent: str) -> None:
    torch.set_num_threads(1)
    shop = Shop(3)
    loop = changed(shop.loop, learner={"agent": agent, "stabilizer": "raw"} | SETTINGS[agent])
    reward = BatchedRun(shop, loop, 3, 12_000).run(num_points=4).reward[-1]
    bounds = shop_bounds(shop, np.random.default_rng(0))
    assert (reward - bounds.random) / (bounds.optimal - bounds.random) > 0.12
