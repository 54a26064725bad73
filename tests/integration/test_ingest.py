"""Event log → store on real SQLite files: exactly once, final by the log's clock, corrected when late."""

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text

from schemas.loop_file import parse_loop
from schemas.messages import Candidate
from schemas.settings import Settings
from storage.catalogue import Catalogue
from storage.database import StoreUnavailableError, migrate, open_store
from storage.event_log import Topic
from storage.offsets import StaleOffsetsError
from storage.replay_store import IngestTransaction, ReplayStore
from storage.reward_tail import RewardTail
from storage.sql_log import SqlEventLogReader, SqlEventLogWriter
from trainer.ingest import consumer as consumer_module
from trainer.ingest.consumer import IngestConsumer
from trainer.ingest.run import run_ingest
from trainer.metrics import IngestMetrics
from trainer.replay.replay import Replay

START = 1_800_000_000.0
LOOP_TEXT = """
name = "shop"
[item]
id = { kind = "category", buckets = 16 }
[action]
kind = "slate"
size = 2
[reward]
click = 1.0
purchase = 5.0
wait = "10s"
closes = ["purchase"]
[session]
ends = ["leave"]
[learner]
agent = "dqn"
[exploration]
kind = "softmax"
"""
LOOP = parse_loop(LOOP_TEXT)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """A log to write to, a consumer, and the store to look at."""

    folder: Path
    clock: Clock
    writer: SqlEventLogWriter
    engine: Engine
    consumer: IngestConsumer
    metrics: IngestMetrics

    def append(self, topic: Topic, value: object) -> None:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.writer.append(topic, raw).result(timeout=60)

    def decide(self, *decision_ids: str, **changes: object) -> None:
        self.append("decisions", [decision(each, self.clock.now) | changes for each in decision_ids])

    def feed(self, kind: str, decision_id: str, event_id: str, item_id: str | None = "a", after: float = 1.0) -> None:
        event = {"event_id": event_id, "decision_id": decision_id, "kind": kind, "item_id": item_id}
        self.append("feedback", event | {"occurred_at": iso(START + after)})

    def rewards(self) -> dict[str, list[float | None]]:
        tail = RewardTail(self.engine).since(0, 1_000)
        return {each.decision_id: list(each.rewards) for each in tail}

    def count(self, table: str) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"steadyrank_ingest_{name}", labels)


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def decision(decision_id: str, decided_at: float) -> dict[str, object]:
    return {
        "decision_id": decision_id,
        "decided_at": iso(decided_at),
        "mode": "learned",
        "loop_hash": LOOP.hash,
        "seed": 1,
        "session_id": "s",
        "items": [{"item_id": i, "position": p, "score": 0.0, "propensity": 0.5} for p, i in enumerate("ab")],
    }


def new_consumer(folder: Path, engine: Engine, clock: Clock, metrics: IngestMetrics) -> IngestConsumer:
    reader = SqlEventLogReader(f"sqlite:///{folder / 'events.db'}", clock=clock)
    return IngestConsumer(reader, ReplayStore(engine), LOOP, clock, metrics)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(consumer_module, "POLL_SECONDS", 0.0)
    url = f"sqlite:///{tmp_path / 'steadyrank.db'}"
    migrate(url)
    clock, engine, metrics = Clock(), open_store(url, busy_seconds=0.1), IngestMetrics(CollectorRegistry())
    writer = SqlEventLogWriter(f"sqlite:///{tmp_path / 'events.db'}", clock)
    yield World(tmp_path, clock, writer, engine, new_consumer(tmp_path, engine, clock, metrics), metrics)
    writer.close()
    engine.dispose()


def test_a_reward_becomes_final_when_the_log_has_been_read_past_its_window(world: World) -> None:
    world.decide("d1")
    world.feed("click", "d1", "e1")
    assert world.consumer.step() == 2
    world.clock.now = START + 11.0  # read up to START + 10: the margin of the log; what is of that time may be unread
    world.consumer.step()
    assert world.rewards() == {}
    world.clock.now = START + 11.1
    assert world.consumer.step() == 0
    assert world.rewards() == {"d1": [1.0, 0.0]}
    assert world.sample("final_rewards_total") == 1


def test_a_consumer_that_lags_makes_no_false_zeros(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "MAX_RECORDS", 1)
    world.decide("d1")
    world.clock.now = START + 9
    world.feed("click", "d1", "e1", after=9)
    world.clock.now = START + 3_600
    world.consumer.step()
    assert world.rewards() == {}
    world.consumer.step()
    assert world.rewards() == {}
    world.consumer.step()
    assert world.rewards() == {"d1": [1.0, 0.0]}


def test_an_event_that_came_before_its_decision_joins_it(world: World) -> None:
    world.feed("purchase", "d1", "e1")
    world.consumer.step()
    world.decide("d1")
    world.consumer.step()
    assert world.rewards() == {"d1": [5.0, 0.0]}


