"""What the topics hold, against what is stored and what is among the dead letters."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args
from zlib import crc32

from kafka import KafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # it brings no types
from sqlalchemy import Engine

from loadtest.chaos.stored import stored_decisions, stored_events
from loadtest.garbage.kinds import SLATE, UNNAMED, event
from loadtest.garbage.plan import Plan
from schemas.settings import Settings
from storage.database import open_store
from storage.event_log import Partition, Topic
from storage.kafka_client import topic_name
from storage.kafka_dead_letters import KafkaDeadLetters
from storage.kafka_topics import MAX_RECORD_BYTES
from trainer.ingest.parse import origin_id

Origin = tuple[Topic, int, int, int]
"""Topic, partition, offset, index."""


@dataclass(slots=True)
class Expected:
    """What the topics hold must come to."""

    events: dict[str, int] = field(default_factory=dict)
    """By their ids, the number of the record that says what they are."""
    decisions: set[str] = field(default_factory=set)
    letters: dict[Origin, int] = field(default_factory=dict)
    """By where they come from, the check sum of their bytes."""
    kinds: dict[Origin, str] = field(default_factory=dict)
    num_bytes: int = 0


@dataclass(slots=True)
class Findings:
    """Every list should be empty."""

    num_records: int
    num_bytes: int
    num_events: int
    num_decisions: int
    num_letters: int
    ingest_seconds: float
    lost: list[str] = field(default_factory=list)
    """Ids of good elements that are not stored."""
    repeated: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """Stored as something else, or never written."""
    unaccounted: list[Origin] = field(default_factory=list)
    """Bad elements that are not among the dead letters."""
    wrong_letters: list[Origin] = field(default_factory=list)
    """Of good elements, or with other bytes."""
    troubles: list[str] = field(default_factory=list)
    """Of the consumer: failed steps, its end."""
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Dead letters by kind of garbage and reason."""

    @property
    def is_good(self) -> bool:
        return not any((self.lost, self.repeated, self.changed, self.unaccounted, self.wrong_letters, self.troubles))


def expected_of(settings: Settings) -> Expected:
    """By the headers of all the records that the topics have."""
    expected = Expected()
    names: dict[str, Topic] = {topic_name(settings, topic): topic for topic in get_args(Topic)}
    consumer: Any = KafkaConsumer(
        bootstrap_servers=settings.kafka,
        enable_auto_commit=False,
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
        metrics_enabled=False,
    )
    partitions = [TopicPartition(name, n) for name in names for n in range(settings.kafka_partitions)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    num_left = sum(consumer.end_offsets(partitions).values())
    while num_left:
        for batch in consumer.poll(timeout_ms=1_000, max_records=5_000).values():
            num_left -= len(batch)
            for record in batch:
                _expect(expected, names[record.topic], record)
    consumer.close()
    return expected


def _expect(expected: Expected, topic: Topic, record: Any) -> None:
    headers = {name: value.decode() for name, value in record.headers}
    partition = Partition(topic, record.partition)
    expected.num_bytes += len(record.value or b"")
    for index, name in _pairs(headers["good"]):
        if topic == "decisions":
            expected.decisions.add(name)
        elif name == UNNAMED:
            expected.events[origin_id(partition, record.offset, index)] = int(headers["number"])
        else:
            expected.events[name] = int(headers["number"])
    for index, check_sum in _pairs(headers["bad"]):
        origin = topic, record.partition, record.offset, index
        expected.letters[origin] = int(check_sum)
        expected.kinds[origin] = headers["kind"]


def _pairs(text: str) -> Iterator[tuple[int, str]]:
    for pair in filter(None, text.split(",")):
        index, _, what = pair.partition(":")
        yield int(index), what


def audit(plan: Plan, expected: Expected, ingest_seconds: float, troubles: Sequence[str]) -> Findings:
    findings = Findings(
        plan.num_records,
        expected.num_bytes,
        len(expected.events),
        len(expected.decisions),
        len(expected.letters),
        ingest_seconds,
        troubles=list(troubles),
    )
    engine = open_store(plan.settings.store_url)
    try:
        _audit_events(findings, expected, engine)
        _audit_decisions(findings, expected, engine)
    finally:
        engine.dispose()
    _audit_letters(findings, expected, plan.settings)
    return findings


def _audit_events(findings: Findings, expected: Expected, engine: Engine) -> None:
    seen: set[str] = set()
    for row in stored_events(engine):
        number = expected.events.get(row.event_id)
        if row.event_id in seen:
            findings.repeated.append(row.event_id)
        elif number is None or event(number) != {
            "decision_id": row.decision_id,
            "item_id": row.item_id,
            "kind": row.kind,
            "value": row.value,
        }:
            findings.changed.append(row.event_id)
        seen.add(row.event_id)
    findings.lost += sorted(expected.events.keys() - seen)


def _audit_decisions(findings: Findings, expected: Expected, engine: Engine) -> None:
    stored = Counter(row.decision_id for row in stored_decisions(engine) if row.item_ids == SLATE)
    findings.repeated += [decision_id for decision_id, num in stored.items() if num > 1]
    findings.changed += sorted(stored.keys() - expected.decisions)
    findings.lost += sorted(expected.decisions - stored.keys())


def _audit_letters(findings: Findings, expected: Expected, settings: Settings) -> None:
    letters = KafkaDeadLetters(settings)
    missing = set(expected.letters)
    for letter in letters.read():
        origin = letter.partition.topic, letter.partition.number, letter.offset, letter.index
        missing.discard(origin)
        if expected.letters.get(origin) != crc32(letter.value):
            findings.wrong_letters.append(origin)
        findings.reasons[expected.kinds.get(origin, "?"), letter.reason] += 1
    letters.close()
    findings.unaccounted += sorted(missing)
