"""What every event log keeps: one class of tests, run on each implementation."""

import itertools
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path

import pytest

from schemas.settings import Settings
from storage import kafka_reader
from storage.event_log import EventLogReader, EventLogWriter, LogUnavailableError, Partition, Poll, Record
from storage.kafka_reader import KafkaEventLogReader
from storage.kafka_writer import KafkaEventLogWriter
from storage.sql_log import SqlEventLogReader, SqlEventLogWriter

WAIT_SECONDS = 60.0
MARGIN_SECONDS = 1.0


@dataclass(frozen=True)
class Log:
    """One log, empty at first: each call makes another writer of it, or another reader of all its partitions."""

    writer: Callable[[], EventLogWriter]
    reader: Callable[[], EventLogReader]
    quiet_seconds: float
    """After so long without a record there is none…"""
    is_far: bool = False
    """…unless it is on its way: then only the watermark tells."""

    def polls(self, reader: EventLogReader, max_records: int) -> Iterator[list[Record]]:
        """Until all that is there by now was read."""
        begun_at, deadline = time.time(), time.monotonic() + WAIT_SECONDS
        while (poll := reader.poll(max_records, self.quiet_seconds)).records or self._may_lack(poll, begun_at):
            assert time.monotonic() < deadline, "the end was not reached"
            yield poll.records

    def read_all(self, reader: EventLogReader) -> list[Record]:
        return [record for records in self.polls(reader, 100) for record in records]

    def _may_lack(self, poll: Poll, begun_at: float) -> bool:
        return self.is_far and min(poll.read_up_to.values(), default=-math.inf) < begun_at


def append(writer: EventLogWriter, *values: bytes, topic: str = "feedback") -> None:
    """One record after the other, so that they have this order in a log of several partitions too."""
    for value in values:
        writer.append(topic, value).result(WAIT_SECONDS)  # type: ignore[arg-type]  # a topic


def next_offsets(records: list[Record]) -> dict[Partition, int]:
    return {record.partition: record.offset + 1 for record in records}


