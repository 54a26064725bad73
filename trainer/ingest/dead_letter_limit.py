"""When so much is bad that it is better to stop than to go on (DESIGN §6). Pure."""

from collections import deque
from collections.abc import Iterable


class DeadLetterLimit:
    """Past it more than the share of the last `window` elements were bad, and the last `max_run` all were.

    Both, since a burst of one bad producer is no reason to hold up the others.
    """

    def __init__(self, max_share: float, window: int, max_run: int) -> None:
        self._max_share = max_share
        self._window = window
        self._max_run = max_run
        self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self._records: deque[tuple[int, int]] = deque()
        self._num_good = self._num_bad = self._run = 0

    def add(self, judged: Iterable[tuple[int, int]]) -> str | None:
        """Takes in how many elements of each record were good and bad; returns why to stop, if so."""
        why = None
        for num_good, num_bad in judged:
            self._take(num_good, num_bad)
            why = why or self._reason()
        return why

    def _take(self, num_good: int, num_bad: int) -> None:
        self._records.append((num_good, num_bad))
        self._num_good += num_good
        self._num_bad += num_bad
        self._run = num_bad if num_good else self._run + num_bad
        while self._num_good + self._num_bad - sum(self._records[0]) >= self._window:
            gone = self._records.popleft()
            self._num_good -= gone[0]
            self._num_bad -= gone[1]

    def _reason(self) -> str | None:
        if self._num_bad <= self._max_share * self._window or self._run < self._max_run:
            return None
        num_seen = self._num_good + self._num_bad
        return f"{self._num_bad:,} of the last {num_seen:,} elements were bad, and the last {self._run:,} all"
