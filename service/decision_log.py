"""Decisions on their way to the event log: packed, many a record, behind the answer's back."""

import asyncio
import logging
from collections import deque
from contextlib import suppress

from schemas.settings import Settings
from service.metrics import ServiceMetrics
from storage.event_log import EventLogWriter, LogUnavailableError

_MAX_RECORD_BYTES = 1 << 20  # a record holds more only where one decision alone does
_RETRY_SECONDS = 0.5
FINISH_SECONDS = 2.5

_log = logging.getLogger(__name__)


class DecisionLog:
    """A queue in memory; a kill loses what is in it. While the log is away the oldest give way, counted."""

    def __init__(self, writer: EventLogWriter, settings: Settings, metrics: ServiceMetrics) -> None:
        self._writer = writer
        self._every_seconds = settings.decision_log_seconds
        self._max_waiting = settings.decision_log_max
        self._metrics = metrics
        self._waiting: deque[bytes] = deque()
        self._is_away = False

    def add(self, decision: bytes) -> None:
        """One `Decision` as JSON; logged within `decision_log_seconds`."""
        self._waiting.append(decision)
        if len(self._waiting) > self._max_waiting:
            self._waiting.popleft()
            self._metrics.log_dropped.inc()

    async def run(self) -> None:
        """Logs what comes, until cancelled; then what was being appended may be logged and waiting still, which is
        harmless, as the first decision with an id counts.
        """
        while True:
            await asyncio.sleep(self._every_seconds)
            if not await self.flush():
                await asyncio.sleep(_RETRY_SECONDS)

    async def finish(self) -> None:
        """The last chance of what waits, as the process ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                await self.flush()
        if self._waiting:
            _log.error("the event log is away: the last %d decisions are lost", len(self._waiting))

    async def flush(self) -> bool:
        """Log all that waits; False when the log is away."""
        while self._waiting:
            decisions = self._take_record()
            try:
                await asyncio.wrap_future(self._writer.append("decisions", b"[" + b",".join(decisions) + b"]"))
            except LogUnavailableError as error:
                self._put_back(decisions)
                self._failed(error)
                return False
            except asyncio.CancelledError:
                self._put_back(decisions)
                raise
            self._succeeded()
        self._metrics.log_waiting.set(0)
        return True

    def _take_record(self) -> list[bytes]:
        decisions = [self._waiting.popleft()]
        num_bytes = len(decisions[0])
        while self._waiting and num_bytes + len(self._waiting[0]) < _MAX_RECORD_BYTES:
            decisions.append(self._waiting.popleft())
            num_bytes += len(decisions[-1])
        return decisions

    def _put_back(self, decisions: list[bytes]) -> None:
        self._waiting.extendleft(reversed(decisions))
        for _ in range(len(self._waiting) - self._max_waiting):
            self._waiting.popleft()
            self._metrics.log_dropped.inc()

    def _failed(self, error: LogUnavailableError) -> None:
        self._metrics.log_failures.labels("decisions").inc()
        self._metrics.log_waiting.set(len(self._waiting))
        if not self._is_away:
            _log.warning("decisions wait for the event log: %s", error)
        self._is_away = True

    def _succeeded(self) -> None:
        if self._is_away:
            _log.info("the event log is back; %d decisions wait for it", len(self._waiting))
        self._is_away = False