class EventLogContract:
    """Subclasses give the fixture `make_log`."""

    @pytest.fixture
    def make_log(self) -> Iterator[Callable[[], Log]]:
        raise NotImplementedError

    @pytest.fixture
    def log(self, make_log: Callable[[], Log]) -> Log:
        return make_log()

    def test_what_is_acknowledged_is_read_once_with_its_topic(self, log: Log) -> None:
        writer = log.writer()
        append(writer, b"[1]", b"\xff\x00not text", topic="decisions")
        append(writer, b"{}", topic="feedback")

        reader = log.reader()
        records = log.read_all(reader)

        assert sorted((r.partition.topic, r.value) for r in records) == [
            ("decisions", b"[1]"),
            ("decisions", b"\xff\x00not text"),
            ("feedback", b"{}"),
        ]
        assert {r.partition for r in records} <= reader.assignment()

    def test_an_acknowledged_record_is_there_for_the_very_next_poll(self, log: Log) -> None:
        writer, reader = log.writer(), log.reader()
        log.read_all(reader)
        for number in range(20):
            append(writer, b"%d" % number)
            assert [r.value for r in reader.poll(10, WAIT_SECONDS).records] == [b"%d" % number]

    def test_offsets_and_times_rise_in_each_partition(self, log: Log) -> None:
        before = time.time()
        append(log.writer(), *[b"%d" % n for n in range(10)])
        records = log.read_all(log.reader())
        after = time.time()

        by_partition = itertools.groupby(sorted(records, key=lambda r: str(r.partition)), lambda r: r.partition)
        for _, group in by_partition:
            of_partition = list(group)
            assert all(a.offset < b.offset for a, b in itertools.pairwise(of_partition))
            assert all(a.appended_at <= b.appended_at for a, b in itertools.pairwise(of_partition))
            assert all(before - 1 <= r.appended_at <= after + 1 for r in of_partition)
        assert len(records) == 10

    def test_seeking_goes_on_from_the_offsets_given(self, log: Log) -> None:
        append(log.writer(), *[b"%d" % n for n in range(10)])
        first = log.reader().poll(4, WAIT_SECONDS).records

        reader = log.reader()
        reader.seek(next_offsets(first))

        assert {r.value for r in first} | {r.value for r in log.read_all(reader)} == {b"%d" % n for n in range(10)}
        assert len(first) <= 4
        reader.seek(next_offsets(first))
        assert len(log.read_all(reader)) == 10 - len(first)

    def test_partitions_that_a_seek_does_not_name_go_on_from_the_start(self, log: Log) -> None:
        writer, reader = log.writer(), log.reader()
        append(writer, b"decision", topic="decisions")
        append(writer, b"event")
        records = log.read_all(reader)

        reader.seek(next_offsets([r for r in records if r.partition.topic == "feedback"]))

        assert [r.value for r in log.read_all(reader)] == [b"decision"]

    def test_a_poll_takes_no_more_than_asked_for(self, log: Log) -> None:
        append(log.writer(), *[b"%d" % n for n in range(7)])
        reader = log.reader()
        sizes = [len(records) for records in log.polls(reader, 3)]
        assert max(sizes) <= 3
        assert sum(sizes) == 7

    def test_a_poll_waits_for_a_record_that_comes(self, log: Log) -> None:
        writer, reader = log.writer(), log.reader()
        log.read_all(reader)
        late = threading.Timer(0.1, lambda: writer.append("feedback", b"late"))
        late.start()
        assert [r.value for r in reader.poll(10, WAIT_SECONDS).records] == [b"late"]
        late.join()

    def test_an_empty_log_is_read_up_to_now_less_the_margin(self, log: Log) -> None:
        reader = log.reader()
        asked_at = time.time()
        poll = reader.poll(10, 0.0)
        assert poll.records == []
        assert poll.read_up_to.keys() == reader.assignment()
        for read_up_to in poll.read_up_to.values():
            assert asked_at - MARGIN_SECONDS - 0.1 <= read_up_to <= time.time() - MARGIN_SECONDS

    def test_nothing_older_than_the_watermark_comes_later(self, log: Log) -> None:
        writer, reader = log.writer(), log.reader()
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                append(writer, b"decision", topic="decisions")
                append(writer, b"event")

        thread = threading.Thread(target=write)
        thread.start()
        watermark = dict.fromkeys(reader.assignment(), -math.inf)
        polls = 0
        try:
            while polls < 30:
                poll = reader.poll(3, 0.05)
                assert all(r.appended_at >= watermark[r.partition] for r in poll.records)
                assert all(poll.read_up_to[p] >= watermark[p] for p in watermark)
                watermark = dict(poll.read_up_to)
                polls += bool(poll.records)
        finally:
            stop.set()
            thread.join()
        assert min(watermark.values()) > 0

    def test_after_a_seek_back_what_is_not_read_again_is_not_counted_as_read(self, log: Log) -> None:
        append(log.writer(), *[b"%d" % n for n in range(5)])
        reader = log.reader()
        records = log.read_all(reader)

        reader.seek({})
        poll = reader.poll(1, WAIT_SECONDS)

        unread = [r for r in records if r.offset >= next_offsets(poll.records).get(r.partition, 0)]
        assert len(unread) == 4
        assert all(poll.read_up_to[r.partition] <= r.appended_at for r in unread)

    def test_appends_of_many_threads_are_all_there_once(self, log: Log) -> None:
        writer = log.writer()
        futures: list[Future[None]] = []

        def write(thread: int) -> None:
            futures.extend(writer.append("feedback", b"%d %d" % (thread, n)) for n in range(50))

        threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait(futures, WAIT_SECONDS)

        assert all(f.exception() is None for f in futures)
        assert sorted(r.value for r in log.read_all(log.reader())) == sorted(
            b"%d %d" % (thread, n) for thread in range(4) for n in range(50)
        )

    def test_two_writers_share_the_log(self, log: Log) -> None:
        one, other = log.writer(), log.writer()
        append(one, b"a")
        append(other, b"b")
        append(one, b"c")
        assert sorted(r.value for r in log.read_all(log.reader())) == [b"a", b"b", b"c"]

    def test_a_caller_that_gives_up_does_not_disturb_the_others(self, log: Log) -> None:
        writer = log.writer()
        futures = [writer.append("feedback", b"%d" % n) for n in range(100)]
        for future in futures[::2]:
            future.cancel()
        for future in futures[1::2]:
            future.result(WAIT_SECONDS)
        append(writer, b"last")
        values = {r.value for r in log.read_all(log.reader())}
        assert values >= {b"%d" % n for n in range(1, 100, 2)} | {b"last"}

    def test_closing_waits_for_what_was_appended_and_refuses_what_comes_after(self, log: Log) -> None:
        writer = log.writer()
        append(writer, b"first")  # so that it is connected
        futures = [writer.append("feedback", b"%d" % n) for n in range(99)]
        writer.close()
        assert all(f.done() and f.exception() is None for f in futures)
        with pytest.raises(LogUnavailableError):
            writer.append("feedback", b"too late").result(WAIT_SECONDS)
        assert len(log.read_all(log.reader())) == 100
        writer.close()

    def test_trimming_spares_what_is_unread_or_young(self, log: Log) -> None:
        writer, reader = log.writer(), log.reader()
        append(writer, *[b"%d" % n for n in range(6)])
        first = reader.poll(3, WAIT_SECONDS).records

        reader.trim(next_offsets(first), time.time() - 3600)
        anew = log.reader()
        assert len(log.read_all(anew)) == 6

        reader.trim(next_offsets(first), time.time() + 3600)
        assert {r.value for r in first} | {r.value for r in log.read_all(reader)} == {b"%d" % n for n in range(6)}

    def test_a_trimmed_log_goes_on_above_its_old_offsets(self, log: Log) -> None:
        writer, reader = log.writer(), log.reader()
        append(writer, b"a", b"b")
        before = log.read_all(reader)
        reader.trim(next_offsets(before), time.time() + 3600)

        append(writer, b"c", b"d")

        assert sorted(r.value for r in log.read_all(reader)) == [b"c", b"d"]


