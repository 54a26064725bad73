"""What this process did lately, in memory, for the console: latency, swaps, freshness."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

BUCKET_SECONDS = 2
KEPT_SECONDS = 3_600
_MAX_SWAPS = 10_000
_RATE_BUCKETS = 5

_STEPS_PER_DOUBLING = 16  # percentiles are right within 2 %
_SMALLEST_SECONDS = 2.0**-17  # 8 µs
_NUM_STEPS = _STEPS_PER_DOUBLING * 32  # up to 9 hours


class Histogram:
    """Durations in geometric bins: counting one costs a logarithm, percentiles cost a scan of the bins."""

    def __init__(self) -> None:
        self.num = 0
        self._bins = [0] * (_NUM_STEPS + 1)

    def add(self, seconds: float) -> None:
        self.num += 1
        step = int(_STEPS_PER_DOUBLING * math.log2(seconds / _SMALLEST_SECONDS)) if seconds > _SMALLEST_SECONDS else 0
        self._bins[min(step, _NUM_STEPS)] += 1

    def percentiles(self, shares: Sequence[float]) -> list[float]:
        """For each share, in ascending order, the middle of the bin in which it lies, in seconds; 0 if empty."""
        found: list[float] = []
        seen = 0
        for step, count in enumerate(self._bins):
            seen += count
            while len(found) < len(shares) and seen >= shares[len(found)] * self.num:
                found.append(_SMALLEST_SECONDS * 2 ** ((step + 0.5) / _STEPS_PER_DOUBLING) if self.num else 0.0)
        return found


@dataclass(frozen=True, slots=True)
class Latency:
    """Requests of one bucket of `BUCKET_SECONDS` that starts at `at`; times in seconds."""

    at: int
    requests: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Swap:
    at: float
    version: str


@dataclass(frozen=True, slots=True)
class Freshness:
    """Of one policy's first answer: how long its rewards had been final."""

    at: float
    p50: float
    p95: float


class Live:
    """Windows of the last hour. Used from the event loop only."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._bucket = self._bucket_of(clock())
        self._open = Histogram()
        self._latency: deque[Latency] = deque(maxlen=KEPT_SECONDS // BUCKET_SECONDS)
        self._swaps: deque[Swap] = deque(maxlen=_MAX_SWAPS)
        self._freshness: deque[Freshness] = deque(maxlen=_MAX_SWAPS)
        self._freshness_total = Histogram()

    def answered(self, now: float, seconds: float) -> None:
        """One `/recommend` was handled in `seconds`."""
        if now >= self._bucket + BUCKET_SECONDS:
            self._close_bucket(now)
        self._open.add(seconds)

    def swapped(self, version: str) -> None:
        self._swaps.append(Swap(self._clock(), version))

    def served(self, final_at: Sequence[float]) -> list[float]:
        """The first answer of a policy whose rewards had become final at these times, sorted; returns their ages."""
        now = self._clock()
        ages = [max(now - at, 0.0) for at in reversed(final_at)]
        if ages:
            self._freshness.append(Freshness(now, _quantile(ages, 0.5), _quantile(ages, 0.95)))
        for age in ages:
            self._freshness_total.add(age)
        return ages

    def latency(self, since: float) -> list[Latency]:
        """Closed buckets, oldest first."""
        if (now := self._clock()) >= self._bucket + BUCKET_SECONDS:
            self._close_bucket(now)
        return [each for each in self._latency if each.at >= since]

    def swaps(self, since: float) -> list[Swap]:
        return [each for each in self._swaps if each.at >= since]

    def freshness(self, since: float) -> list[Freshness]:
        return [each for each in self._freshness if each.at >= since]

    def freshness_total(self) -> Histogram:
        """All since the start."""
        return self._freshness_total

    def decisions_per_second(self) -> float:
        """Over the last closed buckets, ten seconds of them."""
        since = self._bucket_of(self._clock()) - _RATE_BUCKETS * BUCKET_SECONDS
        return sum(each.requests for each in self.latency(since)) / (_RATE_BUCKETS * BUCKET_SECONDS)

    def _close_bucket(self, now: float) -> None:
        if self._open.num:
            p50, p95, p99 = self._open.percentiles((0.5, 0.95, 0.99))
            self._latency.append(Latency(self._bucket, self._open.num, p50, p95, p99))
            self._open = Histogram()
        self._bucket = self._bucket_of(now)

    @staticmethod
    def _bucket_of(now: float) -> int:
        return int(now // BUCKET_SECONDS) * BUCKET_SECONDS


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
