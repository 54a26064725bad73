"""The event log in SQL: the embedded default, a SQLite file of its own. Each topic is one partition, number 0.

Offsets come from one sequence over all topics: a topic's own have gaps, and a reader needs one position only.
"""

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, Row, bindparam, delete, func, insert, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from schemas.tables import LOG, log_records
from storage.database import SqliteWrites, StoreUnavailableError, application_lock, open_store, reading, writing
from storage.event_log import LogUnavailableError, Partition, Poll, Record, Topic

MARGIN_SECONDS = 1.0
"""How long a record may take from its `appended_at` until readers see it."""
_FIRST_PAUSE_SECONDS = 0.02
_MAX_PAUSE_SECONDS = 0.08  # asking costs up to a millisecond, so an idle reader takes about 1 % of a core
_CLOSE_SECONDS = 5.0
_PAGE_BYTES = 8_192
"""On SQLite. Records are kilobytes to a megabyte, and each page of one costs two calls of the kernel; but a commit of a
few events writes whole pages, too.
"""
_NICER = 3
"""Who appends comes first: where both want one core, a commit of a megabyte would hold up requests for its turn."""
_MAX_POLL_BYTES = 16 << 20  # of one poll, where records are large
_ROWS_AT_ONCE = 50
_TRIM_CHUNK = 200  # records under one write lock; a packed record may be megabytes

_INSERT = """
    INSERT INTO log_records (topic, appended_at, value)
    VALUES (?, max(?, coalesce((SELECT appended_at FROM log_records ORDER BY "offset" DESC LIMIT 1), 0)), ?)
"""
"""On SQLite; as `_last_appended_at`."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Append:
    topic: Topic
    value: bytes
    future: Future[None] = field(default_factory=Future)


class SqlEventLogWriter:
    """Appends by a thread of its own, all that waits in one transaction.

    How much waits is the caller's to bound, by the futures that are not resolved yet.
    """

    def __init__(self, url: str, clock: Callable[[], float], busy_seconds: float = 2.0) -> None:
        self._engine = open_store(url, busy_seconds, _PAGE_BYTES)
        self._clock = clock
        self._sqlite = SqliteWrites(self._engine, busy_seconds) if self._engine.dialect.name == "sqlite" else None
        self._is_made = False
        self._waiting: list[_Append] = []
        self._closed = False
        self._changed = threading.Condition()  # guards the two above
        self._thread = threading.Thread(target=self._run, name="event-log-writer", daemon=True)
        self._thread.start()

    def append(self, topic: Topic, value: bytes) -> Future[None]:
        append = _Append(topic, value)
        with self._changed:
            if not self._closed:
                self._waiting.append(append)
                self._changed.notify()
                return append.future
        append.future.set_exception(LogUnavailableError("this writer of the event log is closed"))
        return append.future

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        if sys.platform == "linux":  # where threads have priorities of their own
            nice = os.getpriority(os.PRIO_PROCESS, 0) + _NICER  # of this thread; at most 19, the kernel sees to it
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        while batch := self._next_batch():
            self._commit([append for append in batch if append.future.set_running_or_notify_cancel()])
        if self._sqlite is not None:
            self._sqlite.close()
        self._engine.dispose()

    def _next_batch(self) -> list[_Append]:
        """All that waits, at least one; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            batch, self._waiting = self._waiting, []
        return batch

    def _commit(self, batch: Sequence[_Append]) -> None:
        try:
            self._insert(batch)
        except (StoreUnavailableError, SQLAlchemyError) as error:
            for append in batch:
                append.future.set_exception(LogUnavailableError(str(error)))
        else:
            for append in batch:
                append.future.set_result(None)

    def _insert(self, batch: Sequence[_Append]) -> None:
        if not self._is_made:
            self._make()
        if self._sqlite is None:
            self._insert_by_sqlalchemy(batch)
            return
        with self._sqlite.writing() as connection:
            now = self._clock()
            connection.executemany(_INSERT, [(append.topic, now, append.value) for append in batch])

    def _make(self) -> None:
        with writing(self._engine) as connection:
            application_lock(connection)
            LOG.create_all(connection)
        self._is_made = True

    def _insert_by_sqlalchemy(self, batch: Sequence[_Append]) -> None:
        with writing(self._engine) as connection:
            application_lock(connection)  # so that the order of offsets is the order of commits
            appended_at = max(self._clock(), _last_appended_at(connection))
            rows = [{"topic": a.topic, "appended_at": appended_at, "value": a.value} for a in batch]
            if rows:
                connection.execute(insert(log_records), rows)


