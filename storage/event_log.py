"""The event log, as a port: an append-only sequence of records a partition (DESIGN §6).

Implementations: `storage.sql_log` (the embedded default), `storage.kafka_writer` and `storage.kafka_reader`. Each
passes tests/contract/test_event_log.py.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, Protocol

Topic = Literal["decisions", "feedback"]


class LogUnavailableError(Exception):
    """The event log cannot be reached now, and nobody knows whether what was to be appended is in it."""


class RecordTooLargeError(LogUnavailableError):
    """The event log never takes a record of this size: appending it again is in vain."""


@dataclass(frozen=True, slots=True)
class Partition:
    topic: Topic
    number: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record; `value` is a JSON object or an array of them."""

    partition: Partition
    offset: int
    appended_at: float
    """Seconds since the epoch, by the log's clock."""
    value: bytes


@dataclass(frozen=True, slots=True)
class Poll:
    """What one poll read. `read_up_to` has, for each partition assigned, the time before which everything was read:
    that of its last record, or the time of asking less a margin of 1 s when its end was reached (DESIGN §7.6). It is
    -inf where neither is known since the last seek.
    """

    records: list[Record]
    read_up_to: Mapping[Partition, float]


class EventLogWriter(Protocol):
    """Appends. Safe to call from any thread; never blocks."""

    def append(self, topic: Topic, value: bytes) -> Future[None]:
        """Resolves once `value` is durable; fails with `LogUnavailableError`.

        Appends that wait together are committed together.
        """

    def close(self) -> None:
        """Waits for what was appended, at most a few seconds; then later appends fail."""


class EventLogReader(Protocol):
    """Reads all topics, as one consumer of a group. Not safe for several threads."""

    def assignment(self) -> frozenset[Partition]:
        """The partitions that this reader reads now. Others of the group may take some over at any poll."""

    def partitions(self) -> frozenset[Partition]:
        """All that the topics have now, whoever reads them; empty before the log was reached for the first time."""

    def is_placed(self) -> bool:
        """Whether it reads each partition of `assignment()` from where it was told to. It does not when the assignment
        has changed since the last `seek`, were it to the same partitions; polls give nothing of them until the next.
        """

    def seek(self, next_offsets: Mapping[Partition, int]) -> None:
        """Go on from these offsets; partitions not named go on from the start of the log."""

    def poll(self, max_records: int, timeout_seconds: float) -> Poll:
        """Up to `max_records` next records, waiting for the first at most `timeout_seconds`.

        Raises:
            LogUnavailableError: the log is away; asking again is harmless.
        """

    def trim(self, next_offsets: Mapping[Partition, int], appended_before: float) -> None:
        """Lets the log forget records below these offsets that are older than `appended_before`.

        Kafka has a rule of its own for that.
        """

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be read of one record; `value` is the record's, or of an array's element its JSON."""

    partition: Partition
    offset: int
    index: int
    reason: str
    detail: str
    value: bytes
    received_at: float
    """When the log got the record, seconds since the epoch."""


class DeadLetterSink(Protocol):
    """Where a log of its own keeps dead letters. Blocks; not safe for several threads."""

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Returns once all are durable. Repeats are kept too: a letter is known by partition, offset and index.

        Raises:
            LogUnavailableError: some may not be; putting them again is harmless.
        """

    def close(self) -> None: ...
