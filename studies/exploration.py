"""How an agent should explore where rewards are sparse, and whether stabilized rewards change the answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.sections import GreedyExploration, SoftmaxExploration
from simulators.shop import Dials, Shop
from studies.ablation import BLEND, RAW, VARIANTS
from studies.batched import BatchedRun
from studies.online import changed
from studies.plots import grid, learning_curves
from studies.shop_cells import learning_curve
from studies.statistics import area, final, paired, told
from studies.study import Cell, Report, Result, Results, Study
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates
from trainer.rewards.ensemble import poisson_weights
from trainer.rewards.stabilizers import Stabilized, stabilized_agent

GREEDY, THOMPSON = "ε-greedy", "Thompson"
EXPLORATIONS: dict[str, dict[str, Any]] = {
    GREEDY: {"kind": "greedy", "epsilon": 0.1},
    "softmax": {"kind": "softmax", "temperature": 0.0075, "epsilon": 0.02},
    THOMPSON: {"kind": "greedy", "epsilon": 0.02, "num_members": 4},
}
REGIMES = {"5 %": 0.05, "1 %": 0.01}
CELLS = [
    Cell(
        f"{regime}, {variant}: {name}",
        {"dials": {"click_rate": rate}, "learner": VARIANTS[variant], "exploration": explores},
    )
    for regime, rate in REGIMES.items()
    for variant in (RAW, BLEND)
    for name, explores in EXPLORATIONS.items()
]


@dataclass(frozen=True, slots=True)
class Members:
    """M learners in the place of one: bootstrapped DQN (arXiv 1602.04621), Thompson sampling by ensemble.

    Each sees the same decisions Poisson(1) times each; each line of sessions follows one of them. What is evaluated is
    the mean of their scores.
    """

    members: Sequence[Stabilized]

    @property
    def agent(self) -> "Followers":
        """What acts."""
        return Followers(self.members)

    def observe(self, fresh: TransitionBatch) -> None:
        for member in self.members:
            member.observe(fresh)

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        for i, member in enumerate(self.members):
            times = poisson_weights(batch.rows, batch.positions, i)
            member.update(batch.at(np.repeat(np.arange(len(batch.rows)), times)), num_examples)
        return {}

    def act(self, probe: ProbeStates) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = np.mean([member.act(probe) for member in self.members], axis=0)
        return scores


@dataclass(frozen=True, slots=True)
class Followers:
    """Row j of a probe follows member j modulo M."""

    members: Sequence[Stabilized]

    def act(self, probe: ProbeStates) -> NDArray[np.float32]:
        scores = np.stack([member.act(probe) for member in self.members])  # [M, n, C]
        rows = np.arange(scores.shape[1])
        followed: NDArray[np.float32] = scores[rows % len(self.members), rows]
        return followed


def run(cell: Cell, seed: int, num_decisions: int) -> Result:
    """ns: of the greedy policy at 12 points."""
    explores = dict(cell.settings["exploration"])
    num_members = explores.pop("num_members", 1)
    shop = Shop(seed, Dials(**cell.settings["dials"]))
    kind = GreedyExploration if explores["kind"] == "greedy" else SoftmaxExploration
    loop = changed(shop.loop, learner=dict(cell.settings["learner"]))
    loop = loop.model_copy(update={"exploration": kind(**explores)})
    run = BatchedRun(shop, loop, seed, num_decisions)
    if num_members > 1:
        others = [stabilized_agent(loop) for _ in range(num_members - 1)]
        run.learner = Members([run.learner, *others])  # type: ignore[assignment]  # it has all that a run asks for
    return {"ns": learning_curve(run, shop)}


def report(results: Results) -> Report:
    curves = {name: [result["ns"] for result in of_seeds] for name, of_seeds in results.items()}
    rows = ["| | AUC | final | AUC over ε-greedy |", f"|{' --- |' * 4}"]
    for name, mine in curves.items():
        group, _, kind = name.partition(": ")
        against = "" if kind == GREEDY else str(paired(area(mine), area(curves[f"{group}: {GREEDY}"])))
        rows.append(f"| {name} | {told(area(mine))} | {told(final(mine))} | {against} |")
    figure, panels = grid(len(REGIMES) * 2)
    groups = [f"{regime}, {variant}" for regime in REGIMES for variant in (RAW, BLEND)]
    for group, panel in zip(groups, panels, strict=True):
        learning_curves(panel, {kind: curves[f"{group}: {kind}"] for kind in EXPLORATIONS}, STUDY.num_decisions, "NS")
        panel.set_title(group)
        panel.legend(fontsize="small")
    return Report(f"{_WORDS}\n\n" + "\n".join(rows), {"": figure})


_WORDS = (
    "DQN, NS of the greedy policy. ε-greedy: ε .1. softmax: temperature .0075, ε .02. Thompson: four learners that saw "
    "different samples of the same decisions, each line of sessions follows one, ε .02; evaluated is their mean, which "
    "is better than one learner for that alone."
)

STUDY = Study(
    name="exploration",
    title="Exploration where rewards are sparse",
    question="How should an agent explore where rewards are sparse, and does stabilizing change the answer?",
    cells=CELLS,
    run=run,
    report=report,
    num_seeds=5,
    num_decisions=24_000,
)
