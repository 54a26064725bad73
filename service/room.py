"""Overload is refused early: a bounded number of requests is being answered, and one more hears so at once."""

from prometheus_client import Counter

from service.problems import unavailable


class Room:
    """`with room:` around the answering of one request.

    All requests that have arrived are read in each turn of the event loop before any is answered, so they are counted
    here, not in a queue of the kernel: one more than there is room for costs a few microseconds, and the others wait
    for no more than `max_requests` answers.
    """

    def __init__(self, max_requests: int, refused: Counter) -> None:
        self._max_requests = max_requests
        self._refused = refused
        self._num = 0

    def __enter__(self) -> None:
        """Raises `ProblemError`: 503, there is no room."""
        if self._num >= self._max_requests:
            self._refused.inc()
            raise unavailable(f"{self._num} requests are being answered, and no more are taken; try again")
        self._num += 1

    def __exit__(self, *_: object) -> None:
        self._num -= 1
