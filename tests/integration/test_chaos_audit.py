"""The kill test's audit on a real store: what it reads is what is there, and what is planted in the tables it finds."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text

from loadtest.chaos.audit import EventFindings, RewardFindings, as_stored, audit_events, audit_rewards
from loadtest.chaos.ledger import Acknowledged
from loadtest.chaos.run import LOOP
from loadtest.chaos.stored import stored_decisions, stored_events, stored_totals
from schemas.loop_file import read_loop
from schemas.messages import Decision, LoggedItem
from storage.database import migrate, open_store, writing
from storage.replay_store import ReplayStore, RewardRow

DAY_SECONDS = 86_400.0
NOW = 20_000 * DAY_SECONDS
CHAOS = read_loop(LOOP)
PROMISED = {
    event.event_id: event
    for event in (
        Acknowledged("e1", "d1", "a", "view", 1.0, NOW + 0.5, "http"),
        Acknowledged("e2", "d1", "a", "click", 2.0, NOW + 1.0, "producer"),
        Acknowledged("e3", "d1", None, "leave", 1.0, NOW + 1.0, "spooled"),
        Acknowledged("e4", "nobody", "b", "view", 1.0, NOW + 1.0, "producer"),
    )
}


@pytest.fixture
def engine(postgresql_url: str) -> Iterator[Engine]:
    """Of a store as ingest leaves it: one decision that is final, with its events, and one that is open."""
    migrate(postgresql_url)
    engine = open_store(postgresql_url)
    with ReplayStore(engine, "kafka").transaction() as transaction:
        transaction.add_decisions([(decision("d1", NOW), NOW + 1), (decision("d2", NOW + 9), NOW + 10)])
        transaction.add_feedback([as_stored(event)._replace(received_at=NOW + 2) for event in PROMISED.values()])
        transaction.write_rewards([RewardRow("d1", (2.0, None), True, NOW + 5, None)])
    yield engine
    engine.dispose()


def decision(decision_id: str, at: float) -> Decision:
    items = [LoggedItem("a", 0, 0.5, 0.4), LoggedItem("b", 1, 0.25, 0.6)]
    return Decision(decision_id, datetime.fromtimestamp(at, UTC), "learned", CHAOS.hash, 1, items)


def execute(engine: Engine, *statements: str) -> None:
    with writing(engine) as connection:
        for statement in statements:
            connection.execute(text(statement))


def events(engine: Engine) -> EventFindings:
    return audit_events(PROMISED, stored_events(engine), set)


def rewards(engine: Engine, watermark: float = -math.inf) -> RewardFindings:
    happened = map(as_stored, PROMISED.values())
    return audit_rewards(stored_decisions(engine), happened, stored_totals(engine), CHAOS, watermark)


def test_what_ingest_wrote_is_what_was_promised(engine: Engine) -> None:
    assert events(engine) == EventFindings(num_stored=4)
    assert rewards(engine) == RewardFindings(num_decisions=2, num_final=1)
    assert rewards(engine, watermark=NOW + 100).open == ["d2"]


def test_a_row_that_is_taken_away_is_lost(engine: Engine) -> None:
    execute(engine, "DELETE FROM feedback WHERE event_id = 'e2'")
    assert events(engine).lost == ["e2"]


def test_a_row_that_is_there_twice_is_found(engine: Engine) -> None:
    """A partitioned table takes an id twice, on two days."""
    execute(
        engine,
        f"CREATE TABLE other_day PARTITION OF feedback FOR VALUES FROM ({NOW - DAY_SECONDS}) TO ({NOW})",
        "INSERT INTO feedback SELECT event_id, decision_id, item_id, kind, value, occurred_at, "
        f"received_at - {DAY_SECONDS} FROM feedback WHERE event_id = 'e2'",
    )
    assert events(engine).duplicated == ["e2"]


def test_a_row_that_is_altered_is_found(engine: Engine) -> None:
    execute(engine, "UPDATE feedback SET value = 1 WHERE event_id = 'e2'")
    assert events(engine).changed == ["e2"]


def test_a_reward_that_is_altered_is_wrong_and_so_are_the_sums(engine: Engine) -> None:
    execute(engine, "UPDATE rewards SET rewards_json = '[1.0,null]' WHERE decision_id = 'd1'")
    found = rewards(engine)
    assert (found.wrong, found.are_totals_right) == (["d1"], False)


def test_a_decision_without_a_row_of_rewards_is_open(engine: Engine) -> None:
    execute(engine, "DELETE FROM rewards WHERE decision_id = 'd1'", "DELETE FROM reward_totals")
    assert sorted(rewards(engine, watermark=NOW + 100).open) == ["d1", "d2"]
