"""Decisions on their way to the event log: packed, many a record, behind the answer's back."""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from itertools import count

from schemas.settings import Settings
from service.durable_log import MAX_RECORD_BYTES, DurableLog
from service.metrics import ServiceMetrics
from storage.event_log import LogUnavailableError, RecordTooLargeError

_MAX_IN_FLIGHT = 8  # so that one slow acknowledgement does not hold up what is decided meanwhile
_RETRY_SECONDS = 0.5
FINISH_SECONDS = 2.5
"""For the last decisions, as the process ends: most of it for the log, the rest for the spool."""
_FINISH_BY_LOG_SECONDS = 1.5

_log = logging.getLogger(__name__)

_Entry = tuple[int, bytes]  # a number that counts up, and a decision


class DecisionLog:
    """A queue in memory; a kill loses what is in it. While neither log nor spool takes them the oldest give way,
    counted.
    """

    def __init__(self, log: DurableLog, settings: Settings, metrics: ServiceMetrics) -> None:
        self._durable = log
        self._every_seconds = settings.decision_log_seconds
        self._max_waiting = settings.decision_log_max
        self._metrics = metrics
        self._waiting: deque[_Entry] = deque()
        self._next_number = count().__next__
        self._appending: set[asyncio.Task[None]] = set()
        self._is_refused = False

    def add(self, decision: bytes) -> None:
        """One `Decision` as JSON; appended within `decision_log_seconds`."""
        self._waiting.append((self._next_number(), decision))
        if len(self._waiting) > self._max_waiting:
            self._drop_oldest()

    async def run(self) -> None:
        """Appends what comes, until cancelled."""
        while True:
            await asyncio.sleep(_RETRY_SECONDS if self._is_refused else self._every_seconds)
            self._start()

    async def finish(self) -> None:
        """The last chance of what waits, as the process ends. What the log is still silent about goes to the spool; it
        may be logged twice, which is harmless, as the first decision with an id counts.
        """
        for seconds in (_FINISH_BY_LOG_SECONDS, FINISH_SECONDS - _FINISH_BY_LOG_SECONDS):
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    if await self.flush():
                        return
            self._durable.stop_waiting()
        _log.error("neither the event log nor the spool takes them: the last %d decisions are lost", len(self._waiting))

    async def flush(self) -> bool:
        """Append all that waits, and wait until it is durable; False: some of it was refused."""
        while self._waiting or self._appending:
            self._start()
            await asyncio.gather(*self._appending)
            if self._is_refused:
                return False
        return True

    def _start(self) -> None:
        max_in_flight = 1 if self._is_refused else _MAX_IN_FLIGHT
        while self._waiting and len(self._appending) < max_in_flight:
            task = asyncio.get_running_loop().create_task(self._append(self._take_record()))
            self._appending.add(task)
            task.add_done_callback(self._appending.discard)

    async def _append(self, record: list[_Entry]) -> None:
        try:
            await self._durable.append("decisions", b"[" + b",".join(decision for _, decision in record) + b"]")
        except RecordTooLargeError as error:
            _log.error("%d decisions are lost: %s", len(record), error)
            self._metrics.log_dropped.inc(len(record))
        except LogUnavailableError as error:
            self._put_back(record)
            self._refused(error)
        except asyncio.CancelledError:
            self._put_back(record)
            raise
        else:
            self._taken()

    def _take_record(self) -> list[_Entry]:
        record = [self._waiting.popleft()]
        num_bytes = len(record[0][1])
        while self._waiting and num_bytes + len(self._waiting[0][1]) < MAX_RECORD_BYTES:
            record.append(self._waiting.popleft())
            num_bytes += len(record[-1][1])
        return record

    def _put_back(self, record: list[_Entry]) -> None:
        if self._waiting and self._waiting[0] < record[0]:  # a younger record failed first
            self._waiting = deque(sorted([*record, *self._waiting]))
        else:
            self._waiting.extendleft(reversed(record))
        while len(self._waiting) > self._max_waiting:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._waiting.popleft()
        self._metrics.log_dropped.inc()

    def _refused(self, error: LogUnavailableError) -> None:
        self._metrics.log_waiting.set(len(self._waiting))
        if not self._is_refused:
            _log.warning("decisions wait in memory: %s", error)
        self._is_refused = True

    def _taken(self) -> None:
        self._metrics.log_waiting.set(len(self._waiting))
        if self._is_refused:
            _log.info("decisions are logged again; %d wait", len(self._waiting))
        self._is_refused = False
