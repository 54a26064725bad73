"""Agents learn `shop` as arrays. A floor, far below what they reach: it fails when learning breaks, not by bad luck."""

import numpy as np
import pytest
import torch

from simulators.shop import Dials, Shop
from simulators.shop_bounds import shop_bounds
from studies.batched import BatchedRun
from studies.online import changed

RAW = {"stabilizer": "raw", "discount": 0.9, "id_penalty": 50.0}
OPEN, HIDDEN = Dials(), Dials(hidden=True)
"""With the dial `hidden` the state has a history, to which dqn-att and drr-att attend."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "interaction", "dials", "num_decisions", "floor"),
    [
        ("sac-discrete", "mlp", OPEN, 12_000, 0.3),
        ("drn", "mlp", OPEN, 6_000, 0.15),  # .26 to .46 in worlds 3, 4, 5
        ("drr-att", "attention", OPEN, 6_000, 0.15),  # .27 to .38
        ("dqn-att", "attention", HIDDEN, 6_000, 0.1),  # .22; .25 to .39 with satisfaction in the state
    ],
)
def test_the_shop_is_learned(agent: str, interaction: str, dials: Dials, num_decisions: int, floor: float) -> None:
    torch.set_num_threads(1)
    shop = Shop(3, dials)
    bounds = shop_bounds(shop, np.random.default_rng(0))
    loop = changed(shop.loop, learner=RAW | {"agent": agent}, network={"interaction": interaction})
    reached = BatchedRun(shop, loop, 3, num_decisions).run(num_points=4).reward[-1]
    assert (reached - bounds.random) / (bounds.optimal - bounds.random) > floor
