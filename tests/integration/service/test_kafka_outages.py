"""A ranker on Kafka, whose broker freezes and dies: what was acknowledged reaches Kafka."""

import time
from itertools import count
from typing import TYPE_CHECKING

import httpx
import msgspec
import pytest

from schemas.loop_file import Loop
from schemas.messages import FeedbackEvent
from schemas.settings import Settings
from storage.event_logs import open_reader
from tests.integration.service.conftest import LocalRanker

if TYPE_CHECKING:
    from loadtest.parts.kafka import LocalKafka


def in_kafka(settings: Settings) -> list[str]:
    """The ids of all events there, in the order of reading."""
    reader = open_reader(settings, time.time)
    records = []
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not reader.is_placed():
            reader.seek({})
        poll = reader.poll(10_000, 0.2)
        records += poll.records
        if reader.assignment() and reader.is_placed() and not poll.records:
            break
    reader.close()
    values = [record.value for record in records if record.partition.topic == "feedback"]
    return [event.event_id or "" for value in values for event in msgspec.json.decode(value, type=list[FeedbackEvent])]


@pytest.mark.slow
def test_no_event_is_lost_while_the_broker_is_frozen_or_dead(
    settings: Settings, loop: Loop, own_kafka: "LocalKafka"
) -> None:
    on_kafka = settings.model_copy(update={"kafka": own_kafka.servers, "log_patience_seconds": 1.0})
    ranker = LocalRanker(on_kafka, loop)
    numbers, sent = count(), list[str]()

    def send() -> httpx.Response:
        sent.append(f"e{next(numbers)}")
        answer = ranker.post("/feedback", {"decision_id": "d", "kind": "click", "event_id": sent[-1]})
        assert answer.status_code == 202
        return answer

    def goes_to(place: str) -> bool:
        return bool(send().json()["spooled"]) == (place == "spool")

    ranker.wait_for(lambda: goes_to("log"), seconds=30)
    own_kafka.pause()
    assert goes_to("spool")
    started = time.monotonic()
    assert all(goes_to("spool") for _ in range(20))
    assert time.monotonic() - started < on_kafka.log_patience_seconds
    own_kafka.resume()
    ranker.wait_for(lambda: goes_to("log"), seconds=30)
    own_kafka.kill()
    assert all(goes_to("spool") for _ in range(20))
    own_kafka.start()
    ranker.wait_for(lambda: goes_to("log"), seconds=30)
    ranker.wait_for(lambda: ranker.parts.registry.get_sample_value("steadyrank_spool_bytes") == 0, seconds=30)
    ranker.close()
    assert set(in_kafka(on_kafka)) == set(sent)
