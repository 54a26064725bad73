"""What stabilizing costs where the estimator is bad: SRS trusts it whatever it says, the blend asks fresh data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from simulators.shop import Dials, Shop
from studies.ablation import BLEND, RAW, VARIANTS
from studies.batched import BatchedRun
from studies.online import changed
from studies.plots import grid, learning_curves
from studies.shop_cells import learning_curve, shop_cell
from studies.statistics import area, final, paired, told
from studies.study import Cell, Report, Result, Results, Study
from trainer.networks import Embeddings
from trainer.replay.batch import TransitionBatch
from trainer.replay.statistics import NumberStatistics
from trainer.rewards.estimator import RewardEstimator

_SHIFT_SD = 0.15
_STALE_AFTER = 4_000


@dataclass(slots=True)
class Spoiled:
    """An estimator that no longer learns after `num_updates` updates, or whose estimates are off by item."""

    sound: RewardEstimator
    num_updates: float = float("inf")
    shift: Tensor | None = None
    """[items] what is added to the estimates, by slot of the item's id."""

    @property
    def embeddings(self) -> Embeddings:
        return self.sound.embeddings

    def predict(self, batch: TransitionBatch) -> Tensor:
        estimate = self.sound.predict(batch)
        return estimate if self.shift is None else estimate + self.shift[batch.item_slots[:, 0]]

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        self.num_updates -= 1
        return self.sound.update(batch, num_examples) if self.num_updates >= 0 else {}

    def observe(self, fresh: TransitionBatch) -> None:
        self.sound.observe(fresh)

    def rescale(self, statistics: NumberStatistics) -> None:
        self.sound.rescale(statistics)

    def state_dict(self) -> dict[str, Tensor]:
        return self.sound.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.sound.load_state_dict(state)


def _as_it_is(sound: RewardEstimator, _: Cell) -> RewardEstimator:
    return sound


def _stale(sound: RewardEstimator, cell: Cell) -> RewardEstimator:
    return Spoiled(sound, _STALE_AFTER / cell.settings["loop"]["learner"]["decisions_per_update"])


def _shifted(sound: RewardEstimator, _: Cell) -> RewardEstimator:
    num = sound.embeddings.item_layout.tables[0].cardinality
    return Spoiled(sound, shift=_SHIFT_SD * torch.randn(num, generator=torch.Generator().manual_seed(0)))


SPOIL: dict[str, tuple[dict[str, Any], Callable[[RewardEstimator, Cell], RewardEstimator]]] = {
    "sound": ({}, _as_it_is),
    "crippled": ({"estimator": "mean"}, _as_it_is),
    "stale": ({}, _stale),
    "overfitted": ({"estimator_id_penalty": 0.0, "estimator_learning_rate": 1e-2}, _as_it_is),
    "shifted": ({}, _shifted),
}
STABILIZERS = ("srs", BLEND)


def _spoiled(how: str, cell: Cell) -> Cell:
    return replace(cell, settings=dict(cell.settings) | {"spoil": how})


DIALS = {"click_rate": 0.2}
CELLS = [
    shop_cell(RAW, DIALS, VARIANTS[RAW]),
    *(
        _spoiled(spoiled, shop_cell(f"{spoiled}: {stabilizer}", DIALS, VARIANTS[stabilizer] | changes))
        for spoiled, (changes, _) in SPOIL.items()
        for stabilizer in STABILIZERS
    ),
]


def run(cell: Cell, seed: int, num_decisions: int) -> Result:
    """ns: of the greedy policy at 12 points."""
    shop = Shop(seed, Dials(**cell.settings["dials"]))
    run = BatchedRun(shop, changed(shop.loop, **cell.settings["loop"]), seed, num_decisions)
    if "spoil" in cell.settings:
        _, spoil = SPOIL[cell.settings["spoil"]]
        run.learner.estimator = spoil(run.learner.estimator, cell)
    return {"ns": learning_curve(run, shop)}


def report(results: Results) -> Report:
    curves = {name: [result["ns"] for result in of_seeds] for name, of_seeds in results.items()}
    rows = ["| | AUC | final | AUC over raw | final over raw |", f"|{' --- |' * 5}"]
    for name, mine in curves.items():
        cells = [told(measure(mine)) for measure in (area, final)]
        cells += ["" if name == RAW else str(paired(measure(mine), measure(curves[RAW]))) for measure in (area, final)]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    figure, panels = grid(len(STABILIZERS))
    for stabilizer, panel in zip(STABILIZERS, panels, strict=True):
        shown = {spoiled: curves[f"{spoiled}: {stabilizer}"] for spoiled in SPOIL}
        learning_curves(panel, {RAW: curves[RAW]} | shown, STUDY.num_decisions, "NS, greedy")
        panel.set_title(stabilizer)
        panel.legend(fontsize="small")
    return Report(f"{_WORDS}\n\n" + "\n".join(rows), {"": figure})


_WORDS = (
    "20 % clicks, DQN. *crippled*: the mean of each item, blind to the user. *stale*: it learns from the first "
    f"{_STALE_AFTER:,} decisions only. *overfitted*: no penalty on ids, thrice the learning rate. *shifted*: each "
    f"item's estimate is off by a number of its own, of sd {_SHIFT_SD}. NS of the greedy policy; paired differences "
    "with 95 % intervals and t."
)

STUDY = Study(
    name="bad-estimator",
    title="Bad estimators",
    question="What does stabilizing cost where the estimator is bad?",
    cells=CELLS,
    run=run,
    report=report,
    num_seeds=5,
    num_decisions=24_000,
)
