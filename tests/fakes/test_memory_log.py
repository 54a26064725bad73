"""The log in memory keeps the port as the real ones do; on top of that, who reads what is dealt out by hand."""

import math
import time
from collections.abc import Callable

import pytest

from storage.event_log import EventLogReader, Partition, Poll
from tests.contract.test_event_log import EventLogContract, Log
from tests.fakes.memory_log import MemoryLog, MemoryLogReader, MemoryLogWriter

ONE, OTHER = Partition("feedback", 0), Partition("feedback", 1)


class TestMemoryLog(EventLogContract):
    @pytest.fixture
    def make_log(self) -> Callable[[], Log]:
        log = MemoryLog({"decisions": 2, "feedback": 1}, time.time)  # its tests want the order of one topic's records

        def reader() -> EventLogReader:
            made = MemoryLogReader(log, is_patient=True)
            made.assign(log.partitions())
            made.seek({})
            return made

        return lambda: Log(lambda: MemoryLogWriter(log), reader, quiet_seconds=0.01)


def test_what_a_rebalance_brings_is_read_once_someone_says_from_where() -> None:
    log = MemoryLog({"feedback": 2}, lambda: 100.0)
    reader = MemoryLogReader(log)
    for value in (b"1", b"2"):
        log.append(ONE, value)
    log.append(OTHER, b"other")
    reader.assign({ONE})
    assert (reader.is_placed(), reader.poll(10, 0.0)) == (False, Poll([], {}))
    reader.seek({ONE: 1})
    assert (reader.is_placed(), values(reader)) == (True, [b"2"])
    reader.assign({ONE})
    assert (reader.is_placed(), values(reader)) == (False, [])
    reader.assign({OTHER})
    reader.seek({ONE: 1})
    assert (values(reader), reader.poll(10, 0.0).read_up_to) == ([b"other"], {OTHER: 100.0})


def test_an_unseen_record_holds_up_its_partition_but_no_watermark_beyond_the_margin() -> None:
    now = 100.0
    log = MemoryLog({"feedback": 1}, lambda: now)
    reader = placed(log)
    log.append(ONE, b"slow", unseen_seconds=0.75)
    log.append(ONE, b"after it")
    now = 100.5
    assert reader.poll(10, 0.0) == Poll([], {ONE: 99.5})
    now = 101.0
    assert values(reader) == [b"slow", b"after it"]


def test_a_reader_that_does_not_ask_for_ends_has_read_up_to_its_last_record() -> None:
    now = 100.0
    log = MemoryLog({"feedback": 2}, lambda: now)
    reader = placed(log)
    reader.asks_for_ends = False
    log.append(ONE, b"1")
    now = 500.0
    assert reader.poll(10, 0.0).read_up_to == {ONE: 100.0, OTHER: -math.inf}


def placed(log: MemoryLog) -> MemoryLogReader:
    """At the start of all partitions."""
    reader = MemoryLogReader(log)
    reader.assign(log.partitions())
    reader.seek({})
    return reader


def values(reader: MemoryLogReader) -> list[bytes]:
    return [record.value for record in reader.poll(10, 0.0).records]
