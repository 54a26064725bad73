"""What is asked in one turn of the event loop is answered together, at the end of that turn."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Settle: TypeAlias = Callable[[Answer | Exception], None]
"""Takes what became of a question; a callback, as a future costs another turn of the loop."""

_log = logging.getLogger(__name__)

_SMOOTHING = 0.01  # an answer: a lone one that a thread held up must not count as much as a hundred


class Together(Generic[Question, Answer]):
    """Of requests whose bytes arrived at once each would pay alone for what costs as much for all. A request that comes
    alone waits for nobody.
    """

    def __init__(self, answer: Callable[[list[Question]], list[Answer]]) -> None:
        """`answer` takes any number of questions, and gives each its answer."""
        self._answer = answer
        self._asked: list[tuple[Question, Settle[Answer]]] = []
        self._is_answering = False
        self.seconds_each = 0.0
        """What one answer takes, by the last turns: time of all by their number."""

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for an answer. Other threads may ask."""
        return self._is_answering or bool(self._asked)

    @property
    def wait_seconds(self) -> float:
        """How long those take that are asked now."""
        return len(self._asked) * self.seconds_each

    def ask(self, question: Question, settle: Settle[Answer]) -> None:
        """`settle` gets the answer, or what `answer` raises for this question alone."""
        if not self._asked:
            asyncio.get_running_loop().call_soon(self._answer_all)  # after the requests that are ready now
        self._asked.append((question, settle))

    def _answer_all(self) -> None:
        self._is_answering = True
        asked, self._asked = self._asked, []
        started = time.perf_counter()
        self._settle(asked)
        self._is_answering = False
        seconds = (time.perf_counter() - started) / len(asked)
        self.seconds_each += (1.0 - (1.0 - _SMOOTHING) ** len(asked)) * (seconds - self.seconds_each)

    def _settle(self, asked: list[tuple[Question, Settle[Answer]]]) -> None:
        try:
            answers = self._answer([question for question, _ in asked])
        except Exception as error:  # noqa: BLE001 (it is the request's, and the ASGI edge answers it)
            if len(asked) == 1:
                tell(asked[0][1], error)
            else:
                for each in asked:  # one bad request must not cost the others
                    self._settle([each])
            return
        for (_, settle), answer in zip(asked, answers, strict=True):
            tell(settle, answer)


def tell(settle: Callable[[Any], None], outcome: object) -> None:
    """One that cannot be told must not cost the others, who are told after it, their answer."""
    try:
        settle(outcome)
    except Exception:  # noqa: BLE001 (at the edge: a bug in one request's answer)
        _log.exception("an answer was not given")


def settled(ask: Callable[[Settle[Answer]], None]) -> asyncio.Future[Answer]:
    """What `ask` calls its callback with, or raises as that is an exception, for those who can wait."""
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    ask(partial(_settle, future))
    return future


def _settle(future: asyncio.Future[Answer], outcome: Answer | Exception) -> None:
    if future.done():  # who asked has gone
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
