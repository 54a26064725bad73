"""Figures are files that two runs of the same results make alike."""

from pathlib import Path

from studies.plots import grid, learning_curves, write_figure


def test_the_same_results_give_the_same_files(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        figure, panels = grid(3)
        for panel in panels:
            learning_curves(panel, {"raw": [[0.1, 0.2], [0.2, 0.4]], "srs": [[0.3, 0.4]]}, 1_000, "NS")
        link = write_figure(figure, tmp_path / folder, "toy")
        assert link == f"![toy]({folder}/toy.png) ([SVG]({folder}/toy.svg))"
    for name in ("toy.png", "toy.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert (tmp_path / "one" / "toy.png").stat().st_size > 10_000
