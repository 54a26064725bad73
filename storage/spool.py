"""The spool: where records wait on disk while the event log is away (DESIGN §1, §5).

Each worker appends to one file of its own, and adopts the files of workers that are no more.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from storage.event_log import LogUnavailableError, Topic
from storage.spool_file import SUFFIX, Frame, SpoolFile, frame_bytes

_CLOSE_SECONDS = 5.0

_log = logging.getLogger(__name__)


class SpoolFullError(LogUnavailableError):
    """What was to be appended would take the spool past its bound; it is not in it."""


@dataclass(frozen=True, slots=True)
class _Append:
    topic: Topic
    value: bytes
    future: Future[None] = field(default_factory=Future)

    @property
    def num_bytes(self) -> int:
        return frame_bytes(self.value)


class Spool:
    """Appends by a thread of its own, all that waits with one fsync. Safe to call from any thread; what says nothing
    else blocks on the disk. Touches it only when there is something to append or to adopt.
    """

    def __init__(self, folder: Path, max_bytes: int, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._clock = clock
        self._own: SpoolFile | None = None
        self._adopted: deque[SpoolFile] = deque()
        self._reading: SpoolFile | None = None
        self._files = threading.Lock()  # guards the three above, and what is in the files
        self._waiting: list[_Append] = []
        self._num_bytes = 0
        self._closed = False
        self._changed = threading.Condition()  # guards the three above; never held while the disk works
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)
        self._thread.start()

    @property
    def num_bytes(self) -> int:
        """Of all files held, with what waits to be written; a file is counted until all of it was relayed."""
        return self._num_bytes

    def append(self, topic: Topic, value: bytes) -> Future[None]:
        """Resolves once `value` is on disk; fails with `LogUnavailableError`, with `SpoolFullError` at once.

        Never blocks.
        """
        append = _Append(topic, value)
        with self._changed:
            error = self._refusal(append)
            if error is None:
                self._waiting.append(append)
                self._num_bytes += append.num_bytes
                self._changed.notify()
        if error is not None:
            append.future.set_exception(error)
        return append.future

    def adopt(self) -> None:
        """Takes over the files of this folder that nobody holds, oldest first. They count towards the bound.

        Raises:
            OSError: the folder, or a file in it, cannot be opened or locked.
        """
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            with self._files:
                file = None if self._closed else SpoolFile.take(path)
                if file is None:
                    continue
                self._adopted.append(file)
            self._count(file.num_bytes)
            _log.info("adopted the spool file %s, %d bytes that a worker left", path, file.num_bytes)

    def read(self, max_bytes: int) -> list[Frame]:
        """The first records that were not relayed, in order: as many as `max_bytes` hold, at least one; empty: none is
        left. The same again until `relayed` is called.

        Raises:
            OSError: the disk fails.
        """
        with self._files:
            while (file := self._first()) is not None:
                if frames := file.read(max_bytes):
                    self._reading = file
                    return frames
                self._finish(file)
            return []

    def relayed(self, last: Frame) -> None:
        """What `read` gave, up to and with `last`, is in the event log. What was relayed altogether is removed.

        Raises:
            OSError: the disk fails; it may be read again then.
        """
        with self._files:
            if self._reading is not None and self._reading.relayed(last):
                self._finish(self._reading)

    def set_aside(self, frame: Frame) -> Path:
        """Keeps the value of a record that the log never takes in a file of its own, for a person; returns it.

        Raises:
            OSError: the disk fails.
        """
        path = self._folder / f"{uuid4().hex}.{frame.topic}.json"
        with path.open("wb") as stream:
            stream.write(frame.value)
            stream.flush()
            os.fsync(stream.fileno())
        return path

    def close(self) -> None:
        """Writes what waits, and lets go of all files: what was not relayed is there to be adopted."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            _log.error("the disk hangs: the spool in %s was not closed", self._folder)
            return
        with self._files:
            if self._own is not None:
                (self._own.close if self._own.num_bytes else self._own.remove)()
            for file in self._adopted:
                file.close()
            self._own = self._reading = None
            self._adopted.clear()

    def _refusal(self, append: _Append) -> LogUnavailableError | None:
        if self._closed:
            return LogUnavailableError("the spool is closed")
        if self._num_bytes + append.num_bytes > self._max_bytes:
            return SpoolFullError(f"the spool is full: it holds {self._num_bytes:,} of {self._max_bytes:,} bytes")
        return None

    def _run(self) -> None:
        while batch := self._next_batch():
            taken = [append for append in batch if append.future.set_running_or_notify_cancel()]
            self._count(_size(taken) - _size(batch))
            if taken:
                self._write(taken)

    def _next_batch(self) -> list[_Append]:
        """All that waits, at least one; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            batch, self._waiting = self._waiting, []
        return batch

    def _write(self, batch: Sequence[_Append]) -> None:
        try:
            with self._files:
                if self._own is None:
                    self._own = SpoolFile.make(self._folder, self._clock)
                self._own.append((append.topic, append.value) for append in batch)
        except OSError as error:
            self._count(-_size(batch))
            for append in batch:
                append.future.set_exception(LogUnavailableError(f"the spool cannot be written: {error}"))
        else:
            for append in batch:
                append.future.set_result(None)

    def _first(self) -> SpoolFile | None:
        """What was adopted is older than what this worker wrote."""
        if self._adopted:
            return self._adopted[0]
        return self._own if self._own is not None and self._own.num_bytes else None

    def _finish(self, file: SpoolFile) -> None:
        """There is nothing left to relay in `file`."""
        num_bytes = file.num_bytes
        if file.is_damaged:
            aside = file.set_aside()
            _log.error(
                "the spool file %s is damaged: what can be read was relayed; all is kept in %s", file.path, aside
            )
        elif file is self._own:
            file.empty()
        else:
            file.remove()
        if file is not self._own:
            self._adopted.remove(file)
        elif file.is_damaged:
            self._own = None
        self._reading = None
        self._count(-num_bytes)

    def _count(self, num_bytes: int) -> None:
        with self._changed:
            self._num_bytes += num_bytes


def _size(appends: Sequence[_Append]) -> int:
    return sum(append.num_bytes for append in appends)
