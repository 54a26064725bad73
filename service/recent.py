"""The recent decisions of this ranker: a request that is sent again gets its answer again."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from service.problems import ProblemError

Answer = TypeVar("Answer")


class RecentDecisions(Generic[Answer]):
    """The newest `max_decisions` answers of the last `max_seconds`, by decision id."""

    def __init__(self, max_decisions: int, max_seconds: float, clock: Callable[[], float]) -> None:
        self._max_decisions = max_decisions
        self._max_seconds = max_seconds
        self._clock = clock
        self._answers: OrderedDict[str, tuple[float, int, Answer]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def remember(self, decision_id: str, body: bytes, answer: Answer) -> None:
        """Keeps the hash of the body only: it is salted, and 64 bits are plenty for what lives ten minutes."""
        now = self._clock()
        self._answers[decision_id] = (now, hash(body), answer)
        if len(self._answers) > self._max_decisions:
            self._answers.popitem(last=False)
        while next(iter(self._answers.values()))[0] <= now - self._max_seconds:
            self._answers.popitem(last=False)

    def forget(self, decision_id: str) -> None:
        """Harmless to repeat."""
        self._answers.pop(decision_id, None)

    def repeat(self, decision_id: str, body: bytes) -> Answer | None:
        """The answer that this request got before; None: it is new.

        Raises:
            ProblemError: 409, another request had this decision id.
        """
        entry = self._entry(decision_id)
        if entry is None:
            return None
        if entry[1] != hash(body):
            raise ProblemError(409, f"another request was answered under decision_id {decision_id!r}; ids are for once")
        return entry[2]

    def answer(self, decision_id: str) -> Answer | None:
        """What was answered under this id."""
        entry = self._entry(decision_id)
        return None if entry is None else entry[2]

    def _entry(self, decision_id: str) -> tuple[float, int, Answer] | None:
        entry = self._answers.get(decision_id)
        return None if entry is None or entry[0] <= self._clock() - self._max_seconds else entry
