import pytest

from service.live import Histogram, Live


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_percentiles_are_right_within_a_bin() -> None:
    histogram = Histogram()
    for milliseconds in range(1, 1_001):
        histogram.add(milliseconds / 1_000)
    assert histogram.percentiles((0.5, 0.95, 0.99)) == pytest.approx([0.5, 0.95, 0.99], rel=0.05)


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e6, 1e30])
def test_a_histogram_takes_any_duration(seconds: float) -> None:
    histogram = Histogram()
    histogram.add(seconds)
    assert len(histogram.percentiles((0.5, 1.0))) == 2


def test_latency_is_told_by_closed_buckets_of_two_seconds() -> None:
    clock = Clock()
    live = Live(clock)
    for now, seconds in ((1_000.0, 0.001), (1_001.9, 0.001), (1_002.0, 0.1)):
        clock.now = now
        live.answered(now, seconds)
    (first,) = live.latency(since=0)
    assert (first.at, first.requests) == (1_000, 2)
    assert first.p99 == pytest.approx(0.001, rel=0.05)
    clock.now = 1_004.0
    assert [(row.at, row.requests) for row in live.latency(since=1_002)] == [(1_002, 1)]


def test_idle_buckets_are_left_out_and_the_rate_counts_them() -> None:
    clock = Clock()
    live = Live(clock)
    for _ in range(50):
        live.answered(clock.now, 0.001)
    clock.now = 1_009.0
    assert [row.requests for row in live.latency(0)] == [50]
    assert live.decisions_per_second() == 5.0
    clock.now = 1_030.0
    assert live.decisions_per_second() == 0.0


def test_freshness_is_the_age_of_rewards_at_the_first_answer() -> None:
    clock = Clock()
    live = Live(clock)
    ages = live.served([990.0, 996.0, 998.0, 999.0])
    assert ages == [1.0, 2.0, 4.0, 10.0]
    (freshness,) = live.freshness(0)
    assert (freshness.p50, freshness.p95) == (2.0, 10.0)
    assert live.freshness_total().num == 4


def test_a_policy_without_rewards_says_nothing_of_freshness() -> None:
    live = Live(Clock())
    assert live.served([]) == []
    assert live.freshness(0) == []


def test_swaps_are_told_since_a_time() -> None:
    clock = Clock()
    live = Live(clock)
    live.swapped("000001")
    clock.now = 1_010.0
    live.swapped("000002")
    assert [swap.version for swap in live.swaps(1_005)] == ["000002"]
