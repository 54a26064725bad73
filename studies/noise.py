"""What kind of noise, and how much of it, makes stabilizing pay."""

from typing import Any

import numpy as np

from simulators.shop import Dials, Shop
from studies.ablation import BLEND, RAW, VARIANTS
from studies.plots import grid
from studies.shop_cells import run_shop, shop_cell
from studies.statistics import area, final, paired, told
from studies.study import Cell, Report, Result, Results, Study

KINDS: dict[str, list[dict[str, Any]]] = {
    "Bernoulli": [{"theta": theta} for theta in (1.0, 0.3, 0.1)],
    "Gaussian": [{"deterministic": True, "gaussian": sd} for sd in (0.2, 0.7, 1.4)],
    "heavy-tailed": [{"theta": 0.3, "heavy": heavy} for heavy in (0.5, 1.0, 1.5)],
}
"""Each at three strengths, least first."""
CELLS: list[Cell] = [
    shop_cell(f"{kind} {i}: {variant}", {"click_rate": 0.2} | dials, VARIANTS[variant])
    for kind, of_kind in KINDS.items()
    for i, dials in enumerate(of_kind)
    for variant in (RAW, BLEND)
]


def noise_share(shop: Shop, num: int = 20_000) -> float:
    """1 − Var(E[r | s, a]) / Var(r) at the first decisions of the uniformly random policy."""
    rng = np.random.default_rng(0)
    state = shop.start(num, rng)
    actions = shop.random_actions(state, rng)
    expected = shop.oracle_reward(state, actions)
    return 1.0 - float(expected.var() / shop.step(state, actions, rng).rewards.var())


def run(cell: Cell, seed: int, num_decisions: int) -> Result:
    """As `run_shop`, with noise_share."""
    share = noise_share(Shop(seed, Dials(**cell.settings["dials"])))
    return run_shop(cell, seed, num_decisions) | {"noise_share": share}


def report(results: Results) -> Report:
    rows = ["| noise | share of it in Var(r) | raw: AUC | final | stabilized: AUC | final | AUC over raw |"]
    rows.append(f"|{' --- |' * 7}")
    figure, [panel] = grid(1)
    for kind, of_kind in KINDS.items():
        points = []
        for i, dials in enumerate(of_kind):
            raw, mine = results[f"{kind} {i}: {RAW}"], results[f"{kind} {i}: {BLEND}"]
            share = float(np.mean([result["noise_share"] for result in raw]))
            theirs, ours = [result["ns"] for result in raw], [result["ns"] for result in mine]
            gain = paired(area(ours), area(theirs))
            cells = [told(area(theirs)), told(final(theirs)), told(area(ours)), told(final(ours)), str(gain)]
            told_dials = ", ".join(f"{name} {value:g}" for name, value in dials.items() if name != "deterministic")
            rows.append(f"| {kind}, {told_dials} | {share:.3f} | {' | '.join(cells)} |")
            points.append((share, gain.mean, gain.half_width))
        x, y, error = zip(*points, strict=True)
        panel.errorbar(x, y, yerr=error, marker="o", capsize=3, label=kind)
    panel.axhline(0.0, color="black", linewidth=0.8)
    panel.set_xlabel("share of noise in Var(r), random policy")
    panel.set_ylabel("AUC of the stabilized over raw (95 % interval)")
    panel.legend()
    return Report(f"{_WORDS}\n\n" + "\n".join(rows), {"": figure})


_WORDS = (
    "20 % clicks, DQN, raw against `blend`, NS of the greedy policy. All rewards have the same expectation, and so the "
    "same bounds: Bernoulli(θp)/θ, p plus Gaussian noise, and Bernoulli(.3 p)/.3 times a lognormal of mean 1."
)

STUDY = Study(
    name="noise",
    title="Kinds of noise",
    question="What kind of noise, and how much of it, makes stabilizing pay?",
    cells=CELLS,
    run=run,
    report=report,
    num_seeds=5,
    num_decisions=24_000,
)
