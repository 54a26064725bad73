"""Logs in a real Kafka for tests: each with topics of its own, and what tests do with writers and readers."""

import math
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from loadtest.parts.process import wait_until
from schemas.settings import Settings
from storage.event_log import LogUnavailableError, Record
from storage.kafka_client import connect
from storage.kafka_reader import KafkaEventLogReader
from storage.kafka_writer import KafkaEventLogWriter

WAIT_SECONDS = 60.0
QUIET_SECONDS = 1.5


class Opened:
    """Writers and readers of one log, closed at the end of the test."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._to_close: list[Callable[[], None]] = []

    def writer(self) -> KafkaEventLogWriter:
        writer = KafkaEventLogWriter(self.settings, time.time)
        self._to_close.append(writer.close)
        return writer

    def reader(self, clock: Callable[[], float] = time.time, group: str = "readers") -> KafkaEventLogReader:
        reader = KafkaEventLogReader(self.settings.model_copy(update={"kafka_group": group}), clock, ("feedback",))
        self._to_close.append(reader.close)
        return reader

    def placed_reader(self, clock: Callable[[], float] = time.time) -> KafkaEventLogReader:
        """At the start of the log, alone in its group."""
        reader = self.reader(clock, uuid.uuid4().hex)
        poll_until(reader, lambda: bool(reader.assignment()))
        reader.seek({})
        return reader

    def client(self, kind: Callable[..., Any], **options: object) -> Any:
        connected = connect(kind, self.settings, **options)
        self._to_close.append(connected.client.close)
        return connected.client

    def topic(self, name: str = "feedback") -> str:
        return self.settings.kafka_topic_prefix + name

    def close(self) -> None:
        for close in reversed(self._to_close):
            close()


def settings_of(servers: str, **values: object) -> Settings:
    prefix = f"log-{uuid.uuid4().hex}-"
    return Settings.model_validate({"kafka": servers, "kafka_topic_prefix": prefix, "kafka_partitions": 1} | values)


def poll_until(reader: KafkaEventLogReader, happened: Callable[[], object]) -> None:
    def poll() -> object:
        reader.poll(1, 0.1)
        return happened()

    assert wait_until(poll, WAIT_SECONDS, 0)


def read_until(reader: KafkaEventLogReader, happened: Callable[[list[bytes]], object]) -> list[bytes]:
    """The values, until they are as they should be; whatever is away or assigned anew meanwhile."""
    found: list[bytes] = []

    def read() -> object:
        with suppress(LogUnavailableError):
            found.extend(record.value for record in reader.poll(1_000, 0.1).records)
        if not reader.is_placed():
            found.clear()
            reader.seek({})
        return happened(found)

    assert wait_until(read, WAIT_SECONDS)
    return found


def append(writer: KafkaEventLogWriter, *values: bytes) -> None:
    for value in values:
        writer.append("feedback", value).result(WAIT_SECONDS)


def append_in_the_end(writer: KafkaEventLogWriter, value: bytes) -> None:
    """However often it fails before."""
    assert wait_until(lambda: writer.append("feedback", value).exception(WAIT_SECONDS) is None, WAIT_SECONDS)


def polls(reader: KafkaEventLogReader, max_records: int) -> Iterator[list[Record]]:
    """Until all that is in the log by now was read: a poll that finds nothing may only have been too short."""
    begun_at, deadline = time.time(), time.monotonic() + WAIT_SECONDS
    read_up_to = -math.inf
    while read_up_to < begun_at:
        assert time.monotonic() < deadline, "the end was not reached"
        poll = reader.poll(max_records, 0.3)
        read_up_to = min(poll.read_up_to.values(), default=-math.inf)
        yield poll.records


def read_all(reader: KafkaEventLogReader) -> list[Record]:
    return [record for records in polls(reader, 1_000) for record in records]


def numbers(count: int) -> list[bytes]:
    return [b"%d" % n for n in range(count)]
