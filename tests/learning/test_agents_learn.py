"""Agents learn `shop` as arrays. A floor, far below what they reach: it fails when learning breaks, not by bad luck."""

import numpy as np
import pytest
import torch

from simulators.shop import Shop
from simulators.shop_bounds import shop_bounds
from studies.batched import BatchedRun
from studies.online import changed

RAW = {"stabilizer": "raw", "discount": 0.9, "id_penalty": 50.0}


@pytest.mark.slow
def test_sac_discrete_learns_the_shop() -> None:
    torch.set_num_threads(1)
    shop = Shop(3)
    bounds = shop_bounds(shop, np.random.default_rng(0))
    run = BatchedRun(shop, changed(shop.loop, learner=RAW | {"agent": "sac-discrete"}), 3, 12_000)
    reached = run.run(num_points=4).reward[-1]
    assert (reached - bounds.random) / (bounds.optimal - bounds.random) > 0.3
