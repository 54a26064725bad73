"""Runs of `shop` as cells of a study: dials of the world, changes of its loop, and the normalised score."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from simulators.shop import Dials, Shop
from simulators.shop_bounds import shop_bounds
from studies.batched import BatchedRun
from studies.online import changed
from studies.study import Cell, Result

ORACLE = "oracle"
TEMPERATURE_SHARE = 0.15
"""Of the click rate: what candidates differ by in Q goes with it, and so must the softmax that explores."""


def shop_cell(
    name: str,
    dials: Mapping[str, Any],
    learner: Mapping[str, Any],
    *,
    oracle: bool = False,
    max_seeds: int | None = None,
) -> Cell:
    """A cell that `run_shop` takes; `learner` changes `[learner]` of simulators/shop.toml."""
    temperature = round(TEMPERATURE_SHARE * dials.get("click_rate", Dials().click_rate), 6)
    loop = {"learner": dict(learner), "exploration": {"temperature": temperature}}
    return Cell(name, {"world": "shop", "dials": dict(dials), "loop": loop, "oracle": oracle}, max_seeds)


def run_shop(cell: Cell, seed: int, num_decisions: int) -> Result:
    """ns: (J − random) / (optimal − random) of the greedy policy at 12 points, by true expected reward a session.

    The seed draws the shop too.
    """
    shop = Shop(seed, Dials(**cell.settings["dials"]))
    loop = changed(shop.loop, **cell.settings["loop"])
    run = BatchedRun(shop, loop, seed, num_decisions, oracle=cell.settings["oracle"])
    return {"ns": learning_curve(run, shop), "figures": run.learner.figures()}


def learning_curve(run: BatchedRun, shop: Shop) -> list[float]:
    """NS at 12 points of a run, which is done here."""
    bounds = shop_bounds(shop, np.random.default_rng(0))
    ns: list[float] = ((run.run().reward - bounds.random) / (bounds.optimal - bounds.random)).tolist()
    return ns
