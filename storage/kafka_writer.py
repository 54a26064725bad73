"""Appends to the event log in Kafka; `storage.kafka_reader` reads it. Keys and partitions carry no meaning."""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, get_args

from kafka import KafkaProducer  # type: ignore[import-untyped]  # it brings no types
from kafka.errors import (  # type: ignore[import-untyped]  # the same
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
from kafka.partitioner import Partitioner  # type: ignore[import-untyped]  # the same

from schemas.settings import Settings
from storage.event_log import LogUnavailableError, RecordTooLargeError, Topic
from storage.kafka_client import DISMISS_SECONDS, connect, dismiss, topic_name
from storage.kafka_outbox import Append, Outbox
from storage.kafka_topics import MAX_RECORD_BYTES, make_topics

_MAX_BYTES = 32 << 20
_PATIENCE_SECONDS = 2.0
_DELIVERY_SECONDS = 30.0
_OVERDUE_SECONDS = _DELIVERY_SECONDS + 5.0
_TICK_SECONDS = 0.2
_FIRST_BACKOFF_SECONDS = 0.1
_MAX_BACKOFF_SECONDS = 1.0
_CLOSE_SECONDS = 5.0
_OPTIONS = {
    "acks": "all",
    "enable_idempotence": True,
    "linger_ms": 0,  # what comes while a batch of its partition is on its way waits for that, and goes as one
    "batch_size": 64 << 10,
    "max_block_ms": 1000,
    "delivery_timeout_ms": int(1000 * _DELIVERY_SECONDS),
    "max_request_size": MAX_RECORD_BYTES,
    "metrics_enabled": False,
}
_CLOSED = "this writer of the event log is closed"
_TOPICS: tuple[Topic, ...] = get_args(Topic)

_log = logging.getLogger(__name__)


class KafkaEventLogWriter:
    """Appends by a thread of its own, which also connects, at the start and whenever it must anew.

    What is appended while it connects waits a few seconds; once no broker could be reached, appends fail at once. So
    they do beyond 32 MiB, and when Kafka has stored nothing for 2 s.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._names: dict[Topic, str] = {topic: topic_name(settings, topic) for topic in _TOPICS}
        self._outbox = Outbox(_MAX_BYTES, _PATIENCE_SECONDS)
        self._closing = threading.Event()
        self._is_broken = threading.Event()  # the producer failed to store something, and may never do so again
        self._thread = threading.Thread(target=self._run, name="event-log-writer", daemon=True)
        self._thread.start()

    def append(self, topic: Topic, value: bytes) -> Future[None]:
        return self._outbox.add(topic, value)

    def close(self) -> None:
        self._outbox.close(_CLOSED)
        self._closing.set()
        self._outbox.wait_until_settled(_CLOSE_SECONDS)
        self._outbox.shut(_CLOSED)
        self._thread.join(DISMISS_SECONDS)  # longer where it is just connecting: it ends by itself

    def _run(self) -> None:
        backoff_seconds = _FIRST_BACKOFF_SECONDS
        while not self._is_over():
            try:
                self._connect_and_serve()
                backoff_seconds = _FIRST_BACKOFF_SECONDS
            except Exception as error:  # noqa: BLE001 whatever is wrong, appends go on when it is put right
                is_known = isinstance(error, LogUnavailableError)
                _log.warning("event log: %s; again in %.1f s", error, backoff_seconds, exc_info=not is_known)
                self._outbox.shut(str(error))
            self._closing.wait(backoff_seconds)
            backoff_seconds = min(2 * backoff_seconds, _MAX_BACKOFF_SECONDS)

    def _is_over(self) -> bool:
        return self._closing.is_set() and self._outbox.wait_until_settled(0)

    def _connect_and_serve(self) -> None:
        """Returns when the producer is of no use any more, or of no need.

        Raises:
            LogUnavailableError: it could not connect.
        """
        limits = make_topics(self._settings)
        turns = _InTurn()
        producer = connect(KafkaProducer, self._settings, partitioner=turns, **_OPTIONS).client
        self._is_broken.clear()
        try:
            for name in self._names.values():
                _learn_partitions(producer, name)
            self._outbox.open({topic: min(limits[name], MAX_RECORD_BYTES) for topic, name in self._names.items()})
            _log.info("event log: connected to Kafka at %s", self._settings.kafka)
            self._serve(producer, turns)
        finally:
            dismiss(producer)
            self._outbox.fail_taken("the connection to Kafka was given up")

    def _serve(self, producer: Any, turns: "_InTurn") -> None:
        while not self._is_broken.is_set() and self._outbox.age_seconds() < _OVERDUE_SECONDS:
            for append in self._outbox.take(0 if self._closing.is_set() else _TICK_SECONDS):
                self._send(producer, turns, append)
            if self._closing.is_set() and self._outbox.wait_until_settled(_TICK_SECONDS):
                return

    def _send(self, producer: Any, turns: "_InTurn", append: Append) -> None:
        name = self._names[append.topic]
        turns.next(name)
        try:
            # The time counts only in a topic that keeps the producer's.
            sent = producer.send(name, append.value, timestamp_ms=int(1000 * self._clock()))
        except (KafkaError, ValueError) as error:
            self._failed(append, error)
        else:
            sent.add_callback(self._stored, append)
            sent.add_errback(self._failed, append)

    def _stored(self, append: Append, _: object) -> None:
        self._outbox.stored(append)

    def _failed(self, append: Append, error: Exception) -> None:
        """A producer that failed once may be of no use: kafka-python waits for a producer id for ever after the first
        batch that it sent in vain (`TransactionManager.reset_producer_id`), and other errors are final for it.
        """
        if not self._is_broken.is_set():
            _log.warning("event log: Kafka did not take a record, so we connect anew: %s", error)
        self._is_broken.set()
        if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
            self._outbox.failed(append, RecordTooLargeError(f"Kafka refused {len(append.value)} bytes: {error}"))
        else:
            self._outbox.failed(append, LogUnavailableError(f"Kafka did not say that it has it: {error}"))


class _InTurn(Partitioner):  # type: ignore[misc]  # no types
    """To the partitions in turn that have a leader now."""

    def __init__(self) -> None:
        self._turns: Counter[str] = Counter()

    def next(self, topic: str) -> None:
        """The producer may ask for a partition twice a record."""
        self._turns[topic] += 1

    def partition(self, topic: str, *_: object) -> int:
        cluster: Any = _[-1]
        numbers = sorted(cluster.available_partitions_for_topic(topic) or cluster.partitions_for_topic(topic) or ())
        if not numbers:
            raise ValueError(f"the topic {topic} has no partitions")
        return int(numbers[self._turns[topic] % len(numbers)])


def _learn_partitions(producer: Any, name: str) -> None:
    """So that no record waits for that."""
    try:
        producer.partitions_for(name)
    except KafkaError as error:
        raise LogUnavailableError(f"Kafka does not tell the partitions of {name}: {error}") from error
