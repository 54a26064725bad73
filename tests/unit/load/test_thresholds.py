"""Thresholds of a load test: files that are wrong name the key, and each figure is judged the right way round."""

from pathlib import Path
from typing import Any

import pytest

from loadtest.load.report import put_into_html, table
from loadtest.load.thresholds import Thresholds, ThresholdsError, judge, read_thresholds

OURS = Path(__file__).parents[3] / "loadtest" / "thresholds.toml"
FIGURES: dict[str, Any] = {
    "seconds": 60.0,
    "requests": {"num": 900, "failed_share": 0.01, "per_second": 15.0},
    "routes": {"/recommend": {"failed_share": 0.0, "per_second": 10.0, "p50_ms": 3, "p95_ms": 8, "p99_ms": 20}},
    "feedback": {"lost": 0, "unexplained": 2},
    "learning": {"times_random": 1.5, "policies": 7},
}


def judged(thresholds: dict[str, Any], figures: dict[str, Any] = FIGURES) -> dict[str, bool | None]:
    verdicts = judge(Thresholds.model_validate(thresholds), figures)
    return {verdict.name: verdict.is_kept for verdict in verdicts}


def test_the_file_of_the_repository_is_read() -> None:
    assert read_thresholds(OURS).routes["/recommend"].p99_ms == 1000


def test_latencies_and_shares_are_bounds_from_above_and_rates_from_below() -> None:
    assert judged({"requests": {"failed_share": 0.01, "per_second": 15}}) == {
        "requests.failed_share": True,
        "requests.per_second": True,
    }
    assert judged({"requests": {"failed_share": 0.009, "per_second": 15.1}}) == {
        "requests.failed_share": False,
        "requests.per_second": False,
    }
    assert judged({"routes": {"/recommend": {"p50_ms": 3, "p95_ms": 7.9, "per_second": 11}}}) == {
        "routes./recommend.p50_ms": True,
        "routes./recommend.p95_ms": False,
        "routes./recommend.per_second": False,
    }


def test_events_and_learning_are_judged() -> None:
    assert judged({"feedback": {"lost": 0, "unexplained": 1}, "learning": {"times_random": 1.5, "policies": 8}}) == {
        "feedback.lost": True,
        "feedback.unexplained": False,
        "learning.times_random": True,
        "learning.policies": False,
    }


def test_a_run_too_short_to_learn_is_not_judged_by_what_it_learned() -> None:
    assert judged({"learning": {"from_seconds": 61, "times_random": 9}}) == {"learning.times_random": None}
    assert judged({"learning": {"from_seconds": 60, "times_random": 9}}) == {"learning.times_random": False}


def test_a_route_that_nobody_asked_is_a_broken_threshold_and_a_section_not_measured_is_none() -> None:
    thresholds = {"routes": {"/recomend": {"p50_ms": 5}}, "kafka": {"p50_ms": 5}}
    assert judged(thresholds) == {"routes./recomend.p50_ms": False, "kafka.p50_ms": None}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[requests]\nfailed_shar = 0.1", "requests.failed_shar is no threshold"),
        ("[latency]\np50_ms = 1", "latency is no threshold"),
        ('[routes."/recommend"]\np90_ms = 1', "routes./recommend.p90_ms is no threshold"),
        ("[requests]\nfailed_share = 2", "requests.failed_share = 2"),
        ('[routes."/feedback"]\np50_ms = "fast"', "routes./feedback.p50_ms = 'fast'"),
        ("[feedback]\nlost = -1", "feedback.lost = -1"),
        ("[requests\n", "is not TOML"),
    ],
)
def test_a_wrong_file_names_the_key(tmp_path: Path, text: str, names: str) -> None:
    file = tmp_path / "thresholds.toml"
    file.write_text(text)
    with pytest.raises(ThresholdsError) as caught:
        read_thresholds(file)
    assert names in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ThresholdsError, match="cannot be read"):
        read_thresholds(tmp_path / "none.toml")


def test_the_table_says_what_was_broken_and_what_was_not_measured(tmp_path: Path) -> None:
    thresholds = {"requests": {"per_second": 100}, "kafka": {"p50_ms": 5}, "feedback": {"lost": 0}}
    verdicts = judge(Thresholds.model_validate(thresholds), FIGURES)
    assert [line.split() for line in table(verdicts)] == [
        ["threshold", "bound", "measured"],
        ["requests.per_second", "≥", "100", "15", "BROKEN"],
        ["kafka.p50_ms", "≤", "5", "–", "–", "(not", "measured", "in", "this", "run)"],
        ["feedback.lost", "≤", "0", "0", "ok"],
    ]
    page = tmp_path / "report.html"
    page.write_text("<html><body><div></div></body></html>")
    put_into_html(page, verdicts, ["a < b"])
    assert "<body><section" in page.read_text()
    assert "a &lt; b" in page.read_text()
    assert "BROKEN" in page.read_text()
