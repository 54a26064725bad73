"""Whether estimates mean what they say, what calibration mends, and what miscalibration costs the agent."""

from typing import Any

import numpy as np

from simulators.shop import Dials, Shop
from simulators.world import Floats
from studies.ablation import VARIANTS
from studies.batched import BatchedRun
from studies.online import changed
from studies.plots import grid
from studies.shop_cells import learning_curve, shop_cell
from studies.statistics import final, told
from studies.study import Cell, Report, Result, Results, Study
from trainer.rewards.calibration import reliability

NUM_FRESH = 30_000
"""Decisions after the run, on which estimates are judged."""
ESTIMATORS = ("mlp", "fm")
CALIBRATIONS = ("none", "temperature", "isotonic")
CELLS = [
    shop_cell(
        f"{estimator}, {calibration}",
        {"click_rate": 0.2},
        VARIANTS["srs"] | {"estimator": estimator, "calibration": calibration},
    )
    for estimator in ESTIMATORS
    for calibration in CALIBRATIONS
]


def run(cell: Cell, seed: int, num_decisions: int) -> Result:
    """Ns at 12 points; ece against the truth and against fresh rewards; the reliability of 15 bins."""
    shop = Shop(seed, Dials(**cell.settings["dials"]))
    loop = changed(shop.loop, **cell.settings["loop"])
    run = BatchedRun(shop, loop, seed, num_decisions, num_spare=NUM_FRESH)
    ns = learning_curve(run, shop)
    estimate, expected, reward = fresh_estimates(run, min(NUM_FRESH, num_decisions))
    of_rewards, of_truth = reliability(estimate, reward), reliability(estimate, expected)
    bins = {"estimate": of_rewards.estimate.tolist(), "reward": of_rewards.reward.tolist()}
    return {"ns": ns, "ece": of_rewards.error, "ece_truth": of_truth.error, "bins": bins}


def fresh_estimates(run: BatchedRun, num: int) -> tuple[Floats, Floats, Floats]:
    """Estimates, E[r | s, a] and rewards [num] of decisions that the acting policy goes on to make; none is learned."""
    found: list[Floats] = []
    while sum(len(part[0]) for part in found) < num:
        run.decide()
        batch, expected = run.newest()
        estimate = run.learner.estimator.predict(batch).double().numpy()
        found.append(np.stack([estimate, expected, batch.reward.double().numpy()]))
    together = np.concatenate(found, axis=1)
    return together[0], together[1], together[2]


def report(results: Results) -> Report:
    rows = ["| | ECE, fresh rewards | ECE, truth | final NS of SRS |", f"|{' --- |' * 4}"]
    figure, panels = grid(len(ESTIMATORS))
    for name, of_seeds in results.items():
        eces = [told([result[key] for result in of_seeds]) for key in ("ece", "ece_truth")]
        rows.append(f"| {name} | {' | '.join(eces)} | {told(final([result['ns'] for result in of_seeds]))} |")
        panel = panels[ESTIMATORS.index(name.split(",")[0])]
        bins = [result["bins"] for result in of_seeds]
        x, y = (np.mean([each[key] for each in bins], axis=0) for key in ("estimate", "reward"))
        panel.plot(x, y, marker="o", markersize=3, label=name)
    for panel in panels:
        panel.axline((0.0, 0.0), slope=1.0, color="black", linewidth=0.8)
        panel.set_xlabel("estimate (bins of equal mass, mean over seeds)")
        panel.set_ylabel("mean reward, fresh")
        panel.legend(fontsize="small")
    return Report("\n\n".join([_WORDS, "\n".join(rows), _told_correlation(results)]), {"": figure})


def _told_correlation(results: Results) -> str:
    runs: list[dict[str, Any]] = [result for of_seeds in results.values() for result in of_seeds]
    ece, ns = np.array([each["ece_truth"] for each in runs]), final([each["ns"] for each in runs])
    correlation = float(np.corrcoef(ece, ns)[0, 1])
    return f"Over all {len(runs)} runs the ECE against the truth correlates with the final NS at {correlation:+.2f}."


_WORDS = (
    f"20 % clicks, DQN on `srs`. The expected calibration error is over 15 bins of equal mass of {NUM_FRESH:,} fresh "
    "decisions of the policy learned, none of which was learned from."
)

STUDY = Study(
    name="calibration",
    title="Calibration of the estimators",
    question="Do estimates mean what they say, and does it cost return if they do not?",
    cells=CELLS,
    run=run,
    report=report,
    num_seeds=5,
)
