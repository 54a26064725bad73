"""`make bench`: every benchmark in turn, and what came of it in docs/performance.md."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from bench.page import measured_apart, page
from bench.peer_servers import SETTING
from bench.rankers import ROOT

NAMES = ("serving", "feedback", "footprint", "catalogue", "swaps", "overload", "learner", "peers")
"""Modules of this package, those that are there, and peers where the setting says where; each has `report(*, quick)`,
and `measure(*, quick)` if targets are about its figures."""
PAGE = ROOT / "docs" / "performance.md"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    names = options.names or [name for name in NAMES if _is_there(name)]
    started = time.time()
    sections = [measured_apart(name, quick=options.quick) for name in names]
    text = page(names, sections, time.time() - started)
    if options.page is not None:
        options.page.write_text(text, encoding="utf-8")
    elif not options.names and not options.quick:
        PAGE.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


def _is_there(name: str) -> bool:
    return find_spec(f"bench.{name}") is not None and (name != "peers" or bool(os.environ.get(SETTING)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some only, of {', '.join(NAMES)}; writes no page")
    parser.add_argument("--quick", action="store_true", help="see that all run; figures mean little; writes no page")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="write one all the same, or another than that in docs/"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
