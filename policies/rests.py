"""How a thread rests between slices of long work, so that whoever answers requests beside it goes first."""

import time
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

REST_SECONDS = 0.0002
_MAX_RESTS = 10  # then one slice: where answering never ends, the work must do so all the same

Rest: TypeAlias = Callable[[], None]
"""Called after each slice. Who only lets go of Python's lock gets it again before others have done more than one of the
steps of a request.
"""


def rest() -> None:
    """For where nobody waits, or nobody knows."""
    time.sleep(REST_SECONDS)


def rest_while(is_busy: Callable[[], bool]) -> Rest:
    """Rests as long as `is_busy` as well, up to a bound. A request lets go of Python's lock at each product of numpy,
    dozens of times, and each time it would wait for a whole slice.
    """
    return partial(_rest_while, is_busy)


def _rest_while(is_busy: Callable[[], bool]) -> None:
    rest()
    for _ in range(_MAX_RESTS):
        if not is_busy():
            return
        rest()
