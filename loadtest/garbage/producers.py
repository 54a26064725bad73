"""Writes the records of a plan, by several processes."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from zlib import crc32

from kafka import KafkaProducer  # type: ignore[import-untyped]  # it brings no types

from loadtest.garbage.kinds import Sample, sample
from loadtest.garbage.plan import Plan
from storage.kafka_client import topic_name
from storage.kafka_topics import MAX_RECORD_BYTES

_AT_ONCE = 20_000
"""Records that one producer has on their way."""


def produce_all(plan: Plan) -> None:
    with ProcessPoolExecutor(plan.num_producers, multiprocessing.get_context("spawn")) as producers:
        for done in [producers.submit(_produce, plan, first) for first in range(plan.num_producers)]:
            done.result()


def _produce(plan: Plan, first: int) -> None:
    """Every `num_producers`th record. A record's headers say what must become of it."""
    producer: Any = KafkaProducer(
        bootstrap_servers=plan.settings.kafka,
        linger_ms=20,
        batch_size=256 << 10,
        max_request_size=MAX_RECORD_BYTES,
        metrics_enabled=False,
    )
    sent = []
    for number in range(first, plan.num_records, plan.num_producers):
        made = sample(plan.seed, number)
        key = b"%d" % number if number % 2 or made.value is None else None
        name = topic_name(plan.settings, made.topic)
        sent.append(producer.send(name, made.value, key=key, headers=_headers(made, number)))
        if len(sent) == _AT_ONCE or made.kind.startswith("5 MB"):
            _settle(producer, sent)
    _settle(producer, sent)
    producer.close()


def _headers(made: Sample, number: int) -> list[tuple[str, bytes]]:
    texts = {
        "number": number,
        "kind": made.kind,
        "good": ",".join(f"{index}:{name}" for index, name in made.good),
        "bad": ",".join(f"{index}:{crc32(value)}" for index, value in made.bad),
    }
    return [(name, str(text).encode()) for name, text in texts.items()]


def _settle(producer: Any, sent: list[Any]) -> None:
    producer.flush()
    for future in sent:
        future.get()
    sent.clear()
