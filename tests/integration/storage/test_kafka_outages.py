"""The event log while its broker is killed, frozen, or not there at all."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from functools import partial

import pytest

from loadtest.parts.kafka import LocalKafka
from loadtest.parts.process import wait_until
from storage import kafka_writer
from storage.event_log import LogUnavailableError
from storage.kafka_writer import KafkaEventLogWriter
from tests.integration.storage.kafka_logs import (
    WAIT_SECONDS,
    Opened,
    append,
    append_in_the_end,
    numbers,
    read_all,
    read_until,
    settings_of,
)

pytestmark = pytest.mark.slow

SOON_SECONDS = 1.0
"""What an append takes at most on a busy machine; it waits for nothing."""


@pytest.fixture
def log(mortal_kafka: LocalKafka) -> Iterator[Opened]:
    mortal_kafka.resume()
    mortal_kafka.start()
    opened = Opened(settings_of(mortal_kafka.servers, kafka_partitions=2))
    yield opened
    mortal_kafka.resume()
    opened.close()


class Appending:
    """Appends one number after the other by a thread, until it is stopped."""

    def __init__(self, writer: KafkaEventLogWriter) -> None:
        self.futures: list[Future[None]] = []
        self.longest_seconds = 0.0
        """That an append took."""
        self._writer = writer
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def values(self, *, stored: bool) -> set[bytes]:
        """Of those that were stored, or that failed; those that hang are in neither."""
        settled = [(n, future.exception()) for n, future in enumerate(self.futures) if future.done()]
        return {b"%d" % n for n, error in settled if (error is None) is stored}

    def has_begun(self, enough: int) -> bool:
        return len(self.futures) > enough

    def _run(self) -> None:
        while not self._stopping.wait(0.002):
            started_at = time.monotonic()
            self.futures.append(self._writer.append("feedback", b"%d" % len(self.futures)))
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - started_at)


def test_it_starts_without_a_broker_and_connects_when_one_comes(log: Opened, mortal_kafka: LocalKafka) -> None:
    mortal_kafka.kill()
    writer, reader = log.writer(), log.reader()
    assert isinstance(writer.append("feedback", b"too early").exception(WAIT_SECONDS), LogUnavailableError)
    started_at = time.monotonic()
    with pytest.raises(LogUnavailableError, match="cannot be reached"):
        writer.append("feedback", b"too early as well").result(0)
    with pytest.raises(LogUnavailableError, match="cannot be reached"):
        reader.poll(1, 0.1)
    assert time.monotonic() - started_at < WAIT_SECONDS
    assert reader.assignment() == reader.partitions() == frozenset()
    reader.seek({})

    mortal_kafka.start()

    append_in_the_end(writer, b"now")
    assert read_until(reader, lambda found: b"now" in found) == [b"now"]


def test_what_was_acknowledged_outlives_kills_of_the_broker_and_appends_go_on(
    log: Opened, mortal_kafka: LocalKafka
) -> None:
    writer, reader = log.writer(), log.placed_reader()
    append(writer, b"first")
    appending = Appending(writer)
    for enough in (300, 600, 900):
        assert wait_until(partial(appending.has_begun, enough), WAIT_SECONDS)
        mortal_kafka.kill()
        mortal_kafka.start()
        append_in_the_end(writer, b"again")
    appending.stop()

    assert not wait(appending.futures, WAIT_SECONDS).not_done
    stored, failed = appending.values(stored=True), appending.values(stored=False)
    found = read_until(reader, lambda found: stored <= set(found))
    assert len(stored) > 600
    assert set(found) <= stored | failed | {b"first", b"again"}
    assert len([value for value in found if value in stored]) == len(stored)


def test_no_append_waits_for_a_broker_that_is_frozen(log: Opened, mortal_kafka: LocalKafka) -> None:
    writer = log.writer()
    append(writer, b"first")
    mortal_kafka.pause()
    appending = Appending(writer)

    assert wait_until(lambda: appending.values(stored=False), WAIT_SECONDS)

    error = writer.append("feedback", b"now").exception(0)  # it does not even try
    assert isinstance(error, LogUnavailableError)
    assert "stored nothing for" in str(error)
    mortal_kafka.resume()
    append_in_the_end(writer, b"again")
    appending.stop()
    assert appending.longest_seconds < SOON_SECONDS
    assert not wait(appending.futures, WAIT_SECONDS).not_done
    assert appending.values(stored=True) <= {record.value for record in read_all(log.placed_reader())}


def test_a_producer_that_gave_up_records_is_replaced(
    log: Opened, mortal_kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kafka-python's own never sends anything again after that."""
    monkeypatch.setitem(kafka_writer._OPTIONS, "delivery_timeout_ms", 6_000)
    writer = log.writer()
    append(writer, b"first")
    mortal_kafka.pause()
    futures = [writer.append("feedback", value) for value in numbers(10)]

    for future in futures:
        assert isinstance(future.exception(WAIT_SECONDS), LogUnavailableError)

    mortal_kafka.resume()
    append_in_the_end(writer, b"again")
    append(writer, *[b"and again"] * 20)
    assert {b"first", b"again", b"and again"} <= {record.value for record in read_all(log.placed_reader())}


def test_closing_does_not_wait_long_for_a_broker_that_is_frozen(log: Opened, mortal_kafka: LocalKafka) -> None:
    writer = log.writer()
    append(writer, b"first")
    mortal_kafka.pause()
    futures = [writer.append("feedback", value) for value in numbers(10)]
    started_at = time.monotonic()
    writer.close()
    assert time.monotonic() - started_at < 20
    assert all(isinstance(future.exception(0), LogUnavailableError) for future in futures)


def test_a_reader_says_that_the_log_is_away_and_goes_on_when_it_is_back(log: Opened, mortal_kafka: LocalKafka) -> None:
    writer, reader = log.writer(), log.placed_reader()
    append(writer, *numbers(3))
    assert sorted(record.value for record in read_all(reader)) == numbers(3)
    for go, come in ((mortal_kafka.kill, mortal_kafka.start), (mortal_kafka.pause, mortal_kafka.resume)):
        go()
        with pytest.raises(LogUnavailableError, match="cannot be read"):
            read_all(reader)
        come()
        append_in_the_end(writer, b"again")
        read_until(reader, lambda found: b"again" in found)
