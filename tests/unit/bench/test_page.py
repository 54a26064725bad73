import pytest

import bench.__main__
from bench.page import page
from bench.tables import Section
from bench.targets import TARGETS


def test_the_page_has_the_targets_and_then_every_section() -> None:
    sections = [Section("## One\n\nfirst\n", {"share": 0.41}), Section("## Two\n\nsecond", {"memory": 70.0})]
    text = page(["one", "two"], sections, 600)
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# Performance",
        "## Targets",
        "## One",
        "## Two",
    ]
    assert "in 10 minutes" in text
    assert "| 0.41 | ≥ 0.40 | ≥ 0.50 | met |" in text
    assert "| 70 | ≤ 60 | ≤ 45 | **missed** |" in text
    assert text.count("no figure") == len(TARGETS) - 2
    assert text.endswith("\nsecond\n")


@pytest.mark.parametrize("options", [["--quick"], ["serving"]])
def test_a_part_of_the_benchmark_leaves_the_page_alone(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    before = bench.__main__.PAGE.read_bytes() if bench.__main__.PAGE.exists() else None
    monkeypatch.setattr(bench.__main__, "measured_apart", lambda name, quick: Section(f"## {name} {quick}"))
    assert bench.__main__.main(options) == 0
    assert (bench.__main__.PAGE.read_bytes() if bench.__main__.PAGE.exists() else None) == before
