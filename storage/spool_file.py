"""One file of the spool: framed records, locked (flock) by the worker that holds it.

A frame is a header (magic, topic, length, CRC32 of all) and the value. A frame that is cut off at the end was never
acknowledged, and is ignored. Whatever else cannot be read is skipped, and makes the file a damaged one.
"""

import fcntl
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self
from uuid import uuid4

from storage.event_log import Topic

SUFFIX = ".spool"
_TOPICS: tuple[Topic, ...] = ("decisions", "feedback")  # a frame has the position here: append only
_MAGIC = b"\xf5spl"  # no UTF-8 text has this first byte, so values do not look like frames
_HEAD = struct.Struct("<4sBI")  # magic, topic, length of the value
_CRC = struct.Struct("<I")
_HEADER_BYTES = _HEAD.size + _CRC.size


class Frame(NamedTuple):
    topic: Topic
    value: bytes
    end: int
    """Where the next one starts in the file."""


def frame_bytes(value: bytes) -> int:
    """What `value` takes in a file."""
    return _HEADER_BYTES + len(value)


class SpoolFile:
    """Held from `make` or `take` until `close`, `remove` or `set_aside`. Not safe for several threads."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self.num_bytes = os.fstat(descriptor).st_size
        self.is_damaged = False
        self._relayed_up_to = 0

    @classmethod
    def make(cls, folder: Path, clock: Callable[[], float]) -> Self:
        """A new file, which outlives a crash of the machine. Names sort by age.

        Raises:
            OSError: it cannot be made.
        """
        descriptor = None
        while descriptor is None:  # somebody who adopts may have seen it between its making and its locking
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{clock() * 1000:014.0f}-{uuid4().hex[:8]}{SUFFIX}"
            descriptor = _hold(path, os.O_CREAT | os.O_EXCL)
        file = cls(path, descriptor)
        try:
            for parent in (folder, folder.parent):
                _sync_folder(parent)
        except OSError:
            file.remove()
            raise
        return file

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """A file that is there; None: another holds it, or it has just gone.

        Raises:
            OSError: it cannot be opened or locked.
        """
        descriptor = _hold(path)
        return None if descriptor is None else cls(path, descriptor)

    def append(self, records: Iterable[tuple[Topic, bytes]]) -> None:
        """They are on disk when this returns.

        Raises:
            OSError: none of them is in the file.
        """
        frames = b"".join(part for topic, value in records for part in _frame(topic, value))
        try:
            _write(self._descriptor, frames, self.num_bytes)
            os.fsync(self._descriptor)
        except OSError:
            with suppress(OSError):  # whatever stays is written over, as the good length is known
                os.ftruncate(self._descriptor, self.num_bytes)
            raise
        self.num_bytes += len(frames)

    def read(self, max_bytes: int) -> list[Frame]:
        """The first frames that were not relayed: as many as `max_bytes` hold, at least one; empty: none is left."""
        frames: list[Frame] = []
        start, num_bytes = self._relayed_up_to, 0
        while start < self.num_bytes and (not frames or num_bytes < max_bytes):
            frame = self._frame_at(start)
            if frame is None:
                start = self._skip_from(start)
            else:
                frames.append(frame)
                num_bytes += frame_bytes(frame.value)
                start = frame.end
        return frames

    def relayed(self, last: Frame) -> bool:
        """Reading goes on behind `last`; returns whether that is the end."""
        self._relayed_up_to = last.end
        return last.end >= self.num_bytes

    def empty(self) -> None:
        os.ftruncate(self._descriptor, 0)
        self.num_bytes = self._relayed_up_to = 0

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)  # while it is locked, so that nobody adopts what was relayed
        self.close()

    def set_aside(self) -> Path:
        """Under a name that nobody adopts; returns it."""
        aside = self.path.with_suffix(".damaged")
        self.path.rename(aside)
        self.close()
        return aside

    def close(self) -> None:
        """Lets go of it."""
        os.close(self._descriptor)

    def _frame_at(self, start: int) -> Frame | None:
        """None: there is no whole one."""
        header = os.pread(self._descriptor, _HEADER_BYTES, start)
        if len(header) < _HEADER_BYTES:
            return None
        magic, topic, length = _HEAD.unpack_from(header)
        end = start + _HEADER_BYTES + length
        if magic != _MAGIC or topic >= len(_TOPICS) or end > self.num_bytes:
            return None
        value = os.pread(self._descriptor, length, start + _HEADER_BYTES)
        if _CRC.pack(zlib.crc32(value, zlib.crc32(header[: _HEAD.size]))) != header[_HEAD.size :]:
            return None
        return Frame(_TOPICS[topic], value, end)

    def _skip_from(self, start: int) -> int:
        """Where the next whole frame starts behind a bad one at `start`; the end of the file, if there is none."""
        found = self._find(start + 1)
        self.is_damaged = self.is_damaged or found < self.num_bytes or not self._is_cut_off(start)
        return found

    def _find(self, start: int) -> int:
        with mmap.mmap(self._descriptor, self.num_bytes, access=mmap.ACCESS_READ) as content:
            while (start := content.find(_MAGIC, start)) != -1:
                if self._frame_at(start) is not None:
                    return start
                start += 1
        return self.num_bytes

    def _is_cut_off(self, start: int) -> bool:
        header = os.pread(self._descriptor, _HEADER_BYTES, start)
        if len(header) < _HEADER_BYTES:
            return header[: len(_MAGIC)] == _MAGIC[: len(header)]
        magic, _, length = _HEAD.unpack_from(header)
        return bool(magic == _MAGIC and start + _HEADER_BYTES + length > self.num_bytes)


def _frame(topic: Topic, value: bytes) -> tuple[bytes, bytes, bytes]:
    head = _HEAD.pack(_MAGIC, _TOPICS.index(topic), len(value))
    return head, _CRC.pack(zlib.crc32(value, zlib.crc32(head))), value


def _hold(path: Path, flags: int = 0) -> int | None:
    """A descriptor with the file's lock; None: another has the lock, or there is no such file any more."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    except (FileNotFoundError, FileExistsError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who held it may have removed it between our opening and our locking.
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes, start: int) -> None:
    view = memoryview(content)
    while view:
        num = os.pwrite(descriptor, view, start)
        view, start = view[num:], start + num
