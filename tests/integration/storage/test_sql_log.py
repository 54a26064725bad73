"""The SQL event log on SQLite, in what the port does not promise but its users count on."""

import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event

from storage.database import open_store, reading
from storage.event_log import LogUnavailableError, Partition
from storage.sql_log import SqlEventLogReader, SqlEventLogWriter

FEEDBACK = Partition("feedback", 0)
ROOT = Path(__file__).parents[3]


class Clock:
    """The writer asks it once in each transaction, which lasts until the gate is open."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.num_asked = 0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self) -> float:
        self.gate.wait(60)
        self.num_asked += 1
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "events.db"


@pytest.fixture
def url(file: Path) -> str:
    return f"sqlite:///{file}"


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000.0)


@pytest.fixture
def writer(url: str, clock: Clock) -> Iterator[SqlEventLogWriter]:
    writer = SqlEventLogWriter(url, clock, busy_seconds=0.1)
    yield writer
    writer.close()


@pytest.fixture
def reader(url: str, clock: Clock) -> Iterator[SqlEventLogReader]:
    reader = SqlEventLogReader(url, clock=clock, busy_seconds=0.1)
    yield reader
    reader.close()


def append(writer: SqlEventLogWriter, value: bytes) -> None:
    writer.append("feedback", value).result(60)


def taken(writer: SqlEventLogWriter) -> None:
    """Waits until the writer has taken what was appended."""
    while writer._waiting:
        time.sleep(0.001)


def values(reader: SqlEventLogReader) -> list[bytes]:
    return [record.value for record in reader.poll(1000, 0).records]


def test_a_locked_file_fails_appends_without_a_trace_and_the_writer_goes_on_when_it_is_free(
    file: Path, writer: SqlEventLogWriter, reader: SqlEventLogReader
) -> None:
    append(writer, b"before")
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    futures = [writer.append("feedback", b"%d" % n) for n in range(3)]
    for future in futures:
        with pytest.raises(LogUnavailableError, match=r"events\.db is locked by another process"):
            future.result(60)
    assert values(reader) == [b"before"]

    holder.execute("ROLLBACK")
    holder.close()
    append(writer, b"after")
    assert values(reader) == [b"after"]


def test_a_file_that_is_locked_at_the_start_is_no_hindrance_later(
    file: Path, writer: SqlEventLogWriter, reader: SqlEventLogReader
) -> None:
    file.parent.mkdir()
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LogUnavailableError, match="locked"):
        append(writer, b"too early")
    with pytest.raises(LogUnavailableError, match="locked"):
        values(reader)
    holder.execute("ROLLBACK")
    holder.close()
    append(writer, b"now")
    assert values(reader) == [b"now"]


def test_a_full_disk_fails_the_whole_batch_and_keeps_what_was_there(
    writer: SqlEventLogWriter, reader: SqlEventLogReader, clock: Clock
) -> None:
    event.listen(writer._engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count=8"))
    append(writer, b"before")
    clock.gate.clear()
    futures = [writer.append("feedback", b"held")]
    taken(writer)
    futures += [writer.append("feedback", value) for value in (b"goes with the next", b"x" * 1_000_000)]
    clock.gate.set()
    assert futures[0].result(60) is None
    for future in futures[1:]:
        with pytest.raises(LogUnavailableError, match="full"):
            future.result(60)
    append(writer, b"small")
    assert values(reader) == [b"before", b"held", b"small"]


def test_a_folder_that_cannot_be_made_fails_appends(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "a file").touch()
    writer = SqlEventLogWriter(f"sqlite:///{tmp_path}/a file/events.db", clock, busy_seconds=0.1)
    with pytest.raises(LogUnavailableError, match="unable to open database file"):
        append(writer, b"nowhere to go")
    writer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_the_writers_thread_lets_others_go_first(url: str) -> None:
    nices: list[int] = []

    def clock() -> float:  # asked by the writer's thread
        nices.append(os.getpriority(os.PRIO_PROCESS, 0))
        return 1_000.0

    writer = SqlEventLogWriter(url, clock)
    writer.append("feedback", b"[1]").result(60)
    writer.close()
    assert nices == [min(os.getpriority(os.PRIO_PROCESS, 0) + 3, 19)]


def test_a_log_that_was_made_with_small_pages_keeps_them_and_its_records(url: str, file: Path, clock: Clock) -> None:
    file.parent.mkdir()
    with sqlite3.connect(file) as older:
        older.execute("PRAGMA page_size=4096")
        older.execute("PRAGMA journal_mode=WAL")
        older.execute("CREATE TABLE another (n INTEGER)")
    writer = SqlEventLogWriter(url, clock)
    writer.append("feedback", b"[1]").result(60)
    writer.close()
    assert page_bytes(file) == 4_096
    assert values(SqlEventLogReader(url, clock=clock)) == [b"[1]"]


def test_a_new_log_has_larger_pages(file: Path, writer: SqlEventLogWriter) -> None:
    writer.append("feedback", b"[1]").result(60)
    assert page_bytes(file) == 8_192


@pytest.mark.parametrize("page_bytes", [4_096, 8_192])
def test_commits_move_the_write_ahead_log_to_the_database_every_four_megabytes(url: str, page_bytes: int) -> None:
    engine = open_store(url, page_bytes=page_bytes)
    with reading(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar_one() * page_bytes == 1 << 22
    engine.dispose()


def page_bytes(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        [number] = connection.execute("PRAGMA page_size").fetchone()
    return int(number)


def test_commits_are_synced_to_the_disk(url: str) -> None:
    engine = open_store(url)
    with reading(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    engine.dispose()


def test_what_waits_is_committed_together(writer: SqlEventLogWriter, reader: SqlEventLogReader, clock: Clock) -> None:
    append(writer, b"first")
    clock.gate.clear()
    futures = [writer.append("feedback", b"second")]
    taken(writer)
    futures += [writer.append("feedback", b"%d" % n) for n in range(500)]
    clock.num_asked = 0
    clock.gate.set()
    for future in futures:
        future.result(60)
    assert clock.num_asked == 2
    assert len(values(reader)) == 502


def test_times_never_go_back_when_the_clock_does(url: str, writer: SqlEventLogWriter, clock: Clock) -> None:
    append(writer, b"a")
    clock.now = 400.0
    append(writer, b"b")
    another = SqlEventLogWriter(url, clock)
    append(another, b"c")
    another.close()
    clock.now = 1_001.5
    append(writer, b"d")

    reader = SqlEventLogReader(url, clock=clock)
    assert [record.appended_at for record in reader.poll(10, 0).records] == [1_000.0, 1_000.0, 1_000.0, 1_001.5]
    reader.close()


def test_the_watermark_is_the_last_record_read_or_at_the_end_the_time_of_asking_less_a_second(
    writer: SqlEventLogWriter, reader: SqlEventLogReader, clock: Clock
) -> None:
    for at in (1_000.0, 1_010.0, 1_020.0):
        clock.now = at
        append(writer, b"%d" % at)
    clock.now = 1_100.0
    both = [Partition("decisions", 0), FEEDBACK]

    assert reader.poll(2, 0).read_up_to == dict.fromkeys(both, 1_010.0)
    assert reader.poll(2, 0).read_up_to == dict.fromkeys(both, 1_099.0)  # one record, then the end
    clock.now = 1_050.0
    assert reader.poll(2, 0).read_up_to == dict.fromkeys(both, 1_099.0)  # a clock that steps back
    reader.seek({FEEDBACK: 2})
    assert reader.poll(1, 0).read_up_to == dict.fromkeys(both, 1_010.0)


def test_a_watermark_before_anything_was_read_says_so(writer: SqlEventLogWriter, reader: SqlEventLogReader) -> None:
    append(writer, b"a")
    reader.seek({})
    assert reader._read_up_to == -math.inf


def test_trimming_takes_the_old_of_each_topic_and_leaves_the_newest(
    writer: SqlEventLogWriter, reader: SqlEventLogReader, clock: Clock
) -> None:
    for n in range(1_000):
        writer.append("decisions" if n % 2 else "feedback", b"%d" % n)
    append(writer, b"last of the old")
    clock.now = 2_000.0
    append(writer, b"young")

    reader.trim({FEEDBACK: 10_000, Partition("decisions", 0): 501}, appended_before=1_500.0)

    left = [int(value) for value in values(reader)[:-1]]
    assert left == [n for n in range(500, 1_000) if n % 2]  # offsets are n + 1: below 501 lie 0 … 499

    reader.trim({FEEDBACK: 10_000, Partition("decisions", 0): 10_000}, appended_before=math.inf)
    reader.seek({})
    assert values(reader) == [b"young"]


def test_offsets_go_on_after_everything_was_trimmed(
    writer: SqlEventLogWriter, reader: SqlEventLogReader, url: str, clock: Clock
) -> None:
    append(writer, b"a")
    append(writer, b"b")
    reader.trim({FEEDBACK: 3}, appended_before=math.inf)
    another = SqlEventLogWriter(url, clock)
    append(another, b"c")
    another.close()
    reader.seek({FEEDBACK: 3})
    assert [(r.offset, r.value) for r in reader.poll(10, 0).records] == [(3, b"c")]


def test_a_log_that_is_another_file_than_it_was_is_read_from_its_start(
    writer: SqlEventLogWriter, reader: SqlEventLogReader, caplog: pytest.LogCaptureFixture
) -> None:
    append(writer, b"a")
    append(writer, b"b")
    reader.seek({FEEDBACK: 1_000})
    assert values(reader) == [b"a", b"b"]
    assert "it is read anew" in caplog.text


def test_a_topic_that_was_not_asked_for_is_passed_over(url: str, writer: SqlEventLogWriter, clock: Clock) -> None:
    writer.append("decisions", b"decision")
    append(writer, b"event")
    reader = SqlEventLogReader(url, ("feedback",), clock=clock)
    assert reader.assignment() == {FEEDBACK}
    poll = reader.poll(1, 1.0)
    assert [r.value for r in poll.records] == [b"event"]
    assert poll.read_up_to.keys() == {FEEDBACK}
    reader.close()


_ENDLESS_WRITER = """
import sys, time
from storage.sql_log import SqlEventLogWriter
writer = SqlEventLogWriter(sys.argv[1], time.time)
number = 0
while True:
    futures = [(n, writer.append("feedback", b"%d" % n)) for n in range(number, number + 20)]
    number += 20
    for n, future in futures:
        future.result()
        print(n, flush=True)
"""


def test_what_a_killed_writer_had_acknowledged_is_there_once(url: str, reader: SqlEventLogReader) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _ENDLESS_WRITER, url], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(200)]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    acknowledged += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]

    found = [int(value) for value in values(reader)]

    assert len(set(found)) == len(found)
    assert set(found) >= set(acknowledged)


def test_the_write_ahead_log_stays_small_beside_a_reader_that_polls_all_the_time(
    file: Path, url: str, clock: Clock, reader: SqlEventLogReader
) -> None:
    """Now and then it takes some megabytes until nobody reads in it; without that it would hold all 40."""
    writer = SqlEventLogWriter(url, clock, busy_seconds=60)
    appended = [writer.append("feedback", b"x" * 20_000)]
    num_read = 0
    while num_read < 2_000:
        if len(appended) < 2_000 and len(appended) - num_read < 40:
            appended += [writer.append("feedback", b"x" * 20_000) for _ in range(20)]
        assert not any(each.done() and each.exception() for each in appended[-60:])  # else the last would never come
        num_read += len(reader.poll(50, 0).records)
    writer.close()
    assert file.stat().st_size > 20_000_000
    assert file.with_suffix(".db-wal").stat().st_size < 20_000_000
