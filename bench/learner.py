"""`python -m bench.learner`: the learner's update beside the same over TorchRL, and what a full buffer costs.

Rounds are interleaved and figures are medians, on one thread, of CPU time, so that what else the machine does counts
little. TorchRL takes part where it is installed: docs/performance.md says how.
"""

import argparse
import multiprocessing
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch

from bench.learner_steps import FilledReplay, OurStep
from bench.tables import Section
from schemas.loop_file import Loop, read_loop

AGENTS, STABILIZERS = ("ddpg", "td3"), ("raw", "srs", "srs2")
_WORLD = Path(__file__).parents[1] / "simulators" / "virtualtb.toml"
_SHOP = _WORLD.with_name("shop.toml")
_NUM_PEERS = 10_000
"""Transitions in the buffers that are compared."""
_WARM_UPS = 20
_ABOUT_UPDATES = """
One update: a minibatch of 64 from the replay buffer, the estimator's step, the agent's and the target's. Networks,
sizes and rates are those of simulators/virtualtb.toml on both sides. TorchRL (`pip install torchrl` beside the
`learner` extra lets it take part): `DDPGLoss` or `TD3Loss`, `SoftUpdate`, `TensorDictReplayBuffer`, torch's fused
Adam, which is its fastest here. Its rows of `raw` have no estimator; ours fits one even then. Neither is compiled.
""".strip()
_ABOUT_MEMORY = """
Measured in a process of its own, torch included, after the buffer was really filled: ids as the ranker makes them,
sessions of 10 decisions.
""".strip()
_Key = TypeVar("_Key")


def report(*, quick: bool) -> str:
    """One section of markdown."""
    return measure(quick=quick).text


def measure(*, quick: bool) -> Section:
    """The section, and the figures of its targets: of buffers of full size, and of TorchRL where it is installed."""
    torch.set_num_threads(1)
    updates, ratios = _updates(quick=quick)
    sizes = _in_a_process(_sizes, quick)
    memory, gigabytes = _memory(quick=quick)
    text = "\n".join(["## The learner", *(line for table in (updates, sizes, memory) for line in ("", *table))])
    figures = {} if quick else {"buffer": max(gigabytes)}
    return Section(text, figures | ({"updates": min(ratios)} if ratios else {}))


def _updates(*, quick: bool) -> tuple[list[str], list[float]]:
    """How many updates a second, ours and TorchRL's; and the ratios of those with srs2, if there are any."""
    steps: dict[tuple[str, str, str], Callable[[], None]] = {}
    for agent in AGENTS:
        for stabilizer in STABILIZERS:
            loop = _changed(read_loop(_WORLD), agent=agent, stabilizer=stabilizer)
            steps |= {(agent, stabilizer, side): step for side, step in _sides(loop).items()}
    seconds = _interleaved(steps, rounds=5 if quick else 15, repeats=20 if quick else 50)
    rows, ratios = [], []
    for agent in AGENTS:
        for stabilizer in STABILIZERS:
            ours, theirs = (seconds.get((agent, stabilizer, side)) for side in ("ours", "TorchRL"))
            assert ours is not None, "ours always takes part"
            rate = "not installed" if theirs is None else f"{1 / theirs:,.0f}"
            ratio = "" if theirs is None else f"{theirs / ours:.2f}"
            rows.append((agent, stabilizer, f"{1 / ours:,.0f}", rate, ratio))
            if theirs is not None and stabilizer == "srs2":
                ratios.append(theirs / ours)
    header = ("agent", "stabilizer", "updates a CPU second", "over TorchRL", "ratio")
    return [*_table(header, rows), "", _ABOUT_UPDATES], ratios


def _sides(loop: Loop) -> dict[str, Callable[[], None]]:
    filled = FilledReplay(loop, 2 * _NUM_PEERS)
    filled.fill(2 * _NUM_PEERS)
    sides: dict[str, Callable[[], None]] = {"ours": OurStep(loop, filled.replay)}
    if find_spec("torchrl"):
        from bench.torchrl_steps import TorchRlStep  # noqa: PLC0415  optional, and seconds to import

        transitions = filled.replay.sample(_NUM_PEERS)
        assert transitions is not None, "the buffer is filled"
        sides["TorchRL"] = TorchRlStep(loop, transitions)
    return sides


