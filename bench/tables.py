"""What benchmarks say: markdown, and the figures that the project's targets are about."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Section:
    """What one benchmark measured."""

    text: str
    """Markdown."""
    figures: dict[str, float] = field(default_factory=dict)
    """By the keys of `bench.targets`; those that were not measured are missing."""


def section(title: str, *blocks: str) -> str:
    return "\n\n".join([f"## {title}", *filter(None, blocks)])


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; the first column is text, the others are figures."""
    rules = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rules, *rows))


def print_report(report: Callable[..., str], about: str | None) -> None:
    """The command line of one benchmark."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="see that it runs; figures mean little")
    sys.stdout.write(report(quick=parser.parse_args().quick) + "\n")
