"""`make bench`: every benchmark in turn, and what came of it in docs/performance.md.

Each runs in a process of its own, so that what one leaves in memory or pins to a core is not felt by the next.
"""

import argparse
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from bench.rankers import ROOT
from bench.tables import Section
from bench.targets import targets_section

NAMES = ("serving", "feedback", "footprint", "catalogue", "swaps", "overload", "learner")
"""Modules of this package; each has `report(*, quick)`, and `measure(*, quick)` if targets are about its figures."""
PAGE = ROOT / "docs" / "performance.md"
_HEAD = """
# Performance

Written by `make bench` on {date}, in {minutes:.0f} minutes, at commit {commit}, on {machine}.

It measures the ranker as users start it (`steadyrank serve` on SQLite, decision log on) beside what the machine can do
at all and beside other ways to do the same. Other machines, and other hours of this one, give other times: only ratios
within one run compare. `python -m bench NAME` repeats one section; the NAMEs are {names}.
""".strip()


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    names = options.names or [name for name in NAMES if find_spec(f"bench.{name}")]
    started = time.time()
    sections = [_apart(name, quick=options.quick) for name in names]
    text = _page(names, sections, time.time() - started)
    if options.page is not None:
        options.page.write_text(text, encoding="utf-8")
    elif not options.names and not options.quick:
        PAGE.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some only, of {', '.join(NAMES)}; writes no page")
    parser.add_argument("--quick", action="store_true", help="see that all run; figures mean little; writes no page")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="write one all the same, or another than that in docs/"
    )
    return parser


def _apart(name: str, *, quick: bool) -> Section:
    started = time.monotonic()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        measured = apart.submit(measure, name, quick=quick).result()
    sys.stderr.write(f"bench.{name}: {time.monotonic() - started:.0f} s\n")
    return measured


def measure(name: str, *, quick: bool) -> Section:
    """One benchmark, in this process."""
    module = import_module(f"bench.{name}")
    if not hasattr(module, "measure"):
        return Section(module.report(quick=quick))
    measured: Section = module.measure(quick=quick)
    return measured


# ------------------------------------------------------------------ the page


def _page(names: Sequence[str], sections: Sequence[Section], seconds: float) -> str:
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


if __name__ == "__main__":
    sys.exit(main())