class TestSqliteEventLog(EventLogContract):
    @pytest.fixture
    def make_log(self, tmp_path: Path) -> Iterator[Callable[[], Log]]:
        opened: list[EventLogWriter | EventLogReader] = []

        def make() -> Log:
            url = f"sqlite:///{tmp_path / 'events.db'}"

            def writer() -> EventLogWriter:
                opened.append(made := SqlEventLogWriter(url, time.time))
                return made

            def reader() -> EventLogReader:
                opened.append(made := SqlEventLogReader(url, clock=time.time))
                return made

            return Log(writer, reader, quiet_seconds=0.03)

        yield make
        for one in opened:
            one.close()


class TestKafkaEventLog(EventLogContract):
    @pytest.fixture
    def make_log(self, kafka_servers: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Log]]:
        monkeypatch.setattr(kafka_reader, "_ANSWER_SECONDS", 20.0)  # for a busy broker
        opened: list[EventLogWriter | EventLogReader] = []

        def make() -> Log:
            prefix = f"contract-{uuid.uuid4().hex}-"
            settings = Settings(kafka=kafka_servers, kafka_topic_prefix=prefix, kafka_partitions=2)

            def writer() -> EventLogWriter:
                opened.append(made := KafkaEventLogWriter(settings, time.time))
                return made

            def reader() -> EventLogReader:
                alone = settings.model_copy(update={"kafka_group": uuid.uuid4().hex})
                opened.append(made := KafkaEventLogReader(alone, time.time))
                deadline = time.monotonic() + WAIT_SECONDS
                while not made.assignment() and time.monotonic() < deadline:
                    made.poll(1, 0.1)
                made.seek({})
                return made

            return Log(writer, reader, quiet_seconds=0.3, is_far=True)

        yield make
        for one in opened:
            one.close()
