"""How soon agents reach a click-through rate in Virtual Taobao, on raw rewards and on stabilized ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from schemas.settings import Settings
from simulators.virtualtb import PAGE_SIZE, VirtualTaobao, load_networks
from simulators.world import Floats
from simulators.worlds import parse_world
from studies.batched import BatchedRun
from studies.online import changed
from studies.plots import grid, learning_curves
from studies.statistics import area, paired, told
from studies.study import Cell, Report, Result, Results, Study

RAW, BLEND = "raw", "blend"
VARIANTS = ("native", "bern30")
AGENTS: dict[str, dict[str, Any]] = {
    "ddpg": {"agent": "ddpg"},
    "td3": {"agent": "td3", "smoothing_sd": 0.05},
    "sac": {"agent": "sac"},
}
PENALTY = {"action_penalty": 8.0}
"""Of the actor's output before tanh: with .3 half of the seeds end on a plateau at a CTR of .5 or .6."""
FEWER_SEEDS = 5
"""Of what is only looked at: td3, and the noisy variant."""
LEVELS = (0.85, 0.95)
NUM_POINTS = 20
CELLS = [
    Cell(
        f"{variant}, {agent}: {stabilizer}",
        {"variant": variant, "learner": settings | PENALTY | {"stabilizer": stabilizer}, "sd": 0.2, "num_sessions": 8},
        FEWER_SEEDS if variant != "native" or agent == "td3" else None,
    )
    for variant in VARIANTS
    for agent, settings in AGENTS.items()
    for stabilizer in (RAW, BLEND)
]


def networks_folder() -> Path:
    """Of the simulator's weights, by STEADYRANK_VIRTUALTB; raises `WorldError` where they are not there."""
    folder = Settings.from_environment().virtualtb
    spec = parse_world(f"virtualtb:{folder or ''}")
    assert spec.folder is not None
    return spec.folder


def run(cell: Cell, seed: int, num_decisions: int) -> Result:
    """ctr: true, of the policy without exploration, at 20 points."""
    world = VirtualTaobao(load_networks(networks_folder()), cell.settings["variant"])
    exploration = {"sd": cell.settings["sd"], "wide_share": 0.0}
    loop = changed(world.loop, learner=dict(cell.settings["learner"]), exploration=exploration)
    run = BatchedRun(world, loop, seed, num_decisions, num_sessions=cell.settings["num_sessions"])
    return {"ctr": (run.run(NUM_POINTS, 300).reward / PAGE_SIZE).tolist()}


def pages_to(curve: Sequence[float], level: float, num_decisions: int) -> float:
    """The first point at which the CTR is there; infinity if never."""
    above = np.flatnonzero(np.asarray(curve) >= level)
    return float((above[0] + 1) * num_decisions / len(curve)) if len(above) else float("inf")


def report(results: Results) -> Report:
    rows = [f"| | CTR, mean over the run | best | {' | '.join(_told_level(level) for level in LEVELS)} | over raw |"]
    rows.append(f"|{' --- |' * 6}")
    curves = {name: np.array([result["ctr"] for result in of_seeds]) for name, of_seeds in results.items()}
    for name, mine in curves.items():
        group, _, stabilizer = name.partition(": ")
        against = "" if stabilizer == RAW else str(paired(area(mine), area(curves[f"{group}: {RAW}"])))
        levels = " | ".join(_reached(mine, level) for level in LEVELS)
        rows.append(f"| {name} | {told(area(mine))} | {told(mine.max(axis=1))} | {levels} | {against} |")
    figure, panels = grid(len(VARIANTS))
    for variant, panel in zip(VARIANTS, panels, strict=True):
        shown = {name.partition(", ")[2]: curve for name, curve in curves.items() if name.startswith(variant)}
        learning_curves(panel, shown, STUDY.num_decisions, "CTR")
        panel.set_title(variant)
        panel.legend(fontsize="small")
    return Report(f"{_WORDS}\n\n" + "\n".join(rows), {"": figure})


def _told_level(level: float) -> str:
    return f"pages to {level:.2f}: median, reached by"


def _reached(curves: Floats, level: float) -> str:
    pages = [pages_to(curve, level, STUDY.num_decisions) for curve in curves]
    median, num = float(np.median(pages)), int(np.isfinite(pages).sum())
    return f"{f'{median:,.0f}' if np.isfinite(median) else 'never'}, {num} of {len(pages)}"


_WORDS = (
    "True expected CTR of the policy without exploration, on 300 customers; Gaussian exploration of sd .2; the "
    "settings of simulators/virtualtb.toml with a penalty of 8 on the actor's output before tanh, chosen on seeds "
    "1 to 3. Its rewards are nearly certain (`native`): there is nothing to stabilize, and the question is whether "
    "stabilizing costs. It does, and so `raw` is the default for `weights` (docs/decisions/0017). `bern30` pays "
    "30 · Bernoulli(E[clicks] / 30)."
)

STUDY = Study(
    name="virtual-taobao",
    title="Virtual Taobao",
    question="How soon do agents learn Virtual Taobao, and does stabilizing cost where there is no noise?",
    cells=CELLS,
    run=run,
    report=report,
    num_decisions=4_000,
    quick_decisions=400,
)
