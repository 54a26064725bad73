"""Several `steadyrank ingest` share the partitions: one is frozen past its session, one is killed, one joins. Whatever
happens, every event is stored once, and no reward is made final without what was in the log in time.
"""

import itertools
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil  # type: ignore[import-untyped]  # it brings no types
import pytest
from sqlalchemy import Engine, func, make_url, select, text

from loadtest.chaos.audit import audit_rewards
from loadtest.chaos.stored import stored_decisions, stored_events, stored_totals
from loadtest.ingest import Ingest
from loadtest.parts.process import wait_until
from schemas.loop_file import parse_loop
from schemas.messages import Decision, FeedbackEvent, LoggedItem
from schemas.settings import Settings
from schemas.tables import rewards
from storage.database import migrate, open_store, reading, writing
from storage.event_log import EventLogWriter
from storage.event_logs import open_writer
from storage.kafka_topics import make_topics
from storage.offsets import watermark
from storage.open_decisions import StoredEvent
from storage.story import num_feedback

if TYPE_CHECKING:
    from concurrent.futures import Future

LOOP_TEXT = """
name = "group"
[item]
id = { kind = "category", buckets = 16 }
[action]
kind = "slate"
size = 2
[reward]
click = 1.0
wait = "1s"
[learner]
agent = "dqn"
[exploration]
kind = "softmax"
"""
LOOP = parse_loop(LOOP_TEXT)
WAIT = timedelta(seconds=LOOP.reward.wait_seconds)
NUM_PARTITIONS = 3
WATCH_OFFSETS = """
CREATE TABLE went_back (place text);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO went_back VALUES (OLD.topic || '/' || OLD.partition || ' from ' || OLD.next_offset);
    RETURN NEW;
END $$;
CREATE TRIGGER watch BEFORE UPDATE ON log_offsets FOR EACH ROW
    WHEN (NEW.next_offset < OLD.next_offset OR NEW.read_up_to < OLD.read_up_to) EXECUTE FUNCTION watch();
"""
SHORT_SECONDS = 3.0
"""Less than a session lasts: the others have not noticed yet."""
PATIENCE_SECONDS = 60.0

pytestmark = pytest.mark.slow


