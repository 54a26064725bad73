"""What each stabilizer brings DQN in `shop`, at 20 % and 5 % clicks: raw rewards below, the truth above.

    python -m studies.stabilizers                5 seeds: about an hour on one core
    python -m studies.stabilizers --quick        seconds, to see that it runs

NS = (J − random) / (optimal − random) of the greedy policy, by true expected reward a session. AUC is the mean over 12
points of the run, final that of the last two. A run that `--kept FILE` has is not run again. Rewrites its own part of
studies/RESULTS.md (not with --quick).
"""

import argparse
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from simulators.shop import Dials, Shop
from simulators.shop_bounds import shop_bounds
from simulators.world import Floats
from studies.batched import BatchedRun
from studies.online import changed
from studies.shop_recipe import RESULTS, replace_section

RECIPE: dict[str, object] = {"discount": 0.9, "id_penalty": 10.0, "decisions_per_update": 8.0}
"""What is not named here is as in simulators/shop.toml."""
RAW = "raw"
ORACLE = "oracle"
VARIANTS: dict[str, dict[str, object]] = {
    # Raw rewards want another recipe: fewer updates, since more of them learn the noise, and more of the penalty.
    RAW: {"stabilizer": "raw", "id_penalty": 50.0, "decisions_per_update": 32.0},
    "raw, an update every 8": {"stabilizer": "raw", "id_penalty": 150.0},
    "srs": {"stabilizer": "srs"},
    "srs2": {"stabilizer": "srs2"},
    "srs2-residual": {"stabilizer": "srs2-residual"},
    "doubly-robust": {"stabilizer": "doubly-robust"},
    "blend": {"stabilizer": "blend"},
    ORACLE: {"stabilizer": "raw"},
}
CLICK_RATES = (0.2, 0.05)
FIRST_SEED = 1
"""Seeds for development. Those from 1,000 are kept for what is to be claimed."""


class Kept:
    """NS by click rate, variant and seed, in a file of one JSON object a line."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self._curves = {(row["rate"], row["variant"], row["seed"]): row["ns"] for row in map(json.loads, lines)}

    def curve(self, rate: float, variant: str, seed: int, num_decisions: int) -> Floats:
        """[P]"""
        key = (rate, variant, seed)
        if key not in self._curves:
            self._curves[key] = normalized_curve(rate, variant, seed, num_decisions).tolist()
            row = {"rate": rate, "variant": variant, "seed": seed, "ns": self._curves[key]}
            if self._path is not None:
                with self._path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        return np.array(self._curves[key])


def normalized_curve(rate: float, variant: str, seed: int, num_decisions: int) -> Floats:
    """NS [P] over the run of one seed, which is that of the shop too."""
    shop = Shop(seed, Dials(click_rate=rate))
    bounds = shop_bounds(shop, np.random.default_rng(0))
    loop = changed(shop.loop, learner=RECIPE | VARIANTS[variant])
    curve = BatchedRun(shop, loop, seed, num_decisions, oracle=variant == ORACLE).run()
    return (curve.reward - bounds.random) / (bounds.optimal - bounds.random)


def table(curves: Mapping[str, Sequence[Floats]]) -> str:
    """A row a variant: AUC and final NS, mean ± sd over seeds, and their differences to raw, paired by seed."""
    rows = ["| | AUC | final | AUC over raw | final over raw |", "| --- | --- | --- | --- | --- |"]
    auc = {variant: np.array(of_seeds).mean(axis=1) for variant, of_seeds in curves.items()}
    final = {variant: np.array(of_seeds)[:, -2:].mean(axis=1) for variant, of_seeds in curves.items()}
    for variant in curves:
        gains = [measure[variant] - measure[RAW] for measure in (auc, final)]
        cells = [f"{_told(measure[variant])}" for measure in (auc, final)]
        cells += ["" if variant == RAW else f"{gain.mean():+.3f} ± {_sd(gain):.3f}" for gain in gains]
        rows.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _told(values: Floats) -> str:
    return f"{values.mean():.3f} ± {_sd(values):.3f}"


def _sd(values: Floats) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def tables(kept: Kept, num_seeds: int, num_decisions: int) -> str:
    """Seed by seed, so that a study that is cut short has all variants of the seeds that it has."""
    curves: dict[float, dict[str, list[Floats]]] = {rate: {name: [] for name in VARIANTS} for rate in CLICK_RATES}
    for seed in range(FIRST_SEED, FIRST_SEED + num_seeds):
        for rate, of_rate in curves.items():
            for variant, of_seeds in of_rate.items():
                of_seeds.append(kept.curve(rate, variant, seed, num_decisions))
    return "\n\n".join(f"{rate:.0%} clicks\n\n{table(of_rate)}" for rate, of_rate in curves.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--decisions", type=int, default=48_000)
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.quick:
        print(tables(Kept(None), 1, 960))
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    found = tables(Kept(options.kept), options.seeds, options.decisions)
    words = (
        f"`python -m studies.stabilizers --seeds {options.seeds} --decisions {options.decisions}` at "
        f"{commit.stdout.strip()}: DQN, seeds from {FIRST_SEED} (for development: what is claimed wants fresh ones), "
        "mean ± sd, NS of the greedy policy.\n\n"
    )
    RESULTS.write_text(replace_section(RESULTS.read_text(), "Stabilizers in `shop`", words + found))
    print(found)


if __name__ == "__main__":
    main()
