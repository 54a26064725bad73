import pytest

from bench.targets import TARGETS, Target, targets_section

RATE = Target("rate", "requests", 1_000, 2_000, digits=0)
STALL = Target("stall", "longest stall, ms", 5, 2, is_ceiling=True, digits=1)


@pytest.mark.parametrize(
    ("target", "value", "verdict"),
    [
        (RATE, 999.9, "**missed**"),
        (RATE, 1_000, "met"),
        (RATE, 2_000, "met, good"),
        (STALL, 5.1, "**missed**"),
        (STALL, 5.0, "met"),
        (STALL, 2.0, "met, good"),
        (STALL, float("nan"), "**missed**"),
        (RATE, float("nan"), "**missed**"),
    ],
)
def test_a_figure_meets_its_bound_or_misses_it(target: Target, value: float, verdict: str) -> None:
    assert target.verdict(value) == verdict


def test_the_table_has_every_target_and_says_which_was_not_measured() -> None:
    lines = targets_section({"share": 0.4567, "events": 287_654.3}).splitlines()[4:]
    assert len(lines) == len(TARGETS)
    assert lines[0].endswith("| 0.46 | ≥ 0.40 | ≥ 0.50 | met |")
    assert [line for line in lines if "events/s" in line] == [
        "| batched feedback accepted, durable, events/s | 287,654 | ≥ 200,000 | ≥ 300,000 | met |"
    ]
    assert sum("no figure" in line for line in lines) == len(TARGETS) - 2


def test_good_is_never_easier_than_must() -> None:
    assert all(target.verdict(target.good) == "met, good" for target in TARGETS)
    assert len({target.key for target in TARGETS}) == len(TARGETS)
    for target in TARGETS:
        assert target.must >= target.good if target.is_ceiling else target.must <= target.good
