"""Overload is refused early: what is being answered is bounded, and one request more hears so at once."""

import time
from collections.abc import Callable

from prometheus_client import Counter

_CROWDED_SECONDS = 0.003
_CALM_SECONDS = 0.5
_TRY_SECONDS = 60.0


class Room:
    """Whoever may `enter` must `leave` once its request was answered.

    All requests that have arrived are read in each turn of the event loop before any is answered, so they are counted
    here, not in a queue of the kernel. A burst, and clients that each wait for their answer, make a queue that is as
    long as they are many. Where more come than can be answered it grows as far as it may, and stays: Nichols & Jacobson
    2012 ("Controlling queue delay", ACM Queue 10(5)) call this one bad. So from when somebody finds no room there is
    room for 3 ms of answers only: enough that the core is never idle. It is whole again once nobody was refused for
    half a second, or after a minute, as clients that ask again at once would never be quiet.
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
        self._crowded_since = self._crowded_until = -float("inf")

    def enter(self) -> bool:
        """Whether there is room; who has none should try again."""
        if self._is_full():
            self._refuse()
            return False
        self._num += 1
        return True

    def leave(self) -> None:
        self._num -= 1

    def _refuse(self) -> None:
        now = self._clock()
        if now >= self._crowded_until:
            self._crowded_since = now
        self._crowded_until = min(now + _CALM_SECONDS, self._crowded_since + _TRY_SECONDS)
        self._refused.inc()

    def _is_full(self) -> bool:
        seconds = self._wait_seconds()
        if self._num >= self._max_requests or seconds > self._max_seconds:
            return True
        return seconds > _CROWDED_SECONDS and self._clock() < self._crowded_until
