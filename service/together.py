"""What is asked in one turn of the event loop is answered together, at the end of that turn."""

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")

_SMOOTHING = 0.01  # an answer: a lone one that a thread held up must not count as much as a hundred


class Together(Generic[Question, Answer]):
    """Of requests whose bytes arrived at once each would pay alone for what costs as much for all. A request that comes
    alone waits for nobody.
    """

    def __init__(self, answer: Callable[[list[Question]], list[Answer]]) -> None:
        """`answer` takes any number of questions, and gives each its answer."""
        self._answer = answer
        self._asked: list[tuple[Question, asyncio.Future[Answer]]] = []
        self.seconds_each = 0.0
        """What one answer takes, by the last turns: time of all by their number."""

    @property
    def wait_seconds(self) -> float:
        """How long those take that are asked now."""
        return len(self._asked) * self.seconds_each

    def ask(self, question: Question) -> asyncio.Future[Answer]:
        """The answer; raises what `answer` raises for this question alone."""
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._answer_all)  # after the requests that are ready now
        future: asyncio.Future[Answer] = loop.create_future()
        self._asked.append((question, future))
        return future

    def _answer_all(self) -> None:
        asked, self._asked = self._asked, []
        started = time.perf_counter()
        self._settle(asked)
        seconds = (time.perf_counter() - started) / len(asked)
        self.seconds_each += (1.0 - (1.0 - _SMOOTHING) ** len(asked)) * (seconds - self.seconds_each)

    def _settle(self, asked: list[tuple[Question, asyncio.Future[Answer]]]) -> None:
        try:
            answers = self._answer([question for question, _ in asked])
        except Exception as error:  # noqa: BLE001 (it is the request's, and the ASGI edge answers it)
            if len(asked) == 1:
                self._fail(asked[0][1], error)
            else:
                for each in asked:  # one bad request must not cost the others
                    self._settle([each])
            return
        for (_, future), answer in zip(asked, answers, strict=True):
            if not future.done():  # who asked has gone
                future.set_result(answer)

    @staticmethod
    def _fail(future: asyncio.Future[Answer], error: Exception) -> None:
        if not future.done():
            future.set_exception(error)
