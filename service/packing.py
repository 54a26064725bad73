"""Group commit: what arrives together, and while an append is under way, shares a record, so that being durable does
not cost every request a round trip of its own.
"""

import asyncio
import time
from collections import deque
from functools import partial

from service.durable_log import MAX_RECORD_BYTES, DurableLog, Kept
from service.together import Settle, tell
from storage.event_log import LogUnavailableError, Topic

_MAX_IN_FLIGHT = 2  # one being acknowledged, one being written; a third would only be smaller
_MAX_WAITING_BYTES = 64 << 20
_QUIET_TURNS = 3
"""A record leaves once so many turns of the event loop brought it nothing: some 10 µs. It costs as much as ten requests
or more, and under load the next ones are on their way.
"""
_PLENTY = 64
"""With so many requests a record leaves though more are coming: while a quick log acknowledges it as many others are
checked, and neither waits for the other.
"""
_MAX_OPEN_SECONDS = 0.005
"""After which it leaves however much is coming."""


class _Record:
    """What becomes one record, and who waits for it."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.parts: list[bytes] = []
        self.num_bytes = 0
        self.waiters: list[Settle[Kept]] = []

    def add(self, elements: bytes, waiter: Settle[Kept]) -> None:
        self.parts.append(elements)
        self.num_bytes += len(elements)
        self.waiters.append(waiter)


class Packer:
    """Packs what many requests have to say into few records, and tells each when its own is durable."""

    def __init__(self, log: DurableLog, topic: Topic) -> None:
        self._log = log
        self._topic = topic
        self._records: deque[_Record] = deque()  # not appended yet; the last one takes what comes
        self._appending: set[asyncio.Task[Kept]] = set()
        self._is_looking = False
        self._turns_left = 0
        self._latest_start = 0.0
        self._waiting_bytes = 0

    def append(self, elements: bytes, settle: Settle[Kept]) -> None:
        """`settle` hears where `elements`, JSON values with commas between them, are durable, once they are; or gets a
        `LogUnavailableError`: neither log nor spool took them, or too much waits already.
        """
        num_bytes = len(elements)
        if self._waiting_bytes + num_bytes > _MAX_WAITING_BYTES:
            settle(LogUnavailableError("too much waits for the event log already"))
            return
        self._waiting_bytes += num_bytes
        if not self._records or self._records[-1].num_bytes + num_bytes > MAX_RECORD_BYTES:
            self._records.append(_Record())
        record = self._records[-1]
        self._turns_left = _QUIET_TURNS
        if not self._is_looking:
            self._begin_to_look()
        record.add(elements, settle)

    def _begin_to_look(self) -> None:
        if self._records and len(self._appending) < _MAX_IN_FLIGHT:
            self._is_looking = True
            self._turns_left = _QUIET_TURNS
            self._latest_start = time.perf_counter() + _MAX_OPEN_SECONDS
            self._records[0].loop.call_soon(self._look)

    def _look(self) -> None:
        """Once in every turn, after the requests that had arrived before it."""
        self._turns_left -= 1
        record = self._records[0]
        is_open = self._turns_left > 0 and len(record.waiters) < _PLENTY
        if is_open and time.perf_counter() < self._latest_start:
            record.loop.call_soon(self._look)
        else:
            self._is_looking = False
            self._start()

    def _start(self) -> None:
        while self._records and len(self._appending) < _MAX_IN_FLIGHT:
            record = self._records.popleft()
            value = b"[" + b",".join(record.parts) + b"]"
            task = record.loop.create_task(self._log.append(self._topic, value))
            self._appending.add(task)
            task.add_done_callback(partial(self._settle, record))

    def _settle(self, record: _Record, task: asyncio.Task[Kept]) -> None:
        self._appending.discard(task)
        self._waiting_bytes -= record.num_bytes
        outcome = _outcome(task)
        for settle in record.waiters:
            tell(settle, outcome)
        if not self._is_looking:
            self._begin_to_look()


def _outcome(task: asyncio.Task[Kept]) -> Kept | Exception:
    if task.cancelled():
        return LogUnavailableError("the ranker ends")
    error = task.exception()
    assert error is None or isinstance(error, Exception)  # what ends the process ends the loop
    return task.result() if error is None else error
