"""What was appended to the event log in Kafka and has neither been stored nor failed: so much and no more."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from storage.event_log import LogUnavailableError, RecordTooLargeError, Topic

_OVERHEAD_BYTES = 512
"""Of a record: what it takes on the wire beside its value, and about what its objects take here."""


@dataclass(slots=True, eq=False)
class Append:
    topic: Topic
    value: bytes
    started_at: float
    """Monotonic seconds."""
    future: Future[None] = field(default_factory=Future)

    @property
    def num_bytes(self) -> int:
        return len(self.value) + _OVERHEAD_BYTES


class Outbox:
    """Safe for several threads. Nothing here waits but `take` and `wait_until_settled`.

    An append fails at once while nobody could store it: the outbox is shut, or nothing was stored for
    `patience_seconds` though something waited for it all that time.
    """

    def __init__(
        self, max_bytes: int, patience_seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_bytes = max_bytes
        self._patience_seconds = patience_seconds
        self._monotonic = monotonic
        self._changed = threading.Condition()  # guards everything below
        self._waiting: deque[Append] = deque()  # not taken yet
        self._unsettled: dict[Append, None] = {}  # these too, the oldest first
        self._num_bytes = 0  # of the unsettled
        self._record_limits: Mapping[Topic, int] = {}
        self._stored_at = -math.inf
        self._shut: str | None = None  # why
        self._closed: str | None = None  # why

    def add(self, topic: Topic, value: bytes) -> Future[None]:
        append = Append(topic, value, self._monotonic())
        with self._changed:
            refusal = self._refusal(append)
            if refusal is None:
                self._unsettled[append] = None
                self._waiting.append(append)
                self._num_bytes += append.num_bytes
                self._changed.notify_all()
        if refusal is not None:
            append.future.set_exception(refusal)
        return append.future

    def take(self, timeout_seconds: float) -> list[Append]:
        """All that waits and whose callers have not given up; from now on they cannot."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting, timeout_seconds)
            return self._take()

    def stored(self, append: Append) -> None:
        """Nothing if it was settled before."""
        with self._changed:
            if not self._settle(append):
                return
            self._stored_at = self._monotonic()
        append.future.set_result(None)

    def failed(self, append: Append, error: LogUnavailableError) -> None:
        """Nothing if it was settled before."""
        with self._changed:
            if not self._settle(append):
                return
        append.future.set_exception(error)

    def open(self, record_limits: Mapping[Topic, int]) -> None:
        """The log can be reached, and takes records of so many bytes."""
        with self._changed:
            self._shut = None
            self._record_limits = record_limits
            self._stored_at = self._monotonic()

    def shut(self, reason: str) -> None:
        """Until it is opened every append fails, also what was taken or waits."""
        with self._changed:
            self._shut = reason
            self._take()
            unsettled = list(self._unsettled)
        self._fail(unsettled, reason)

    def close(self, reason: str) -> None:
        """Appends that come now fail, also after it is opened again; what is there may still be stored."""
        with self._changed:
            self._closed = reason

    def fail_taken(self, reason: str) -> None:
        """What waits goes on waiting."""
        with self._changed:
            taken = [append for append in self._unsettled if append.future.running()]
        self._fail(taken, reason)

    def age_seconds(self) -> float:
        """Of the oldest that is not settled; 0 if there is none."""
        with self._changed:
            oldest = next(iter(self._unsettled), None)
            return 0.0 if oldest is None else self._monotonic() - oldest.started_at

    def wait_until_settled(self, timeout_seconds: float) -> bool:
        """Whether everything is by then."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._unsettled, timeout_seconds)

    def _take(self) -> list[Append]:
        waiting, self._waiting = self._waiting, deque()
        taken = []
        for append in waiting:
            if append.future.set_running_or_notify_cancel():
                taken.append(append)
            else:
                self._settle(append)
        return taken

    def _settle(self, append: Append) -> bool:
        """Whether it was not before."""
        if append not in self._unsettled:
            return False
        del self._unsettled[append]
        self._num_bytes -= append.num_bytes
        if not self._unsettled:
            self._changed.notify_all()
        return True

    def _fail(self, appends: Iterable[Append], reason: str) -> None:
        for append in appends:
            self.failed(append, LogUnavailableError(reason))

    def _refusal(self, append: Append) -> LogUnavailableError | None:
        if self._closed is not None or self._shut is not None:
            return LogUnavailableError(self._closed or self._shut)
        limit = self._record_limits.get(append.topic, self._max_bytes)
        if append.num_bytes > limit:
            return RecordTooLargeError(f"a record of {len(append.value)} bytes is too large for Kafka: {limit} fit")
        if self._num_bytes + append.num_bytes > self._max_bytes:
            return LogUnavailableError(f"{self._num_bytes} bytes wait for Kafka already")
        oldest = next(iter(self._unsettled), None)
        if oldest is None:
            return None
        silent_seconds = append.started_at - max(oldest.started_at, self._stored_at)
        if silent_seconds > self._patience_seconds:
            return LogUnavailableError(f"Kafka has stored nothing for {silent_seconds:.1f} s")
        return None
