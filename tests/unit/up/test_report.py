"""The report is what was heard and what the store holds; what must not be is found in it."""

import json
from pathlib import Path

import msgspec
import pytest

from service.up.ranker import ConsoleData, RankerRecord
from service.up.report import Evidence, Report, make_report, problems, summary, write_report
from service.up.shoppers import ShoppersRecord
from storage.story import RewardTotal
from tests.e2e.fake_ranker import newborn
from tests.unit.up.lines import start, tick


def ranker() -> RankerRecord:
    record = RankerRecord()
    fields = {
        "totals": {"decisions": 1200, "feedback_accepted": 55},
        "freshness_total": {"p50": 1.6, "p95": 3.4, "count": 9},
        "swaps": [{"at": 1.0, "version": f"{i:06}"} for i in range(1, 25)],
        "learner": {"noise_share": 0.93},
    }
    record.add(msgspec.json.decode(json.dumps(newborn(1.0) | fields), type=ConsoleData))
    return record


def shoppers(world: str = "shop", **more: float) -> ShoppersRecord:
    record = ShoppersRecord()
    counts = {"requests_failed": 2, "feedback_accepted": 50, "versions": 23}
    record.add(start(world))
    record.add(tick(1000, 0, 0.0))
    record.add(tick(1020, 200, 40.0))
    record.add(tick(1050, 500, 100.0))
    record.add(tick(1080, 1000, 350.0, "end", **counts, **more))
    return record


def evidence(
    shoppers: ShoppersRecord | None, num_stored: int | None = 50, totals: tuple[RewardTotal, ...] = ()
) -> Evidence:
    return Evidence(
        ranker=ranker(),
        shoppers=shoppers,
        seconds=60.0,
        num_stored=num_stored,
        totals=list(totals),
        restarts={"serve": 1, "ingest": 0},
        loop_name="shop",
        url="http://127.0.0.1:8080",
    )


def test_the_report_of_a_world_is_by_its_shoppers() -> None:
    assert make_report(evidence(shoppers())) == {
        "loop": "shop",
        "world": "shop",
        "seconds": 80.0,
        "decisions": 1000,
        "decisions_per_second": 12.5,
        "reward_per_decision": {"start": 0.2, "end": 0.5, "random": 0.2},
        "requests_failed": 2,
        "feedback_accepted": 50,
        "feedback_stored": 50,
        "policies_swapped": 24,
        "feedback_to_served_seconds": {"p50": 1.6, "p95": 3.4},
        "learner": {"noise_share": 0.93},
        "restarts": {"serve": 1, "ingest": 0},
        "console": "http://127.0.0.1:8080/console",
    }


def test_a_world_of_pages_has_a_click_through_rate() -> None:
    pages = shoppers("virtualtb", pages=1000, clicks=350.0)
    assert make_report(evidence(pages))["ctr"]["end"] == pytest.approx(350 / 1000 / 10)


def test_without_a_world_rewards_are_those_of_the_store() -> None:
    totals = (
        RewardTotal(1000, "fallback", 10, 2.0, 2.0),
        RewardTotal(1028, "fallback", 10, 4.0, 4.0),
        RewardTotal(1030, "learned", 10, 9.0, 9.0),  # 30 s after the first
        RewardTotal(1080, "learned", 10, 5.0, 5.0),
        RewardTotal(1080, "explore", 30, 3.0, 3.0),
    )
    report = make_report(evidence(None, totals=totals))
    assert report["world"] is None
    assert report["reward_per_decision"] == {"start": 0.3, "end": 0.2, "random": 0.3}
    assert (report["decisions"], report["seconds"], report["decisions_per_second"]) == (1200, 60.0, 20.0)
    assert (report["feedback_accepted"], report["requests_failed"]) == (55, None)


def test_control_users_are_the_random_policy_where_there_are_any() -> None:
    totals = (RewardTotal(1000, "fallback", 10, 2.0, 2.0), RewardTotal(1000, "control", 4, 1.0, 1.0))
    assert make_report(evidence(None, totals=totals))["reward_per_decision"]["random"] == 0.25


@pytest.mark.parametrize(
    ("num_stored", "found"),
    [
        (50, []),
        (51, []),  # the ranker was killed between storing it and saying so
        (43, ["7 of 50 accepted feedback events are not stored"]),
        (None, ["the store could not be read, so nobody knows whether it holds all feedback"]),
    ],
)
def test_what_was_accepted_must_be_stored(num_stored: int | None, found: list[str]) -> None:
    assert problems(make_report(evidence(shoppers(), num_stored))) == found


def test_a_product_s_retries_are_no_loss() -> None:
    assert problems(make_report(evidence(None, num_stored=43))) == []


def test_a_run_without_a_decision_is_a_failure_and_can_be_written(tmp_path: Path) -> None:
    nothing = evidence(ShoppersRecord(), 0)
    report = make_report(nothing)
    assert problems(report) == ["no decision was made"]
    assert report["decisions_per_second"] is None
    assert "0 decisions" in summary(report)
    write_report(tmp_path / "report.json", report)


def test_the_file_is_whole_and_alone(tmp_path: Path) -> None:
    report = make_report(evidence(shoppers()))
    path = tmp_path / "report.json"
    path.write_text("an older one")
    write_report(path, report)
    assert json.loads(path.read_text()) == report
    assert list(tmp_path.iterdir()) == [path]


def test_the_summary_says_what_people_want_to_know() -> None:
    text = summary(make_report(evidence(shoppers(), 50)))
    for part in (
        "1,000 decisions in 80 s",
        "0.2 at the start, 0.5 at the end, 2.50 × random (0.2)",
        "policies swapped in: 24",
        "p50 1.6 s, p95 3.4 s",
        "requests failed: 2",
        "50 accepted, 50 stored",
        "restarted: serve 1×",
    ):
        assert part in text
    assert "click-through" not in text


def test_the_summary_of_a_world_of_pages_has_the_rate() -> None:
    report: Report = make_report(evidence(shoppers("virtualtb", pages=1000, clicks=350.0)))
    assert "click-through rate: – at the start, 0.035 at the end" in summary(report)
