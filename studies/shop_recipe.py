"""What the settings of simulators/shop.toml are worth: each is changed alone, on the same seeds."""

from dataclasses import replace
from typing import Any

import numpy as np

from simulators.shop import Shop
from simulators.world import Actions, Floats, Outcome, State
from studies.batched import BatchedRun
from studies.online import changed
from studies.shop_cells import learning_curve
from studies.statistics import final, paired, told
from studies.study import Cell, Report, Result, Results, Study

AS_IT_IS = "as it is"
SAYS_LEAVE = "leave with the 20th decision"
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    AS_IT_IS: {},
    SAYS_LEAVE: {},
    "interaction dot": {"network": {"interaction": "dot"}},
    "stabilizer raw": {"learner": {"stabilizer": "raw", "id_penalty": 50.0, "decisions_per_update": 32.0}},
    "discount .8": {"learner": {"discount": 0.8}},
    "id_penalty 50": {"learner": {"id_penalty": 50.0}},
    "decisions_per_update 32": {"learner": {"decisions_per_update": 32.0}},
    "temperature .1": {"exploration": {"temperature": 0.1}},
}


class TalkativeShop(Shop):
    """As `shop` was before docs/decisions/0009: a session that is cut ends as one that was left."""

    def step(self, state: State, actions: Actions, rng: np.random.Generator) -> Outcome:
        return replace(super().step(state, actions, rng), truncated=None)


def run_recipe(cell: Cell, seed: int, num_decisions: int) -> Result:
    """ns: of the greedy policy at 12 points."""
    shop = TalkativeShop(seed) if cell.settings["says_leave"] else Shop(seed)
    run = BatchedRun(shop, changed(shop.loop, **cell.settings["loop"]), seed, num_decisions)
    return {"ns": learning_curve(run, shop)}


def report(results: Results) -> Report:
    ns = {name: final([result["ns"] for result in of_seeds]) for name, of_seeds in results.items()}
    return Report(f"{_WORDS}\n\n{table(ns)}")


def table(ns: dict[str, Floats]) -> str:
    """Rows of mean ± sd, and of the difference to the settings as they are, paired by seed."""
    rows = ["| settings | final NS | difference, paired |", "| --- | --- | --- |"]
    for name, values in ns.items():
        difference = "" if name == AS_IT_IS else str(paired(values, ns[AS_IT_IS]))
        rows.append(f"| {name} | {told(values)} | {difference} |")
    return "\n".join(rows)


_WORDS = "NS of the greedy policy at the end. Fewer than 20 seeds show no small difference for certain."

STUDY = Study(
    name="shop-recipe",
    title="The recipe of `shop`",
    question="What are the settings of simulators/shop.toml worth?",
    cells=[Cell(name, {"loop": loop, "says_leave": name == SAYS_LEAVE}) for name, loop in VARIANTS.items()],
    run=run_recipe,
    report=report,
    num_seeds=5,
)
