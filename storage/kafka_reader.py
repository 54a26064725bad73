"""Reads the event log in Kafka, as one consumer of a group; `storage.kafka_writer` appends to it.

A record's time is the broker's (`LogAppendTime`). Where to go on is known to the caller alone; what is committed to the
broker is for lag monitors.
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer  # type: ignore[import-untyped]  # it brings no types
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor  # type: ignore[import-untyped]
from kafka.errors import KafkaError, LogTruncationError, OffsetOutOfRangeError  # type: ignore[import-untyped]
from kafka.structs import OffsetAndMetadata, TopicPartition  # type: ignore[import-untyped]  # the same

from schemas.settings import Settings
from storage.event_log import LogUnavailableError, Partition, Poll, Record, Topic
from storage.kafka_client import Connected, connect, topic_name
from storage.kafka_topics import make_topics

MARGIN_SECONDS = 1.0
"""How long a record may take from its `appended_at` until readers see it."""
_ASK_EVERY_SECONDS = 0.2
_ANSWER_SECONDS = 2.0
_JOINING_SECONDS = 0.1  # so that the first assignment is seen soon; later ones are seen when the poll ends
_COMMIT_EVERY_SECONDS = 5.0
_STUCK_SECONDS = 75.0  # longer than a rebalance takes that waits for a member which is busy
_CLOSE_SECONDS = 2.0
_OPTIONS = {
    "enable_auto_commit": False,
    "auto_offset_reset": "none",
    "session_timeout_ms": 6000,
    "heartbeat_interval_ms": 1500,
    "max_poll_interval_ms": 60_000,  # a consumer that steps no more does not hold up the others' rebalance for longer
    "partition_assignment_strategy": (RoundRobinPartitionAssignor,),
    # What one answer of a broker holds at most, unless a single record is larger: so much is in memory, and twice.
    "fetch_max_bytes": 16 << 20,
    "max_partition_fetch_bytes": 4 << 20,
    "fetch_max_wait_ms": 300,  # a seek may wait for that twice; shorter, an idle reader takes 1 % of a core and more
    "metrics_enabled": False,
}

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Place:
    """Where the reader stands in one of its partitions."""

    partition: Partition
    is_placed: bool = False
    next_offset: int | None = None
    """None: the start of the log, or not placed yet."""
    read_up_to: float = -math.inf


class KafkaEventLogReader:
    """Connects at the first poll, and anew when it must. Partitions that it gains are paused until the next seek.

    A poll without a seek before it tells that what the last one gave was dealt with: only that is committed.
    """

    def __init__(
        self, settings: Settings, clock: Callable[[], float], topics: Sequence[Topic] = ("decisions", "feedback")
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._topics: dict[str, Topic] = {topic_name(settings, topic): topic for topic in topics}
        self._connected: Connected[Any] | None = None
        self._places: dict[TopicPartition, _Place] = {}
        self._partitions: frozenset[Partition] = frozenset()
        self._asked_at = -math.inf  # this and the rest in monotonic seconds
        self._committed_at = -math.inf
        self._vain_seconds = 0.0  # that polls took since the last which was as it should be
        self._is_at_end = True  # as far as we know
        self._is_dealt_with = False

    def assignment(self) -> frozenset[Partition]:
        return frozenset(place.partition for place in self._places.values())

    def is_placed(self) -> bool:
        return all(place.is_placed for place in self._places.values())

    def partitions(self) -> frozenset[Partition]:
        if self._connected is not None:
            cluster = self._connected.network.cluster
            numbers = {topic: cluster.partitions_for_topic(name) for name, topic in self._topics.items()}
            if all(numbers.values()):
                self._partitions = frozenset(Partition(topic, n) for topic in numbers for n in numbers[topic])
        return self._partitions

    def seek(self, next_offsets: Mapping[Partition, int]) -> None:
        for name, place in self._places.items():
            place.next_offset = next_offsets.get(place.partition)
            place.read_up_to = -math.inf  # what was read beyond the new position counts no more
            place.is_placed = True
            self._move(self._consumer(), name, place.next_offset)
        self._asked_at = -math.inf
        self._is_at_end = True
        self._is_dealt_with = False

    def poll(self, max_records: int, timeout_seconds: float) -> Poll:
        deadline = time.monotonic() + timeout_seconds
        with self._watching():
            consumer = self._consumer()
            self._commit(consumer)
            batches = self._read(consumer, max_records, deadline)
            records = [record for name, batch in batches.items() for record in self._records(name, batch)]
            self._ask_for_ends(consumer, batches.keys())
        if records or (self._is_at_end and consumer._coordinator.stable()):  # noqa: SLF001 nobody else knows
            self._vain_seconds = 0.0
        self._is_dealt_with = True
        return Poll(records, {place.partition: place.read_up_to for place in self._places.values() if place.is_placed})

    def trim(self, next_offsets: Mapping[Partition, int], appended_before: float) -> None:
        """Nothing: the topics' own retention does that."""

    def close(self) -> None:
        self._discard()

    def _consumer(self) -> Any:
        if self._connected is None:
            make_topics(self._settings)
            connected = connect(KafkaConsumer, self._settings, group_id=self._settings.kafka_group, **_OPTIONS)
            self._connected, self._vain_seconds = connected, 0.0
            listener = _Listener(partial(self._reassign, connected.client))
            connected.client.subscribe(topics=list(self._topics), listener=listener)
            _log.info("event log: reading from Kafka at %s as %s", self._settings.kafka, self._settings.kafka_group)
        return self._connected.client

    def _reassign(self, consumer: Any, names: Collection[TopicPartition]) -> None:
        """Paused, and at some position, so that nobody looks for one at the broker."""
        for name in names:
            consumer.seek(name, 0)
            consumer.pause(name)
        self._places = {name: _Place(Partition(self._topics[name.topic], name.partition)) for name in names}

    @staticmethod
    def _move(consumer: Any, name: TopicPartition, next_offset: int | None) -> None:
        if next_offset is None:
            consumer.seek_to_beginning(name)
        else:
            consumer.seek(name, next_offset)
        consumer.resume(name)

    def _read(self, consumer: Any, max_records: int, deadline: float) -> dict[TopicPartition, list[Any]]:
        while True:
            left_seconds = max(0.0, deadline - time.monotonic())
            slice_seconds = left_seconds if self._places else min(left_seconds, _JOINING_SECONDS)
            _join_to_the_end(consumer)
            try:
                batches: dict[TopicPartition, list[Any]] = consumer.poll(1000 * slice_seconds, max_records)
            except OffsetOutOfRangeError as error:
                self._go_on_elsewhere(consumer, dict.fromkeys(error.args[0]))
            except LogTruncationError as error:
                self._go_on_elsewhere(consumer, error.divergent_offsets)
            else:
                if batches or not self.is_placed():
                    return batches
            if left_seconds == 0:
                return {}

    def _go_on_elsewhere(self, consumer: Any, ends: Mapping[TopicPartition, Any]) -> None:
        """Where the log was cut off, if that is known, else from its start."""
        placed = [name for name in ends if name in self._places and self._places[name].is_placed]
        starts = consumer.beginning_offsets(placed, timeout_ms=1000 * _ANSWER_SECONDS)
        for name in placed:
            place, end = self._places[name], ends[name]
            now = starts[name] if end is None else end.offset
            before = place.next_offset or 0
            lost = f"{now - before} records were deleted unread" if now > before else "records that were read are gone"
            _log.warning("event log: %s goes on from offset %d instead of %d: %s", name, now, before, lost)
            place.next_offset = now
            self._move(consumer, name, now)

    def _records(self, name: TopicPartition, batch: Sequence[Any]) -> Iterator[Record]:
        """Those of one partition; a record without a value has an empty one, which is no JSON."""
        place = self._places[name]
        place.next_offset = batch[-1].offset + 1
        place.read_up_to = max(place.read_up_to, batch[-1].timestamp / 1000)
        return (Record(place.partition, one.offset, one.timestamp / 1000, one.value or b"") for one in batch)

    def _ask_for_ends(self, consumer: Any, busy: Collection[TopicPartition]) -> None:
        """Where nothing came, there may be nothing more."""
        silent = [name for name, place in self._places.items() if place.is_placed and name not in busy]
        if not silent or time.monotonic() - self._asked_at < _ASK_EVERY_SECONDS:
            return
        try:
            self._note_ends(consumer, silent)
        except KafkaError:
            if not busy:  # else what came would be lost
                raise

    def _note_ends(self, consumer: Any, names: Sequence[TopicPartition]) -> None:
        asked_at = self._clock()
        ends = consumer.end_offsets(names, timeout_ms=1000 * _ANSWER_SECONDS)
        self._asked_at = time.monotonic()
        # Its own count: what ends a transaction takes an offset too.
        at_end = [name for name in names if consumer.position(name, 1000 * _ANSWER_SECONDS) == ends[name]]
        self._is_at_end = len(at_end) == len(names)
        for name in at_end:
            place = self._places[name]
            place.read_up_to = max(place.read_up_to, asked_at - MARGIN_SECONDS)

    def _commit(self, consumer: Any) -> None:
        if self._is_dealt_with and time.monotonic() - self._committed_at >= _COMMIT_EVERY_SECONDS:
            self._committed_at = time.monotonic()
            offsets = {n: OffsetAndMetadata(p.next_offset, "", -1) for n, p in self._places.items() if p.next_offset}
            consumer.commit_async(offsets)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """A consumer is given up that reads nothing for long, or fails in a way that nobody knows."""
        is_known, started_at = False, time.monotonic()
        try:
            yield
            is_known = True
        except KafkaError as error:
            is_known = True
            raise LogUnavailableError(f"Kafka at {self._settings.kafka} cannot be read: {error}") from error
        finally:
            self._vain_seconds += time.monotonic() - started_at
            if not is_known or self._vain_seconds > _STUCK_SECONDS:
                self._discard()

    def _discard(self) -> None:
        connected, self._connected = self._connected, None
        self._places = {}
        if connected is not None:
            try:
                with suppress(KafkaError):
                    connected.client.close(autocommit=False, timeout_ms=1000 * _CLOSE_SECONDS)
            finally:
                connected.network.close()


def _join_to_the_end(consumer: Any) -> None:
    """kafka-python forgets a join of which a poll did not see the end, when new partitions were the reason for it: it
    then belongs to no group, and reads nothing, for ever.
    """
    coordinator = consumer._coordinator  # noqa: SLF001 see above
    if coordinator.rebalance_in_progress():
        coordinator.request_rejoin()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # no types
    """Called only while the reader polls, and before it is given any record."""

    def __init__(self, changed: Callable[[Collection[TopicPartition]], None]) -> None:
        self._changed = changed

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._changed(assigned)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002 all of them, always
        self._changed(())
