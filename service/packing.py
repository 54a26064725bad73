"""Group commit: what arrives while an append is under way shares the next record, so that being durable does not cost
every request a round trip of its own.
"""

import asyncio
from collections import deque
from functools import partial

from service.durable_log import MAX_RECORD_BYTES, DurableLog, Kept
from storage.event_log import LogUnavailableError, Topic

_MAX_IN_FLIGHT = 2  # one being acknowledged, one being written; a third would only be smaller
_MAX_WAITING_BYTES = 64 << 20


class _Record:
    """What becomes one record, and who waits for it."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.num_bytes = 0
        self.waiters: list[asyncio.Future[Kept]] = []


class Packer:
    """Packs what many requests have to say into few records, and tells each when its own is durable."""

    def __init__(self, log: DurableLog, topic: Topic) -> None:
        self._log = log
        self._topic = topic
        self._records: deque[_Record] = deque()  # not appended yet; the last one takes what comes
        self._appending: set[asyncio.Task[Kept]] = set()
        self._is_woken = False
        self._waiting_bytes = 0

    async def append(self, elements: bytes) -> Kept:
        """Returns once `elements`, JSON values with commas between them, are durable, and where.

        Raises:
            LogUnavailableError: neither log nor spool took them, or too much waits already.
        """
        if self._waiting_bytes + len(elements) > _MAX_WAITING_BYTES:
            raise LogUnavailableError("too much waits for the event log already")
        self._waiting_bytes += len(elements)
        try:
            return await self._join_record(elements)
        finally:
            self._waiting_bytes -= len(elements)

    def _join_record(self, elements: bytes) -> asyncio.Future[Kept]:
        if not self._records or self._records[-1].num_bytes + len(elements) > MAX_RECORD_BYTES:
            self._records.append(_Record())
        loop, record = asyncio.get_running_loop(), self._records[-1]
        waiter: asyncio.Future[Kept] = loop.create_future()
        record.parts.append(elements)
        record.num_bytes += len(elements)
        record.waiters.append(waiter)
        if not self._is_woken and len(self._appending) < _MAX_IN_FLIGHT:
            self._is_woken = True
            # After the callbacks that are ready now: those are the requests that arrived together.
            loop.call_soon(self._start)
        return waiter

    def _start(self) -> None:
        self._is_woken = False
        while self._records and len(self._appending) < _MAX_IN_FLIGHT:
            record = self._records.popleft()
            value = b"[" + b",".join(record.parts) + b"]"
            task = asyncio.get_running_loop().create_task(self._log.append(self._topic, value))
            self._appending.add(task)
            task.add_done_callback(partial(self._settle, record))

    def _settle(self, record: _Record, task: asyncio.Task[Kept]) -> None:
        self._appending.discard(task)
        error = LogUnavailableError("the ranker ends") if task.cancelled() else task.exception()
        for waiter in record.waiters:
            if waiter.done():  # who waited has gone
                continue
            if error is None:
                waiter.set_result(task.result())
            else:
                waiter.set_exception(error)
        self._start()
