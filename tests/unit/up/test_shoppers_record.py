"""Means over the first and the last 30 s of what shoppers got, and counts that a restart does not lose."""

import pytest

from service.up.shoppers import ShoppersRecord
from tests.unit.up.lines import start, tick


def heard(*lines: str) -> ShoppersRecord:
    record = ShoppersRecord()
    for line in lines:
        record.add(line)
    return record


def growing(seconds: int) -> list[str]:
    """10 decisions a second; the reward of one is 0.1 in the first 30 s, 0.5 in the last 30 of 100, 0.3 between."""
    lines, reward = [tick(1000.0, 0, 0.0)], 0.0
    for second in range(1, seconds + 1):
        reward += 10 * (0.1 if second <= 30 else 0.5 if second > 70 else 0.3)
        lines.append(tick(1000.0 + second, 10 * second, reward))
    return lines


def test_the_first_and_the_last_thirty_seconds() -> None:
    record = heard(start(), *growing(100))
    assert record.world == "shop"
    assert record.random == 0.2
    assert record.seconds == 100
    assert record.first().decisions == record.last().decisions == 300
    assert record.first().reward_per_decision == pytest.approx(0.1)
    assert record.last().reward_per_decision == pytest.approx(0.5)


def test_they_overlap_in_a_short_run() -> None:
    record = heard(start(), *growing(40))
    assert record.first().reward_per_decision == pytest.approx(0.1)
    assert record.last().reward_per_decision == pytest.approx((20 * 0.1 + 10 * 0.3) / 30)


def test_time_counts_from_the_first_decision() -> None:
    idle = [tick(at, 0, 0.0) for at in (900.0, 950.0, 999.0)]
    record = heard(start(), *idle)
    assert record.began_at is None
    assert record.seconds == 0
    record.add(tick(1000.0, 5, 1.0))
    assert record.began_at == 999.0
    assert heard(start(), tick(1000.0, 5, 1.0)).began_at == 999.0, "a tick is a second"


def test_counts_go_on_when_shoppers_are_restarted() -> None:
    record = heard(
        start(),
        tick(1001, 100, 20.0, requests_failed=3, feedback_accepted=40, versions=2),
        start(),
        tick(1010, 0, 0.0),
        tick(1011, 50, 30.0, requests_failed=1, feedback_accepted=25, versions=1),
    )
    assert record.latest.decisions == 150
    assert record.latest.requests_failed == 4
    assert record.latest.feedback_accepted == 65
    assert record.latest.versions == 2
    assert record.last().reward_per_decision == pytest.approx(50 / 150)


def test_the_click_through_rate_is_of_ten_items_a_page() -> None:
    record = heard(start("virtualtb", 0.3), tick(1000, 0, 0.0), tick(1001, 20, 150.0, pages=20, clicks=150.0))
    assert record.last().click_through_rate == pytest.approx(0.75)
    assert heard(start(), tick(1001, 20, 15.0)).last().click_through_rate is None


def test_what_is_no_line_of_theirs_says_nothing() -> None:
    record = heard(start(), tick(1001, 7, 1.0), tick(1002, 9, 1.0)[:40], "Traceback (most recent call last)\n", "\n")
    assert record.latest.decisions == 7


def test_before_any_line_there_is_nothing_to_divide_by() -> None:
    record = heard()
    assert record.first().reward_per_decision is None
    assert record.last().reward_per_decision is None
