"""Overload is refused early: what is being answered is bounded, and one request more hears so at once."""

from collections.abc import Callable

from prometheus_client import Counter

from service.problems import unavailable


class Room:
    """`with room:` around the answering of one request.

    All requests that have arrived are read in each turn of the event loop before any is answered, so they are counted
    here, not in a queue of the kernel: one more than there is room for costs no more than its parsing, and the others
    wait for no more than `max_requests` answers, nor much longer than `max_seconds`.
    """

    def __init__(
        self, max_requests: int, refused: Counter, max_seconds: float, seconds_each: Callable[[], float]
    ) -> None:
        """`seconds_each` tells what one answer takes now: of a large catalogue it may be many times that of a few."""
        self._max_requests = max_requests
        self._refused = refused
        self._max_seconds = max_seconds
        self._seconds_each = seconds_each
        self._num = 0

    def __enter__(self) -> None:
        """Raises `ProblemError`: 503, there is no room."""
        num = self._num
        if num >= self._max_requests or num * self._seconds_each() > self._max_seconds:
            self._refused.inc()
            raise unavailable(f"{num} requests are being answered, and no more are taken; try again")
        self._num += 1

    def __exit__(self, *_: object) -> None:
        self._num -= 1
