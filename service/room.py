"""Overload is refused early: what is being answered is bounded, and one request more hears so at once."""

import time
from collections.abc import Callable

from prometheus_client import Counter

_SHORT_SECONDS = 0.003
_CROWDED_SECONDS = 0.5
_TRY_SECONDS = 60.0
_LARGE_SHARE = 1 / 3
_SMOOTHING = 0.003  # a request


class Room:
    """Whoever may `enter` must `leave` once its request was answered.

    All requests that have arrived are read in each turn of the event loop before any is answered, so they are counted
    here, not in a queue of the kernel. A burst, and clients that each wait for their answer, make a queue that is as
    long as they are many. Where more come than can be answered it grows as far as it may, and stays: Nichols & Jacobson
    2012 ("Controlling queue delay", ACM Queue 10(5)) call this one bad. So from when somebody finds no room there is
    room for 3 ms of answers only: enough to keep the core busy. It is whole again once for half a second no more than
    a third were refused, as happens to what would fit. Clients that ask again at once, however few, could keep it
    small for ever: so a minute is the longest.
    """

    def __init__(
        self,
        max_requests: int,
        refused: Counter,
        max_seconds: float,
        wait_seconds: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wait_seconds` tells how long those take that the next one waits for: past `max_seconds` there is no room."""
        self._max_requests = max_requests
        self._refused = refused
        self._max_seconds = max_seconds
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._num = 0
        self._refused_share = 0.0
        self._crowded_since = self._crowded_until = -float("inf")

    def enter(self) -> bool:
        """Whether there is room; who has none should try again."""
        is_full = self._is_full()
        self._refused_share += _SMOOTHING * (is_full - self._refused_share)
        if is_full:
            self._crowd(self._clock())
            self._refused.inc()
        else:
            self._num += 1
        return not is_full

    def leave(self) -> None:
        self._num -= 1

    def _crowd(self, now: float) -> None:
        if now >= self._crowded_until:
            self._crowded_since, self._crowded_until = now, now + _CROWDED_SECONDS
        elif self._refused_share > _LARGE_SHARE:
            self._crowded_until = min(now + _CROWDED_SECONDS, self._crowded_since + _TRY_SECONDS)

    def _is_full(self) -> bool:
        seconds = self._wait_seconds()
        if self._num >= self._max_requests or seconds > self._max_seconds:
            return True
        return seconds > _SHORT_SECONDS and self._clock() < self._crowded_until