def _sizes(quick: bool) -> list[str]:
    """What a step costs by how much is in the buffer."""
    nums = (10_000, 100_000) if quick else (10_000, 100_000, 1_000_000, 5_000_000)
    loop = _changed(read_loop(_WORLD), agent="ddpg", stabilizer="srs2")
    samples: dict[int, Callable[[], object]] = {}
    steps: dict[int, Callable[[], object]] = {}
    for num in nums:
        filled = FilledReplay(loop, num)
        filled.fill(num)
        samples[num] = _sampling(filled, loop)
        steps[num] = OurStep(loop, filled.replay)
    rounds, repeats = (5, 20) if quick else (15, 50)
    sampling, updating = _interleaved(samples, rounds, 4 * repeats), _interleaved(steps, rounds, repeats)
    base = updating[nums[0]]
    rows = [
        (f"{num:,}", f"{1e6 * sampling[num]:.0f}", f"{1e3 * updating[num]:.2f}", f"{updating[num] / base:.2f}")
        for num in nums
    ]
    return _table(("transitions in the buffer", "minibatch, CPU µs", "update, CPU ms", "÷ the first"), rows)


def _sampling(filled: FilledReplay, loop: Loop) -> Callable[[], object]:
    return lambda: filled.replay.sample(loop.learner.batch_size)


def _memory(*, quick: bool) -> tuple[list[str], list[float]]:
    """What a process takes whose buffer is full; and how many GB each."""
    num = 100_000 if quick else 5_000_000
    rows, gigabytes = [], []
    for name, loop in (
        ("`weights` of 27, 91 numbers", _wide()),
        ("`shop`, slates of 1", read_loop(_SHOP)),
    ):
        before, after = _in_a_process(_filled_bytes, loop, num)
        rows.append((name, f"{num:,}", f"{(after - before) / num:.0f}", f"{after / 1e9:.2f}"))
        gigabytes.append(after / 1e9)
    header = ("buffer", "transitions", "bytes a transition", "process, GB (PSS)")
    return [*_table(header, rows), "", _ABOUT_MEMORY], gigabytes


def _filled_bytes(loop: Loop, num: int) -> tuple[int, int]:
    """The process's bytes before the buffer is filled, and after."""
    filled, before = FilledReplay(loop, num), _pss()
    filled.fill(num)
    return before, _pss()


def _pss() -> int:
    """Bytes of this process, of what it shares its part."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _wide() -> Loop:
    """The loop of virtualtb with 91 numbers as its state."""
    given = tomllib.loads(_WORLD.read_text(encoding="utf-8"))
    return Loop.model_validate(given | {"state": {"user": {"kind": "vector", "dim": 91}}})


def _changed(loop: Loop, **learner: str) -> Loop:
    return loop.model_copy(update={"learner": loop.learner.model_copy(update=learner)})


def _interleaved(steps: Mapping[_Key, Callable[[], object]], rounds: int, repeats: int) -> dict[_Key, float]:
    """CPU seconds of each step, the median of rounds in which each has its turn."""
    for step in steps.values():
        _repeat(step, _WARM_UPS)
    times = [{key: _repeat(step, repeats) for key, step in steps.items()} for _ in range(rounds)]
    return {key: median(each[key] for each in times) for key in steps}


def _repeat(step: Callable[[], object], num: int) -> float:
    started = time.process_time()
    for _ in range(num):
        step()
    return (time.process_time() - started) / num


def _in_a_process(run: Callable[..., Any], *arguments: object) -> Any:
    """What it returns, from a process that ends with it and gives its gigabytes back."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        return pool.submit(run, *arguments).result()


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.learner", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small buffers and few rounds: a minute")
    sys.stdout.write(report(quick=parser.parse_args(arguments).quick) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