class Load:
    """Decisions and their events without a pause: some twice, some before their decision, some too late."""

    def __init__(self, settings: Settings) -> None:
        self.events: dict[str, FeedbackEvent] = {}
        self.decided: dict[str, datetime] = {}
        self.may_be_corrected: set[str] = set()
        """Decisions of which an event may have come after their window had ended."""
        self._settings = settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._sent: list[Future[None]] = []
        self._late: list[tuple[datetime, FeedbackEvent]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """At the end all of it is in the log."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
        for future in self._sent:
            future.result(30)

    def _run(self) -> None:
        writer = open_writer(self._settings, time.time)
        for number in itertools.count():
            if self._stop.wait(0.02):
                break
            self._send_one(writer, number, datetime.now(UTC))
        self._send(writer, [event for _, event in self._late])
        writer.close()

    def _send_one(self, writer: EventLogWriter, number: int, now: datetime) -> None:
        ids = [f"d{number}.{k}" for k in range(3)]
        self.decided |= dict.fromkeys(ids, now)
        events = [_event(each, f"{each}/{k}", now + k * WAIT / 10) for each in ids for k in range(3)]
        if number % 2:
            self._send(writer, events)
        value = msgspec.json.encode([_decision(each, now) for each in ids])
        self._sent.append(writer.append("decisions", value))
        if not number % 2:
            self._send(writer, events)
        if number % 5 == 0:
            self._send(writer, events[:4])  # a retry
        if number % 7 == 0:
            self._late.append((now + 3 * WAIT, _event(ids[0], f"{ids[0]}/late", now + WAIT / 2)))
        self._send(writer, [event for at, event in self._late if at <= now])
        self._late = [(at, event) for at, event in self._late if at > now]

    def _send(self, writer: EventLogWriter, events: list[FeedbackEvent]) -> None:
        if not events:
            return
        self.events |= {str(event.event_id): event for event in events}
        sent = writer.append("feedback", msgspec.json.encode(events))
        sent.add_done_callback(lambda _: self._note_late(events))
        self._sent.append(sent)

    def _note_late(self, events: list[FeedbackEvent]) -> None:
        """What the log has by now it got in time, if it is time yet."""
        ended = datetime.now(UTC) - WAIT
        self.may_be_corrected |= {e.decision_id for e in events if self.decided[e.decision_id] <= ended}


def _decision(decision_id: str, decided_at: datetime) -> Decision:
    items = [LoggedItem(item_id=f"i{k}", position=k, score=0.0, propensity=0.5) for k in range(2)]
    return Decision(decision_id, decided_at, mode="learned", loop_hash="group", seed=1, items=items)


def _event(decision_id: str, event_id: str, occurred_at: datetime) -> FeedbackEvent:
    return FeedbackEvent(decision_id, "click", event_id, item_id="i1", value=1.0, occurred_at=occurred_at)


def as_stored(event: FeedbackEvent) -> StoredEvent:
    assert event.occurred_at is not None
    values = event.event_id, event.decision_id, event.item_id, event.kind, event.value, event.occurred_at.timestamp()
    return StoredEvent._make((*values, math.nan))


class Group:
    """The consumers of one group, its log and its store."""

    def __init__(self, settings: Settings, engine: Engine, folder: Path) -> None:
        self.load = Load(settings)
        self._settings = settings
        self._engine = engine
        self._folder = folder

    def consumer(self, name: str) -> Ingest:
        """Its connection to PostgreSQL is known by its name."""
        url = make_url(self._settings.database_url).update_query_dict({"application_name": name})
        settings = self._settings.model_copy(update={"database_url": url.render_as_string(hide_password=False)})
        return Ingest(settings, self._folder, name)

    def wait_until_each_reads(self, *consumers: Ingest) -> None:
        """From now on, something."""
        before = [each.num_read() for each in consumers]
        wait_for(lambda: all(each.num_read() > num for each, num in zip(consumers, before, strict=True)))

    def freeze(self, consumer: Ingest, name: str, *, in_transaction: bool) -> float:
        """With a batch in hand, as likely as may be, or surely so in the middle of its transaction; returns when."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        process = psutil.Process(consumer.process.pid)
        while time.monotonic() < deadline:
            if self._is_in_transaction(name) == in_transaction and process.status() == psutil.STATUS_RUNNING:
                consumer.process.pause()
                if self._stays(name, in_transaction):
                    return time.time()
                consumer.process.resume()
        raise TimeoutError(f"{name} was never found so")

    def _stays(self, name: str, in_transaction: bool) -> bool:
        """Whatever the server had still to do for it."""
        time.sleep(0.05)
        return self._is_in_transaction(name) == in_transaction

    def _is_in_transaction(self, name: str) -> bool:
        of_it = "SELECT count(*) FROM pg_stat_activity WHERE application_name = :name AND xact_start IS NOT NULL"
        with reading(self._engine) as connection:
            return bool(connection.execute(text(of_it), {"name": name}).scalar_one())

    def watermark(self) -> float:
        with reading(self._engine) as connection:
            return watermark(connection, "kafka", "feedback")

    def wait_until_done(self) -> None:
        """All stored, all rewards final."""
        wait_for(lambda: num_feedback(self._engine) >= len(self.load.events))
        wait_for(lambda: self._num_final() >= len(self.load.decided))

    def _num_final(self) -> int:
        with reading(self._engine) as connection:
            return connection.execute(select(func.count(rewards.c.final_at))).scalar_one()

    def audit(self) -> None:
        """Row by row against what was sent."""
        stored = [event[:-1] for event in stored_events(self._engine)]
        sent = [as_stored(event) for event in self.load.events.values()]
        assert sorted(stored) == sorted(event[:-1] for event in sent)
        decisions, totals = stored_decisions(self._engine), stored_totals(self._engine)
        found = audit_rewards(decisions, sent, totals, LOOP, math.inf)
        assert (found.num_final, found.wrong, found.open, found.repeated) == (len(self.load.decided), [], [], [])
        assert found.are_totals_right
        with reading(self._engine) as connection:
            corrected = select(rewards.c.decision_id).where(rewards.c.corrected_at.is_not(None))
            assert {*connection.execute(corrected).scalars()} <= self.load.may_be_corrected
            assert connection.execute(text("SELECT place FROM went_back")).all() == []
        now = time.time()
        wait_for(lambda: self.watermark() > now)  # as every partition is read, and has an end


@pytest.fixture
def group(kafka_servers: str, postgresql_url: str, tmp_path: Path) -> Iterator[Group]:
    name = uuid.uuid4().hex
    (tmp_path / "loop.toml").write_text(LOOP_TEXT)
    settings = Settings(
        data=tmp_path / "data",
        loop=tmp_path / "loop.toml",
        kafka=kafka_servers,
        kafka_topic_prefix=f"{name}-",
        kafka_group=name,
        kafka_partitions=NUM_PARTITIONS,
        database_url=postgresql_url,
    )
    migrate(settings.store_url)
    make_topics(settings)
    engine = open_store(settings.store_url)
    with writing(engine) as connection:
        connection.execute(text(WATCH_OFFSETS))
    yield Group(settings, engine, tmp_path)
    engine.dispose()


def wait_for(happened: Callable[[], object]) -> None:
    assert wait_until(happened, PATIENCE_SECONDS, 0.1), "it did not happen"


@pytest.mark.parametrize("in_transaction", [True, False])
def test_who_was_frozen_past_its_session_writes_nothing_when_it_wakes(group: Group, in_transaction: bool) -> None:
    with group.consumer("a") as a, group.consumer("b") as b:
        with group.load.running():
            group.wait_until_each_reads(a, b)
            frozen_at = group.freeze(a, "a", in_transaction=in_transaction)
            while time.time() < frozen_at + SHORT_SECONDS:
                assert group.watermark() <= frozen_at, "nobody has read what the frozen one was to read"
                time.sleep(0.1)
            wait_for(lambda: group.watermark() > frozen_at + SHORT_SECONDS)  # the other one has its partitions
            a.process.resume()
            group.wait_until_each_reads(a, b)
        group.wait_until_done()
        group.audit()


def test_a_kill_in_the_middle_of_a_batch_and_a_newcomer(group: Group) -> None:
    with group.consumer("a") as a, group.consumer("b") as b:
        with group.load.running():
            group.wait_until_each_reads(a, b)
            group.freeze(b, "b", in_transaction=True)
            b.process.kill()
            with group.consumer("c") as c:
                group.wait_until_each_reads(a, c)
            group.wait_until_each_reads(a)
        group.wait_until_done()
        group.audit()
