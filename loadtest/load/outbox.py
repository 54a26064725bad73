"""Events on their way to Kafka: shoppers put them in, producers take them out, packed into arrays."""

from collections import deque
from collections.abc import Sequence

import msgspec
from kafka import KafkaProducer  # type: ignore[import-untyped]  # it brings no types

from schemas.messages import FeedbackEvent
from schemas.settings import Settings
from storage.kafka_client import connect, dismiss, topic_name

MAX_PER_ARRAY = 100

_ACK_SECONDS = 30.0


class Outbox:
    """Of one process."""

    def __init__(self) -> None:
        self._waiting: deque[FeedbackEvent] = deque()
        self.num_producers = 0
        """Those at work: without one nothing is to be put in."""

    def put(self, events: Sequence[FeedbackEvent]) -> None:
        self._waiting.extend(events)

    def take(self) -> list[FeedbackEvent]:
        """Some; empty if nothing waits."""
        return [self._waiting.popleft() for _ in range(min(MAX_PER_ARRAY, len(self._waiting)))]


class PackingProducer:
    """One array a record, and each waited for. Its security is that of the settings, as for the processes.

    Raises:
        LogUnavailableError: no broker answers, or it does not let us in.
    """

    def __init__(self, servers: str) -> None:
        settings = Settings.from_environment(kafka=servers)
        self._topic = topic_name(settings, "feedback")
        self._connected = connect(KafkaProducer, settings, acks="all", max_block_ms=1000, delivery_timeout_ms=20_000)
        self._encode = msgspec.json.Encoder().encode

    def send(self, events: Sequence[FeedbackEvent]) -> int:
        """Returns the record's size in bytes once the broker has it; raises `KafkaError`."""
        value = self._encode(events)
        self._connected.client.send(self._topic, value).get(timeout=_ACK_SECONDS)
        return len(value)

    def close(self) -> None:
        dismiss(self._connected.client)
        self._connected.network.close()
