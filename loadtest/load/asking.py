"""Asking as a careful product does: what failed is asked again under the same ids. No I/O of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

FIRST_PAUSE_SECONDS = 0.05
MAX_PAUSE_SECONDS = 2.0
MAX_RETRY_AFTER_SECONDS = 5.0
_TRANSIENT = frozenset((408, 425, 429))


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt."""

    status: int
    """0: there was no answer."""
    body: bytes = b""
    retry_after: str = ""
    """The header, as it came."""

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_worth_asking_again(self) -> bool:
        """A mistake of ours stays one."""
        return self.status == 0 or self.status >= 500 or self.status in _TRANSIENT

    @property
    def retry_after_seconds(self) -> float:
        """0 where it names none, or a date."""
        text = self.retry_after
        return min(float(text), MAX_RETRY_AFTER_SECONDS) if text.isdecimal() else 0.0


def ask(
    attempt: Callable[[], Answer], sleep: Callable[[float], object], is_over: Callable[[], bool], rng: Random
) -> Answer:
    """The first answer that is good, or that asking again would not mend, or the last one before all is over.

    Pauses double up to 2 s, with jitter, and are no shorter than Retry-After asks.
    """
    pause_seconds = FIRST_PAUSE_SECONDS
    while (answer := attempt()).is_worth_asking_again and not is_over():
        sleep(max(answer.retry_after_seconds, pause_seconds * rng.uniform(0.5, 1.0)))
        pause_seconds = min(2 * pause_seconds, MAX_PAUSE_SECONDS)
    return answer
