"""What a study is: one question, its settings, one run of a setting with a seed, and what the runs say together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from matplotlib.figure import Figure

Result: TypeAlias = dict[str, Any]
"""What came of one run: numbers and lists of them, as JSON holds them."""
Results: TypeAlias = Mapping[str, Sequence[Result]]
"""By the cell's name, the results of seed after seed: those of two cells are paired."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting, which is run with every seed."""

    name: str
    settings: Mapping[str, Any]
    """As JSON holds them; a run that is kept is told by them, so what alters the result belongs here."""
    max_seeds: int | None = None
    """Where fewer seeds than the study's say enough."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the runs say."""

    text: str
    """Markdown: a paragraph, tables."""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """By the end of its file's name; "" where there is one only."""


@dataclass(frozen=True, slots=True)
class Study:
    name: str
    title: str
    """Of its part of studies/RESULTS.md."""
    question: str
    cells: Sequence[Cell]
    run: Callable[[Cell, int, int], Result]
    """A cell, a seed, a number of decisions. At the top level of a module: other processes import it."""
    report: Callable[[Results], Report]
    first_seed: int = 1_000
    """Seeds below 1,000 are for development: settings are chosen on those, and claimed on others."""
    num_seeds: int = 20
    num_decisions: int = 48_000
    quick_decisions: int = 640
    """Of `--quick`, one seed, which shows that it runs, and nothing else."""
