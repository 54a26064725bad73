"""Benchmarks one by one, and the page of what they measured."""

import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from pathlib import Path

from bench.rankers import ROOT
from bench.tables import Section
from bench.targets import targets_section

_HEAD = """
# Performance

Written by `make bench` on {date}, in {minutes:.0f} minutes, at commit {commit}, on {machine}.

It measures the ranker as users start it (`steadyrank serve` on SQLite, decision log on) beside what the machine can do
at all and beside other ways to do the same. Other machines, and other hours of this one, give other times: only ratios
within one run compare. `python -m bench NAME` repeats one section; the NAMEs are {names}.
""".strip()


def measured_apart(name: str, *, quick: bool) -> Section:
    """In a process of its own, so that what it leaves in memory or pins to a core is not felt by the next one."""
    started = time.monotonic()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        measured = apart.submit(_measured, name, quick=quick).result()
    # At once: should a later one fail, what was measured is not lost.
    sys.stderr.write(f"bench.{name}, {time.monotonic() - started:.0f} s\n\n{measured.text.strip()}\n\n")
    return measured


def _measured(name: str, *, quick: bool) -> Section:
    module = import_module(f"bench.{name}")
    if not hasattr(module, "measure"):
        return Section(module.report(quick=quick))
    measured: Section = module.measure(quick=quick)
    return measured


def page(names: Sequence[str], sections: Sequence[Section], seconds: float) -> str:
    """In markdown; `seconds` is how long all of it took."""
    figures = {key: figure for section in sections for key, figure in section.figures.items()}
    head = _HEAD.format(
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        minutes=max(1, seconds / 60),
        commit=_commit(),
        machine=_machine(),
        names=", ".join(names),
    )
    return "\n\n".join([head, targets_section(figures), *(section.text.strip() for section in sections)]) + "\n"


def _commit() -> str:
    """What was measured, where this is a checkout."""
    asked = ["git", "describe", "--always", "--abbrev=10", "--dirty= with changes"]
    try:
        answer = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603 (git)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()


def _machine() -> str:
    where = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{len(os.sched_getaffinity(0))} cores of {_processor()}, {where}"


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
