"""How much of learning is lost to chance alone: the same shop with clicks, and with their probabilities as rewards."""

from typing import Any

from studies.ablation import BLEND, RAW, VARIANTS
from studies.plots import grid, learning_curves
from studies.shop_cells import run_shop, shop_cell
from studies.statistics import area, final, paired, told
from studies.study import Cell, Report, Results, Study

CERTAIN = "deterministic"
AGENTS: dict[str, dict[str, Any]] = {"dqn": {}, "drn": {"agent": "drn"}}
REWARDS: dict[str, tuple[dict[str, Any], str]] = {
    CERTAIN: ({"deterministic": True}, RAW),
    "clicks": ({}, RAW),
    "clicks, stabilized": ({}, BLEND),
}
CELLS: list[Cell] = [
    shop_cell(f"{agent}: {rewards}", {"click_rate": 0.05} | dials, VARIANTS[variant] | changes)
    for agent, changes in AGENTS.items()
    for rewards, (dials, variant) in REWARDS.items()
]
_WORDS = (
    "5 % clicks. *deterministic*: each reward is the click's probability. Both have the same optimal policy and the "
    "same bounds. NS of the greedy policy; differences to *deterministic* are paired by seed (95 % interval, t)."
)


def report(results: Results) -> Report:
    figure, panels = grid(len(AGENTS))
    rows = ["| | AUC | final | AUC, difference | final ÷ that of certain rewards |", f"|{' --- |' * 5}"]
    for agent, panel in zip(AGENTS, panels, strict=True):
        curves = {rewards: [run["ns"] for run in results[f"{agent}: {rewards}"]] for rewards in REWARDS}
        learning_curves(panel, curves, STUDY.num_decisions, "NS, greedy")
        panel.set_title(agent)
        panel.legend(fontsize="small")
        reference = curves[CERTAIN]
        for rewards, mine in curves.items():
            difference = "" if rewards == CERTAIN else str(paired(area(mine), area(reference)))
            share = f"{final(mine).mean() / final(reference).mean():.0%}"
            rows.append(f"| {agent}: {rewards} | {told(area(mine))} | {told(final(mine))} | {difference} | {share} |")
    return Report(f"{_WORDS}\n\n" + "\n".join(rows), {"": figure})


STUDY = Study(
    name="stochastic-vs-deterministic",
    title="Clicks against certain rewards",
    question="How much of learning is lost to chance alone, and how much of that does stabilizing bring back?",
    cells=CELLS,
    run=run_shop,
    report=report,
    num_seeds=5,
)
