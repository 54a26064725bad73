"""`steadyrank dead-letters` on both logs: bad records are kept, looked at, replayed, and stop ingest past the limit."""

import io
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from schemas.loop_file import Loop, parse_loop
from schemas.settings import Settings
from storage.database import migrate, open_store
from storage.event_logs import open_writer
from storage.story import num_feedback
from trainer.ingest.dead_letters import run_list, run_replay, run_resume
from trainer.ingest.run import run_ingest

LOOP_TEXT = """
name = "shop"
[item]
id = {{ kind = "category", buckets = 16 }}
[action]
kind = "slate"
size = 2
[reward]
{kinds}
wait = "1s"
[learner]
agent = "dqn"
[exploration]
kind = "softmax"
"""
LOOP = parse_loop(LOOP_TEXT.format(kinds="click = 1.0"))
LATER_LOOP = parse_loop(LOOP_TEXT.format(kinds="click = 1.0\nnod = 2.0"))

MakeSettings = Callable[..., Settings]


@pytest.fixture(params=["sql", "kafka"])
def make_settings(request: pytest.FixtureRequest, tmp_path: Path) -> MakeSettings:
    """Of one log, whatever else they say."""
    given: dict[str, object] = {"data": tmp_path}
    if request.param == "kafka":
        name = uuid.uuid4().hex
        servers = request.getfixturevalue("kafka_servers")
        given |= {"kafka": servers, "kafka_topic_prefix": f"{name}-", "kafka_group": name, "kafka_partitions": 2}
    return lambda **more: Settings.model_validate(given | more)


class Consumer:
    """`steadyrank ingest` in a thread."""

    def __init__(self, settings: Settings, loop: Loop) -> None:
        self.registry = CollectorRegistry()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=run_ingest, args=(settings, loop, self._stop, self.registry))
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def sample(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"steadyrank_ingest_{name}", labels) or 0.0


@contextmanager
def ingesting(settings: Settings, loop: Loop = LOOP) -> Iterator[Consumer]:
    consumer = Consumer(settings, loop)
    try:
        yield consumer
    finally:
        consumer.close()


def wait_for(happened: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def append(settings: Settings, *values: object) -> None:
    writer = open_writer(settings, time.time)
    try:
        for value in values:
            raw = value if isinstance(value, bytes) else json.dumps(value).encode()
            writer.append("feedback", raw).result(60)
    finally:
        writer.close()


def stored(settings: Settings) -> int:
    migrate(settings.store_url)  # ingest may not have come to it yet
    engine = open_store(settings.store_url)
    try:
        return num_feedback(engine)
    finally:
        engine.dispose()


def listed(settings: Settings) -> str:
    out = io.StringIO()
    run_list(settings, out)
    return out.getvalue()


def event(event_id: str | None, kind: str = "click") -> dict[str, object]:
    named: dict[str, object] = {} if event_id is None else {"event_id": event_id}
    return named | {"decision_id": "d", "kind": kind, "item_id": "a"}


def test_bad_records_are_listed_with_their_reason_and_their_bytes(make_settings: MakeSettings) -> None:
    settings = make_settings()
    append(settings, b"\xff\x00 no text", [event("e1"), event("e2", "nod"), {"kind": 3}], event("e3"))
    with ingesting(settings) as consumer:
        wait_for(lambda: consumer.sample("records_total") == 3)
    text = listed(settings)
    assert "3 (" in text.splitlines()[-1]
    for part in ("not_json", "unknown_kind", "wrong_shape", r"b'\xff\x00 no text'", "[1]", "nod"):
        assert part in text
    assert stored(settings) == 2


def test_what_a_changed_loop_file_makes_good_is_replayed_once(make_settings: MakeSettings) -> None:
    settings = make_settings()
    append(settings, event(None, "nod"), event("named", "nod"), b"[")
    with ingesting(settings) as consumer:
        wait_for(lambda: consumer.sample("records_total") == 3)
    out = io.StringIO()
    run_replay(settings, LATER_LOOP, out)
    assert out.getvalue() == "2 replayed; still bad: 1 (not_json 1)\n"
    run_replay(settings, LATER_LOOP, out)  # as if the first had been killed before it was done
    append(settings, event("last"))
    with ingesting(settings, LATER_LOOP):
        wait_for(lambda: stored(settings) == 3)
    assert "not_json" in listed(settings)


def test_past_the_limit_ingest_pauses_and_goes_on_when_told(make_settings: MakeSettings) -> None:
    settings = make_settings(dead_letter_window=20, dead_letter_max_run=5)
    append(settings, *[b"bad"] * 30)
    with ingesting(settings) as consumer:
        wait_for(lambda: consumer.sample("paused") == 1)
        append(settings, event("after"))
        time.sleep(0.5)  # it would have been read by now
        assert stored(settings) == 0
    with ingesting(settings) as consumer:  # a restart is no way out
        wait_for(lambda: consumer.sample("paused") == 1)
        out = io.StringIO()
        run_resume(settings, out)
        wait_for(lambda: stored(settings) == 1)
        wait_for(lambda: consumer.sample("paused") == 0)
        run_resume(settings, out)
    assert out.getvalue() == "ingest goes on\ningest was not paused\n"


def test_with_the_limit_off_it_goes_on_whatever_comes(make_settings: MakeSettings) -> None:
    settings = make_settings(dead_letter_limit="off", dead_letter_window=20, dead_letter_max_run=5)
    append(settings, *[b"bad"] * 60, event("after"))
    with ingesting(settings) as consumer:
        wait_for(lambda: stored(settings) == 1)
        wait_for(lambda: consumer.sample("dead_letters_total", reason="not_json") >= 60)  # counted once it is stored
        assert consumer.sample("dead_letters_total", reason="not_json") == 60
