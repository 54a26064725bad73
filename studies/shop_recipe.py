"""What the settings of simulators/shop.toml are worth: each is changed alone, on the same fresh seeds.

    python -m studies.shop_recipe            5 seeds, 48,000 decisions each: about a quarter of an hour on one core
    python -m studies.shop_recipe --quick    seconds, to see that it runs

NS = (J − random) / (optimal − random) of the greedy policy at the end, by true expected reward a session. Rewrites its
own part of studies/RESULTS.md (not with --quick).
"""

import argparse
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from simulators.shop import Shop
from simulators.shop_bounds import Bounds, shop_bounds
from simulators.world import Actions, Floats, Outcome, State
from studies.batched import BatchedRun
from studies.online import changed

RESULTS = Path(__file__).with_name("RESULTS.md")
FIRST_SEED = 200
"""The settings were chosen on seeds below: none of these."""

SAYS_LEAVE = "leave with the 20th decision"
VARIANTS: dict[str, dict[str, dict[str, object]]] = {
    "as it is": {},
    SAYS_LEAVE: {},
    "interaction dot": {"network": {"interaction": "dot"}},
    "stabilizer raw": {"learner": {"stabilizer": "raw", "id_penalty": 50.0}},
    "discount .8": {"learner": {"discount": 0.8}},
    "id_penalty 50": {"learner": {"id_penalty": 50.0}},
    "decisions_per_update 32": {"learner": {"decisions_per_update": 32.0}},
    "temperature .1": {"exploration": {"temperature": 0.1}},
}


class TalkativeShop(Shop):
    """As `shop` was before docs/decisions/0009: a session that is cut ends as one that was left."""

    def step(self, state: State, actions: Actions, rng: np.random.Generator) -> Outcome:
        return replace(super().step(state, actions, rng), truncated=None)


def final_ns(variant: str, seed: int, num_decisions: int, bounds: Bounds) -> float:
    """The mean of the last two of 12 points."""
    shop = TalkativeShop(seed) if variant == SAYS_LEAVE else Shop(seed)
    reward = BatchedRun(shop, changed(shop.loop, **VARIANTS[variant]), seed, num_decisions).run().reward
    return float(reward[-2:].mean() - bounds.random) / (bounds.optimal - bounds.random)


def measure(num_seeds: int, num_decisions: int) -> dict[str, Floats]:
    """[num_seeds] a variant."""
    found = {variant: np.zeros(num_seeds) for variant in VARIANTS}
    with Progress() as progress:
        runs = progress.add_task("runs", total=len(VARIANTS) * num_seeds)
        for i in range(num_seeds):
            bounds = shop_bounds(Shop(FIRST_SEED + i), np.random.default_rng(0))
            for variant, values in found.items():
                values[i] = final_ns(variant, FIRST_SEED + i, num_decisions, bounds)
                progress.advance(runs)
    return found


def table(found: dict[str, Floats]) -> str:
    """Rows of mean ± sd, and of the difference to the settings as they are, paired by seed."""
    reference = found["as it is"]
    rows = ["| settings | final NS | difference, paired |", "| --- | --- | --- |"]
    for variant, values in found.items():
        gain = values - reference
        paired = "" if variant == "as it is" else f"{gain.mean():+.3f} ± {_sd(gain):.3f}"
        rows.append(f"| {variant} | {values.mean():.3f} ± {_sd(values):.3f} | {paired} |")
    return "\n".join(rows)


def _sd(values: Floats) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def replace_section(text: str, title: str, section: str) -> str:
    """`text` with the section `## title` replaced, or added at its end."""
    before, found, after = text.partition(f"## {title}\n")
    rest = after.partition("\n## ")[2]
    kept = f"\n## {rest}" if found and rest else ""
    return f"{before.rstrip()}\n\n## {title}\n\n{section.strip()}\n{kept}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--decisions", type=int, default=48_000)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.quick:
        print(table(measure(1, 960)))
        return
    # Before it starts: that is the code that runs, whatever is committed meanwhile.
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    rows = table(measure(options.seeds, options.decisions))
    words = (
        f"`python -m studies.shop_recipe --seeds {options.seeds} --decisions {options.decisions}` at "
        f"{commit.stdout.strip()}: seeds from {FIRST_SEED}, NS of the greedy policy. Fewer than 20 seeds show no "
        "difference for certain: these rows say what not to fear, and where to look.\n\n"
    )
    RESULTS.write_text(replace_section(RESULTS.read_text(), "The recipe of `shop`", words + rows))
    print(rows)


if __name__ == "__main__":
    main()
