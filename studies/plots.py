"""Figures of the studies, each as PNG and SVG. The same results give the same files."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

_COLOURS = {"raw": "#888888", "oracle": "#000000"}
"""What is the same in all figures; others take the next colour."""


def learning_curves(axes: Axes, curves: Mapping[str, ArrayLike], num_decisions: int, measure: str) -> None:
    """Means of [seeds, P] by name over decisions, with bands of one standard error."""
    for name, of_seeds in curves.items():
        heights = np.asarray(of_seeds, float)
        x = np.linspace(0, num_decisions, heights.shape[1] + 1)[1:]
        mean, error = heights.mean(axis=0), heights.std(axis=0, ddof=min(1, len(heights) - 1)) / len(heights) ** 0.5
        [line] = axes.plot(x, mean, label=name, color=_COLOURS.get(name), linewidth=1.5)
        axes.fill_between(x, mean - error, mean + error, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set_xlabel("decisions")
    axes.set_ylabel(f"{measure} (band: ± 1 standard error)")
    axes.set_xlim(0, num_decisions)
    axes.grid(alpha=0.3)


def grid(num_panels: int, num_columns: int = 2) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels."""
    num_columns = min(num_columns, num_panels)
    num_rows = -(-num_panels // num_columns)
    figure = Figure(figsize=(5.2 * num_columns, 3.8 * num_rows), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, squeeze=False).ravel().tolist()
    for spare in panels[num_panels:]:
        spare.remove()
    return figure, panels[:num_panels]


def write_figure(figure: Figure, folder: Path, name: str) -> str:
    """Writes both files; returns the Markdown that shows the PNG and links the SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "steadyrank"}):
        figure.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    return f"![{name}]({folder.name}/{name}.png) ([SVG]({folder.name}/{name}.svg))"