def test_a_closing_event_makes_final_at_once_and_a_later_one_corrects(world: World) -> None:
    world.decide("d1", "d2")
    world.feed("purchase", "d1", "e1", after=1)
    world.consumer.step()
    assert world.rewards() == {"d1": [5.0, 0.0]}
    world.clock.now = START + 5
    world.feed("click", "d1", "e2", "b", after=5)
    world.feed("leave", "d1", "e3", None, after=5)
    world.consumer.step()
    (row,) = RewardTail(world.engine).since(0, 10)
    assert (row.rewards, row.terminated, row.final_at, row.corrected_at) == ((5.0, 1.0), True, START, START + 5)
    assert world.sample("corrections_total") == 1


def test_a_late_event_corrects_and_one_past_the_window_does_not(world: World) -> None:
    world.decide("d1")
    world.clock.now = START + 20
    world.consumer.step()
    world.consumer.step()
    assert world.rewards() == {"d1": [0.0, 0.0]}
    world.feed("click", "d1", "e1", "b", after=9)
    world.feed("click", "d1", "e2", "a", after=11)
    world.consumer.step()
    assert world.rewards() == {"d1": [0.0, 1.0]}


def test_repeats_change_nothing(world: World) -> None:
    for _ in range(2):
        world.decide("d1")
        world.feed("click", "d1", "e1")
        world.consumer.step()
    world.clock.now = START + 12
    world.consumer.step()
    assert (world.count("decisions"), world.count("feedback"), world.rewards()) == (1, 1, {"d1": [1.0, 0.0]})


def test_what_is_wrong_goes_to_the_dead_letters_with_its_bytes(world: World) -> None:
    world.append("feedback", b'[{"decision_id":"d1","kind":"click"},{"kind":"\xff"}]')
    world.append("decisions", b"\x00\x01")
    world.consumer.step()
    with world.engine.connect() as connection:
        rows = connection.execute(text('SELECT topic, "index", reason, value FROM dead_letters ORDER BY topic')).all()
    assert rows == [("decisions", 0, "not_json", b"\x00\x01"), ("feedback", 1, "not_json", b'{"kind":"\xff"}')]
    assert world.count("feedback") == 1
    assert world.sample("dead_letters_total", reason="not_json") == 2


def test_a_backlog_is_made_final_in_several_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "MAX_FINALS", 3)
    world.decide(*(f"d{i}" for i in range(7)))
    world.clock.now = START + 60
    found = set()
    for _ in range(4):
        world.consumer.step()
        found.add(len(world.rewards()))
    assert found - {0} == {3, 6, 7}
    revisions = [each.revision for each in RewardTail(world.engine).since(0, 10)]
    assert sorted(revisions.count(r) for r in set(revisions)) == [1, 3, 3]


