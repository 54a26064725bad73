"""An event log whose appends a test settles."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import msgspec

from storage.event_log import LogUnavailableError, RecordTooLargeError, Topic


@dataclass
class Append:
    topic: Topic
    value: bytes
    future: Future[None] = field(default_factory=Future)


class FakeLog:
    """`is_away`: whether appends fail. `is_held`: whether they wait for `settle`. `num_left`: how many it takes before
    it fails, if it is not None. `max_bytes`: of a record that it takes.
    """

    def __init__(self) -> None:
        self.appends: list[Append] = []
        self.is_away = False
        self.is_held = False
        self.num_left: int | None = None
        self.max_bytes = 8 << 20

    def append(self, topic: Topic, value: bytes) -> Future[None]:
        append = Append(topic, value)
        if not self.is_away and len(value) > self.max_bytes:
            append.future.set_exception(RecordTooLargeError(f"{len(value)} bytes are too many"))
            return append.future
        if self.is_away or self.num_left == 0:
            append.future.set_exception(LogUnavailableError("the log is away"))
            return append.future
        if self.num_left is not None:
            self.num_left -= 1
        self.appends.append(append)
        if not self.is_held:
            append.future.set_result(None)
        return append.future

    def settle(self) -> None:
        for append in self.appends:
            if not append.future.done():
                append.future.set_result(None)

    def elements(self, topic: Topic) -> list[Any]:
        """Of all records of a topic that it took; one that nobody waits for any more may still be among them."""
        values = [append.value for append in self.appends if append.topic == topic]
        return [element for value in values for element in msgspec.json.decode(value)]

    def close(self) -> None:
        pass


async def until(happened: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not happened():  # noqa: ASYNC110 (the log tells nobody)
            await asyncio.sleep(0.001)
