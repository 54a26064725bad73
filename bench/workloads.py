"""What the benchmark writes into the event log, the same on every run of one seed."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from kafka import KafkaProducer  # type: ignore[import-untyped]  # it brings no types

from schemas.messages import Decision, FeedbackEvent, LoggedItem
from schemas.settings import Settings
from storage.event_log import Topic
from storage.kafka_client import topic_name
from storage.kafka_topics import MAX_RECORD_BYTES, make_topics

EVENTS_A_DECISION = 5
DECISIONS_A_RECORD = 20
SLATE_SIZE = 10
FIRST_AGE, LAST_AGE = timedelta(seconds=90), timedelta(seconds=60)
"""When the first decision was made, and the last, before the start: their windows of 10 s have closed when they are
read.
"""
_SPREAD = 500
"""How far the events of one decision lie apart, in decisions."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Feedback events in records of `events_a_record`, and their decisions in the log or in the store already."""

    name: str
    num_events: int
    events_a_record: int
    has_decisions: bool
    started_at: float
    """Seconds since the epoch."""

    @property
    def num_decisions(self) -> int:
        return self.num_events // EVENTS_A_DECISION

    @property
    def num_elements(self) -> int:
        """Of the records."""
        return self.num_events + (self.num_decisions if self.has_decisions else 0)

    @property
    def num_records(self) -> int:
        num_of_decisions = -(-self.num_decisions // DECISIONS_A_RECORD) if self.has_decisions else 0
        return -(-self.num_events // self.events_a_record) + num_of_decisions

    @property
    def topics(self) -> tuple[Topic, ...]:
        return ("decisions", "feedback") if self.has_decisions else ("feedback",)

    def decisions(self) -> Iterator[Decision]:
        """Slates with the features of their items, about 1.4 kB each in JSON."""
        chance = random.Random(self.name)
        for number in range(self.num_decisions):
            yield Decision(
                decision_id=f"decision-{number:08x}",
                decided_at=self._decided_at(number),
                mode="learned",
                loop_hash="bench",
                seed=chance.getrandbits(62),
                items=[_item(position, chance) for position in range(SLATE_SIZE)],
                context={"page": chance.randrange(100), "age": "25-34", "history": [_item_id(chance) for _ in "12345"]},
                user_id=f"user-{number % 10_000}",
                session_id=f"session-{number // 8}",
                policy_version="000042",
            )

    def events(self) -> Iterator[FeedbackEvent]:
        """Of one decision some hundred records apart, as of shoppers who come and go."""
        chance = random.Random(self.name + "s events")
        for number in range(self.num_events):
            decision = (number // EVENTS_A_DECISION + chance.randrange(-_SPREAD, _SPREAD)) % self.num_decisions
            yield FeedbackEvent(
                decision_id=f"decision-{decision:08x}",
                kind="click",
                event_id=f"0123456789abcdef01234567-{number:08x}",
                item_id=f"item-{chance.randrange(SLATE_SIZE)}",
                value=1.0,
                occurred_at=self._decided_at(decision) + timedelta(seconds=1),
            )

    def _decided_at(self, number: int) -> datetime:
        age = FIRST_AGE + (LAST_AGE - FIRST_AGE) * (number / self.num_decisions)
        return datetime.fromtimestamp(self.started_at, UTC) - age

    def values(self, topic: Topic) -> Iterator[bytes]:
        """Of the topic's records."""
        if topic == "decisions":
            yield from map(msgspec.json.encode, _batched(self.decisions(), DECISIONS_A_RECORD))
        elif self.events_a_record == 1:
            yield from map(msgspec.json.encode, self.events())
        else:
            yield from map(msgspec.json.encode, _batched(self.events(), self.events_a_record))


def fill(settings: Settings, workload: Workload) -> None:
    """Makes the topics and writes the workload into them, to the partitions in turn. Returns when all is durable."""
    make_topics(settings)
    producer: Any = KafkaProducer(
        bootstrap_servers=settings.kafka,
        linger_ms=20,
        batch_size=256 << 10,
        max_request_size=MAX_RECORD_BYTES,
        metrics_enabled=False,
    )
    sent = []
    for topic in workload.topics:
        for number, value in enumerate(workload.values(topic)):
            partition = number % settings.kafka_partitions
            sent.append(producer.send(topic_name(settings, topic), value, partition=partition))
    producer.flush()
    for future in sent:
        future.get()
    producer.close()


def _batched(elements: Iterator[Any], size: int) -> Iterator[Sequence[Any]]:
    while batch := list(itertools.islice(elements, size)):
        yield batch


def _item(position: int, chance: random.Random) -> LoggedItem:
    return LoggedItem(
        item_id=f"item-{position}",
        position=position,
        score=chance.random(),
        propensity=chance.random(),
        features={"price": round(100 * chance.random(), 2), "brand": chance.randrange(100)},
    )


def _item_id(chance: random.Random) -> str:
    return f"item-{chance.randrange(1_000)}"