def lock(world: World) -> sqlite3.Connection:
    connection = sqlite3.connect(world.folder / "steadyrank.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_a_locked_store_loses_and_doubles_nothing(world: World) -> None:
    world.decide("d1")
    world.consumer.step()
    world.decide("d2")
    world.feed("click", "d1", "e1")
    holder = lock(world)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            world.consumer.step()
    holder.close()
    assert world.consumer.step() == 2
    assert (world.count("decisions"), world.count("feedback")) == (2, 1)


def test_a_step_that_breaks_off_leaves_no_trace(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.decide("d1")
    world.feed("purchase", "d1", "e1")
    with monkeypatch.context() as patched:
        patched.setattr(IngestTransaction, "write_rewards", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            world.consumer.step()
    assert (world.count("decisions"), world.count("feedback"), world.count("log_offsets")) == (0, 0, 0)
    assert world.sample("records_total") == 0
    assert world.consumer.step() == 2
    assert world.rewards() == {"d1": [5.0, 0.0]}


def test_a_second_consumer_takes_over_and_the_first_finds_out(world: World) -> None:
    world.decide("d1")
    world.consumer.step()
    other = new_consumer(world.folder, world.engine, world.clock, world.metrics)
    world.decide("d2")
    assert other.step() == 1
    world.decide("d3")
    with pytest.raises(StaleOffsetsError):
        world.consumer.step()
    assert world.consumer.step() == 1
    assert world.count("decisions") == 3


def test_whatever_is_stored_can_be_read_again(world: World) -> None:
    odd = {"huge": 10**400, "null": "\u0000", "list": [None, "\u2028", -0.0], "": 1e308}
    world.decide("d1", context=odd, user_id="\U0001f642", candidates=["a", {"item_id": "b", "features": odd}])
    world.feed("purchase", "d1", "e1")
    world.consumer.step()
    (row,) = RewardTail(world.engine).since(0, 10)
    assert (row.context, row.user_id) == (odd, "\U0001f642")
    assert row.candidates == ["a", Candidate("b", odd)]


def test_the_replay_buffer_admits_what_ingest_makes_final(world: World) -> None:
    catalogue = Catalogue(world.engine, world.clock)
    catalogue.upsert([("a", {}), ("b", {}), ("c", {})])
    replay = Replay(LOOP, RewardTail(world.engine), catalogue, 1_000, np.random.default_rng(0))
    world.decide("d1")
    world.clock.now = START + 1
    world.decide("d2")
    world.feed("purchase", "d2", "e1", "b", after=2)
    world.consumer.step()
    assert (replay.advance(), replay.num_waiting) == (0, 1)  # an earlier decision is still open
    world.clock.now = START + 60
    world.consumer.step()
    assert replay.advance() == 2
    batch = replay.sample(2)
    assert batch is not None
    assert (batch.reward.tolist(), batch.next_mask.sum(dim=1).tolist()) == ([0.0, 0.0], [3, 3])
    assert replay.first_trained().decision_ids == ["d1"]
    world.feed("click", "d1", "e2", "a", after=5)
    world.consumer.step()
    assert replay.advance() == 0
    assert sorted(replay.batch_of(np.array([0, 1])).reward.tolist()) == [0.0, 0.0, 1.0, 5.0]
    assert replay.revision == 3


def test_the_log_forgets_what_is_stored_and_old(world: World) -> None:
    world.decide("d1")
    world.consumer.step()
    world.clock.now = START + 3_700
    world.decide("d2")
    world.consumer.step()
    world.clock.now += 3_700
    world.decide("d3")
    with sqlite3.connect(world.folder / "events.db") as log:
        before_step = log.execute("SELECT count(*) FROM log_records").fetchone()[0]
        world.consumer.step()
        assert (before_step, log.execute("SELECT count(*) FROM log_records").fetchone()[0]) == (2, 1)
    log.close()
    assert world.count("decisions") == 3


def test_the_loop_of_steps_outlives_failures(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.decide("d1")
    holder, stop = lock(world), threading.Event()
    thread = threading.Thread(target=world.consumer.run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: (world.sample("failed_steps_total", error="StoreUnavailableError") or 0) > 0)
        holder.close()
        wait_until(lambda: world.count("decisions") == 1)
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
    assert "step failed" in caplog.text
    assert "Traceback" not in caplog.text


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass within 60 s"
        time.sleep(0.01)


def test_run_ingest_makes_its_own_store(tmp_path: Path) -> None:
    settings, stop = Settings(data=tmp_path / "data"), threading.Event()
    thread = threading.Thread(target=run_ingest, args=(settings, LOOP, stop))
    thread.start()
    try:
        wait_until(lambda: settings.data.joinpath("steadyrank.db").exists())
        engine = open_store(settings.store_url)
        wait_until(lambda: bool(ReplayStore(engine).next_offsets()) if has_store(engine) else False)
        engine.dispose()
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


INGEST = """
import sys, threading
from pathlib import Path
from schemas.loop_file import parse_loop
from schemas.settings import Settings
from trainer.ingest.run import run_ingest
run_ingest(Settings(data=Path(sys.argv[1])), parse_loop(sys.argv[2]), threading.Event())
"""


@pytest.mark.slow
def test_killed_again_and_again_it_stores_everything_once(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    migrate(settings.store_url)
    engine = open_store(settings.store_url)
    writer = SqlEventLogWriter(settings.log_url, time.time)
    num_batches = 0
    for life in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", INGEST, str(tmp_path), LOOP_TEXT], cwd=Path(__file__).parents[2]
        )
        num_final = count_final(engine)
        try:
            while count_final(engine) < num_final + 150 * (life < 4):  # it is killed while it is at work
                append_purchases(writer, num_batches)
                num_batches += 1
            if life == 4:
                wait_until_final(engine, 50 * num_batches)
        finally:
            process.kill()
            process.wait()
    with engine.connect() as connection:
        counts = [connection.execute(text(f"SELECT count(*) FROM {t}")).scalar_one() for t in ("decisions", "feedback")]
        totals = connection.execute(text("SELECT sum(decisions), sum(reward_sum) FROM reward_totals")).one()
    writer.close()
    engine.dispose()
    assert counts == [50 * num_batches, 50 * num_batches]
    assert tuple(totals) == (50 * num_batches, 5.0 * 50 * num_batches)


def append_purchases(writer: SqlEventLogWriter, batch: int) -> None:
    ids = [f"d{batch}-{i}" for i in range(50)]
    events = [{"event_id": f"e-{each}", "decision_id": each, "kind": "purchase", "item_id": "a"} for each in ids]
    writer.append("feedback", json.dumps(events).encode())
    decided = [decision(each, time.time()) for each in ids]
    writer.append("decisions", json.dumps(decided).encode()).result(timeout=60)


def wait_until_final(engine: Engine, num: int) -> None:
    wait_until(lambda: count_final(engine) == num)


def count_final(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM rewards WHERE final_at IS NOT NULL")).scalar_one())


def has_store(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(connection.execute(text("SELECT 1 FROM sqlite_master WHERE name = 'log_offsets'")).all())


def test_ingest_does_not_import_torch() -> None:
    code = "import sys, trainer.ingest.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