class SqlEventLogReader:
    """Reads in the order of offsets, whatever the topic.

    A log that ends before the position to go on from is another file than it was: it is read from its start.
    """

    def __init__(
        self,
        url: str,
        topics: Sequence[Topic] = ("decisions", "feedback"),
        *,
        clock: Callable[[], float],
        busy_seconds: float = 5.0,
    ) -> None:
        self._engine = open_store(url, busy_seconds, _PAGE_BYTES)
        self._clock = clock
        self._is_made = False
        self._partitions: dict[str, Partition] = {topic: Partition(topic, 0) for topic in topics}
        self.seek({})

    def assignment(self) -> frozenset[Partition]:
        return frozenset(self._partitions.values())

    def partitions(self) -> frozenset[Partition]:
        return self.assignment()

    def is_placed(self) -> bool:
        return True

    def seek(self, next_offsets: Mapping[Partition, int]) -> None:
        self._next_offsets = {p: next_offsets.get(p, 0) for p in self._partitions.values()}
        self._position = min(self._next_offsets.values())
        self._is_checked = False
        self._read_up_to = -math.inf  # what was read beyond the new position counts no more

    def poll(self, max_records: int, timeout_seconds: float) -> Poll:
        deadline = time.monotonic() + timeout_seconds
        pause_seconds = _FIRST_PAUSE_SECONDS
        while True:
            records, is_end = self._read(max_records)
            if records or (is_end and time.monotonic() >= deadline):
                return Poll(records, dict.fromkeys(self._partitions.values(), self._read_up_to))
            if is_end:
                time.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, _MAX_PAUSE_SECONDS)

    def trim(self, next_offsets: Mapping[Partition, int], appended_before: float) -> None:
        position: int | None = 0
        with _as_log_errors():
            while position is not None:
                position = _trim_chunk(self._made(), next_offsets, appended_before, position)

    def close(self) -> None:
        self._engine.dispose()

    def _read(self, max_records: int) -> tuple[list[Record], bool]:
        """The next records, and whether the end was reached."""
        asked_at = self._clock()
        with _as_log_errors(), reading(self._made()) as connection:
            self._check_position(connection)
            rows, is_whole = _fetch(connection, self._position, max_records)
        is_end = is_whole and len(rows) < max_records
        for row in rows[-1:]:
            self._position = row.offset + 1
            self._read_up_to = max(self._read_up_to, row.appended_at)
        if is_end:
            self._read_up_to = max(self._read_up_to, asked_at - MARGIN_SECONDS)
        records = (self._record(row.offset, row.topic, row.appended_at, row.value) for row in rows)
        return [record for record in records if record is not None], is_end

    def _record(self, offset: int, topic: str, appended_at: float, value: bytes) -> Record | None:
        """None where it was not asked for."""
        partition = self._partitions.get(topic)
        if partition is None or offset < self._next_offsets[partition]:
            return None
        return Record(partition, offset, appended_at, value)

    def _check_position(self, connection: Connection) -> None:
        if not self._is_checked and (end := _newest_offset(connection) + 1) < max(self._next_offsets.values()):
            _log.warning("the event log ends at offset %d, before where it was read up to: it is read anew", end)
            self.seek({})
        self._is_checked = True

    def _made(self) -> Engine:
        """The log's database, with its table."""
        if not self._is_made:
            with reading(self._engine) as connection:
                self._is_made = inspect(connection).has_table(log_records.name)
        if not self._is_made:
            with writing(self._engine) as connection:
                application_lock(connection)
                LOG.create_all(connection)
            self._is_made = True
        return self._engine


_RECORDS = (
    select(log_records)
    .where(log_records.c.offset >= bindparam("position"))
    .order_by(log_records.c.offset)
    .limit(bindparam("max_records"))
)


def _fetch(connection: Connection, position: int, max_records: int) -> tuple[list[Row[Any]], bool]:
    """The next records, and whether these are all that there are; not, where they became too many bytes."""
    parameters = {"position": position, "max_records": max_records}
    rows: list[Row[Any]] = []
    num_bytes = 0
    for row in connection.execute(_RECORDS, parameters, execution_options={"yield_per": _ROWS_AT_ONCE}):
        rows.append(row)
        num_bytes += len(row.value)
        if num_bytes >= _MAX_POLL_BYTES:
            return rows, False
    return rows, True


def _newest_offset(connection: Connection) -> int:
    """0 if the log is empty."""
    return connection.execute(select(func.max(log_records.c.offset))).scalar() or 0


def _last_appended_at(connection: Connection) -> float:
    """So that times never go back where offsets go on, whatever the clock does."""
    statement = select(log_records.c.appended_at).order_by(log_records.c.offset.desc()).limit(1)
    return connection.execute(statement).scalar() or 0.0


def _trim_chunk(
    engine: Engine, next_offsets: Mapping[Partition, int], appended_before: float, position: int
) -> int | None:
    """Forget some of what may go from `position` on; returns where to go on, None at the end.

    The newest record stays: it keeps the place of the next offset and the log's time.
    """
    by_topic = {partition.topic: offset for partition, offset in next_offsets.items()}
    columns = log_records.c
    with reading(engine) as connection:
        statement = select(columns.offset, columns.topic, columns.appended_at)
        statement = statement.where(columns.offset.between(position, _newest_offset(connection) - 1))
        rows = connection.execute(statement.order_by(columns.offset).limit(_TRIM_CHUNK)).all()
    old = [row for row in rows if row.appended_at < appended_before]
    gone = [row.offset for row in old if row.offset < by_topic.get(row.topic, 0)]
    if gone:
        with writing(engine) as connection:
            connection.execute(delete(log_records).where(columns.offset.in_(gone)))
    return old[-1].offset + 1 if len(old) == _TRIM_CHUNK else None


@contextmanager
def _as_log_errors() -> Iterator[None]:
    try:
        yield
    except StoreUnavailableError as error:
        raise LogUnavailableError(str(error)) from error
