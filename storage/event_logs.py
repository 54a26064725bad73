"""Which event log the settings name. What is of Kafka alone is imported where it is used: it costs 5 MB and 0.3 s."""

from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from schemas.settings import Settings
from storage.event_log import DeadLetter, DeadLetterSink, EventLogReader, EventLogWriter
from storage.sql_log import SqlEventLogReader, SqlEventLogWriter


class DeadLetters(Protocol):
    """Where dead letters are, for people to look at."""

    def read(self) -> Iterator[DeadLetter]:
        """All, each once, oldest first.

        Raises:
            StoreUnavailableError, LogUnavailableError: what holds them is away.
        """

    def forget(self, letters: Collection[DeadLetter]) -> None:
        """They were replayed."""

    def close(self) -> None: ...


class DeadLetterTopic(DeadLetters, DeadLetterSink, Protocol):
    """The event log's own place for them."""


def log_name(settings: Settings) -> str:
    """By which the store keeps the log's offsets."""
    return "kafka" if settings.kafka else "sql"


def open_writer(settings: Settings, clock: Callable[[], float]) -> EventLogWriter:
    """Returns at once, whether the log can be reached or not."""
    if not settings.kafka:
        return SqlEventLogWriter(settings.log_url, clock)
    from storage.kafka_writer import KafkaEventLogWriter  # noqa: PLC0415

    return KafkaEventLogWriter(settings, clock)


def open_reader(settings: Settings, clock: Callable[[], float]) -> EventLogReader:
    """Returns at once, whether the log can be reached or not."""
    if not settings.kafka:
        return SqlEventLogReader(settings.log_url, clock=clock)
    from storage.kafka_reader import KafkaEventLogReader  # noqa: PLC0415

    return KafkaEventLogReader(settings, clock)


def open_dead_letters(settings: Settings) -> DeadLetterTopic | None:
    """None where dead letters go into the store. Returns at once."""
    if not settings.kafka:
        return None
    from storage.kafka_dead_letters import KafkaDeadLetters  # noqa: PLC0415

    return KafkaDeadLetters(settings)
