"""Dead letters of the Kafka event log: a topic of their own, with the original bytes as the value (DESIGN §6)."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, cast

from kafka import KafkaConsumer, KafkaProducer, TopicPartition  # type: ignore[import-untyped]  # it brings no types
from kafka.errors import KafkaError  # type: ignore[import-untyped]  # the same

from schemas.settings import Settings
from storage.event_log import DeadLetter, LogUnavailableError, Partition, Topic
from storage.kafka_client import connect, dismiss, topic_name
from storage.kafka_topics import DEAD_LETTERS, MAX_DEAD_LETTER_BYTES, make_topics

_ACKNOWLEDGED_SECONDS = 30.0
_SILENCE_SECONDS = 5.0
_CHUNK = 5_000  # letters that the producer holds at once
_MAX_DETAIL_LENGTH = 1_000  # the rest of the record is for the value
_OPTIONS = {
    "acks": "all",
    "linger_ms": 5,
    "batch_size": 256 << 10,
    "max_block_ms": 1_000,
    "delivery_timeout_ms": int(1_000 * _ACKNOWLEDGED_SECONDS),
    "max_request_size": MAX_DEAD_LETTER_BYTES,
    "metrics_enabled": False,
}


class KafkaDeadLetters:
    """Connects when first used. Blocks; not safe for several threads.

    A consumer that dies after it put letters and before it went past their records puts them again: they are known by
    where they came from.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = topic_name(settings, DEAD_LETTERS)
        self._producer: Any = None

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Returns once all are durable.

        Raises:
            LogUnavailableError: some may not be; putting them again is harmless.
        """
        if not letters:
            return
        try:
            producer = self._connected()
            for start in range(0, len(letters), _CHUNK):
                chunk = letters[start : start + _CHUNK]
                sent = [producer.send(self._topic, letter.value, headers=_headers(letter)) for letter in chunk]
                for future in sent:
                    future.get(timeout=_ACKNOWLEDGED_SECONDS)
        except KafkaError as error:
            self.close()  # one that failed may never be of use again
            raise LogUnavailableError(f"{len(letters)} dead letters are not in Kafka: {error}") from error

    def read(self) -> Iterator[DeadLetter]:
        """All that the topic still has, each once, oldest first.

        Raises:
            LogUnavailableError: no broker answers.
        """
        make_topics(self._settings)
        consumer = connect(KafkaConsumer, self._settings, metrics_enabled=False).client
        seen: set[tuple[Partition, int, int]] = set()
        try:
            for letter in map(_letter, _records(consumer, self._topic)):
                origin = letter.partition, letter.offset, letter.index
                if origin not in seen:
                    seen.add(origin)
                    yield letter
        except KafkaError as error:
            raise LogUnavailableError(f"the dead letters in Kafka cannot be read: {error}") from error
        finally:
            consumer.close(autocommit=False)

    def forget(self, letters: Collection[DeadLetter]) -> None:
        """The topic keeps them until its own retention; replaying one again is harmless, as it keeps its id."""

    def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            dismiss(producer)

    def _connected(self) -> Any:
        if self._producer is None:
            make_topics(self._settings)
            self._producer = connect(KafkaProducer, self._settings, **_OPTIONS).client
        return self._producer


def _records(consumer: Any, topic: str) -> Iterator[Any]:
    partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    while any(consumer.position(each) < ends[each] for each in partitions):
        batches = consumer.poll(timeout_ms=1_000 * _SILENCE_SECONDS)
        if not batches:
            raise LogUnavailableError(f"Kafka gave none of the dead letters left within {_SILENCE_SECONDS:g} s")
        for batch in batches.values():
            yield from batch


def _headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    texts = {
        "reason": letter.reason,
        "detail": letter.detail[:_MAX_DETAIL_LENGTH],
        "topic": letter.partition.topic,
        "partition": letter.partition.number,
        "offset": letter.offset,
        "index": letter.index,
        "appended_at": letter.received_at,
    }
    return [(name, str(text).encode()) for name, text in texts.items()]


def _letter(record: Any) -> DeadLetter:
    texts = {name: value.decode() for name, value in record.headers}
    return DeadLetter(
        partition=Partition(cast("Topic", texts["topic"]), int(texts["partition"])),
        offset=int(texts["offset"]),
        index=int(texts["index"]),
        reason=texts["reason"],
        detail=texts["detail"],
        value=record.value or b"",
        received_at=float(texts["appended_at"]),
    )
