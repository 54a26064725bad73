"""What the ranker appends to: the event log or, while that is away, the spool. Either keeps what it took."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from schemas.settings import Settings
from service.background import Poller
from service.metrics import ServiceMetrics
from storage.event_log import EventLogWriter, LogUnavailableError, RecordTooLargeError, Topic
from storage.spool import Spool
from storage.spool_file import Frame

MAX_RECORD_BYTES = 1_000_000
"""What is packed, or relayed, into one record; one with a single large part may be larger. With its commas and its
header it is below the 1 MiB that Kafka's topics take by default.
"""
ADOPT_SECONDS = 10.0
"""How often a worker looks for spool files that others left."""
_RELAY_BYTES = 4 << 20  # on their way from the spool to the log at once
_FIRST_PAUSE_SECONDS = 0.05
_MAX_PAUSE_SECONDS = 1.0
_PROBE: tuple[Topic, bytes] = ("decisions", b"[]")  # says nothing; that it is acknowledged says that the log is there

Kept = Literal["log", "spool"]

_log = logging.getLogger(__name__)


class DurableLog:
    """Once the log fails, or is silent for `log_patience_seconds`, it counts as away: records go to the spool at once
    until the relay has got one into the log. A record may so arrive twice; decisions and events have ids.

    Used from the event loop only.
    """

    def __init__(
        self, writer: EventLogWriter, spool: Spool | None, settings: Settings, metrics: ServiceMetrics
    ) -> None:
        self._writer = writer
        self._spool = spool
        self._patience_seconds = settings.log_patience_seconds
        self._metrics = metrics
        self._relaying = Poller("relay", self._relay, ADOPT_SECONDS, metrics)
        self._has_too_large = False  # among what is to be relayed next: which one is found out one by one
        self.trouble: str | None = None
        """Why the log counts as away, where it does."""
        if spool is not None:
            metrics.spool_bytes.set_function(lambda: spool.num_bytes)

    async def append(self, topic: Topic, value: bytes) -> Kept:
        """Returns once `value`, a JSON array that is not empty, is durable, and where.

        Raises:
            RecordTooLargeError: the log never takes it.
            LogUnavailableError: the log is away, and there is no spool, or it is full or fails too.
        """
        trouble = self.trouble or await self._log(topic, value)
        if trouble is None:
            return "log"
        if self._spool is None:
            raise LogUnavailableError(f"the event log is away: {trouble}")
        try:
            await asyncio.wrap_future(self._spool.append(topic, value))
        except LogUnavailableError as error:
            raise LogUnavailableError(f"the event log is away: {trouble}; {error}") from error
        self._metrics.spooled.labels(topic).inc()
        self._relaying.poke()
        return "spool"

    async def run(self) -> None:
        """Adopts and relays, until cancelled."""
        await self._relaying.run()

    def stop_waiting(self) -> None:
        """The end is near: the spool takes all from now on."""
        self.trouble = self.trouble or "the ranker ends"

    async def close(self) -> None:
        """What the log does not take any more goes to the spool, and what is in the spool stays for the next start."""
        await asyncio.to_thread(self._writer.close)
        if self._spool is not None:
            await asyncio.to_thread(self._spool.close)

    async def _log(self, topic: Topic, value: bytes) -> str | None:
        """Why the log did not take it; None: it did.

        Raises:
            RecordTooLargeError: it never does.
        """
        try:
            async with asyncio.timeout(self._patience_seconds):
                await asyncio.wrap_future(self._writer.append(topic, value))
        except TimeoutError:
            return self._failed(topic, f"it did not acknowledge within {self._patience_seconds:g} s")
        except RecordTooLargeError:
            self._metrics.log_failures.labels(topic).inc()
            raise
        except LogUnavailableError as error:
            return self._failed(topic, str(error))
        return None

    async def _relay(self) -> None:
        """Until nothing waits in the spool and the log is there."""
        await self._adopt()
        pause_seconds = _FIRST_PAUSE_SECONDS
        while (frames := await self._read()) or self.trouble is not None:
            if await self._is_relayed(frames):
                pause_seconds = _FIRST_PAUSE_SECONDS
                continue
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _MAX_PAUSE_SECONDS)

    async def _adopt(self) -> None:
        if self._spool is not None:
            try:
                await asyncio.to_thread(self._spool.adopt)
            except OSError as error:
                _log.warning("cannot look for spool files that were left: %s", error)

    async def _read(self) -> list[Frame]:
        """What to relay next: while the log is away one record, to try it."""
        max_bytes = 1 if self.trouble is not None or self._has_too_large else _RELAY_BYTES
        if self._spool is None:
            return []
        try:
            return await asyncio.to_thread(self._spool.read, max_bytes)
        except OSError:
            _log.exception("the spool cannot be read; what is in it waits")
            return []

    async def _is_relayed(self, frames: Sequence[Frame]) -> bool:
        """Appends them, or a probe, without a limit of time: the log says itself when it gives up."""
        records = list(_packed(frames)) or [_PROBE]
        appends = [asyncio.wrap_future(self._writer.append(topic, value)) for topic, value in records]
        for (topic, _), error in zip(records, await asyncio.gather(*appends, return_exceptions=True), strict=True):
            if isinstance(error, RecordTooLargeError):
                self._has_too_large = len(frames) > 1
                return self._has_too_large or await self._is_set_aside(frames[0], error)
            if isinstance(error, LogUnavailableError):
                self._failed(topic, str(error))
                return False
            if error is not None:
                raise error
        self._came_back()
        self._has_too_large = False
        return not frames or await self._is_forgotten(frames)

    async def _is_set_aside(self, frame: Frame, reason: RecordTooLargeError) -> bool:
        """So that a record that the log never takes does not hold up all that come after it."""
        assert self._spool is not None  # it comes from there
        try:
            aside = await asyncio.to_thread(self._spool.set_aside, frame)
        except OSError:
            _log.exception("a record that was acknowledged cannot be relayed (%s), and not be set aside", reason)
            return False
        _log.error("a record that was acknowledged cannot be relayed, and is kept in %s: %s", aside, reason)
        return await self._is_forgotten([frame])

    async def _is_forgotten(self, frames: Sequence[Frame]) -> bool:
        assert self._spool is not None  # they come from there
        try:
            await asyncio.to_thread(self._spool.relayed, frames[-1])
        except OSError:
            _log.exception("what was relayed cannot be removed from the spool; it may be relayed again")
            return False
        for frame in frames:
            self._metrics.relayed.labels(frame.topic).inc()
        return True

    def _failed(self, topic: Topic, reason: str) -> str:
        self._metrics.log_failures.labels(topic).inc()
        if self.trouble is None:
            _log.warning("the event log is away: %s", reason)
            self._metrics.log_away.set(1)
            self._relaying.poke()
        self.trouble = reason
        return reason

    def _came_back(self) -> None:
        if self.trouble is not None:
            _log.info("the event log is back")
            self._metrics.log_away.set(0)
        self.trouble = None


def _packed(frames: Sequence[Frame]) -> Iterator[tuple[Topic, bytes]]:
    """Their elements, in order within a topic, in as few records as may be: each costs the log a round trip."""
    for topic in get_args(Topic):
        waiting: list[bytes] = []
        num_bytes = 0
        for frame in frames:
            if frame.topic != topic:
                continue
            if waiting and num_bytes + len(frame.value) > MAX_RECORD_BYTES:
                yield topic, _joined(waiting)
                waiting, num_bytes = [], 0
            waiting.append(frame.value)
            num_bytes += len(frame.value)
        if waiting:
            yield topic, _joined(waiting)


def _joined(arrays: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(array[1:-1] for array in arrays) + b"]"
