"""The steps of the schema, on both databases, with data in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

import migrations
from schemas.tables import POSTGRESQL, STORE
from storage import migration
from storage.database import migrate, open_store, reading, schema_revision, writing
from storage.day_partitions import existing
from storage.replay_store import ReplayStore
from storage.reward_tail import RewardTail
from storage.story import decision_story

DAY_SECONDS = 86_400.0
NUM_DAYS = 3

DECISION = (
    "INSERT INTO decisions (decision_id, decided_at, received_at, mode, loop_hash, seed, context_json, items_json, "
    "exploration_json) VALUES (:id, :at, :at, 'learned', 'h', 1, '{}', :items, '{}')"
)
ITEMS = '[{"item_id": "a", "position": 0, "score": 0.5, "propensity": 1.0}]'
EVENT = "INSERT INTO feedback VALUES (:id, :decision_id, 'a', 'click', 1.0, :at, :at)"
REWARD = (
    "INSERT INTO rewards (decision_id, decided_at, rewards_json, terminated, final_at, revision) "
    "VALUES (:id, :at, '[1.0]', :terminated, :at, 1)"
)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return request.getfixturevalue("postgresql_url")  # type: ignore[no-any-return]  # a fixture is anything


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_store(url)
    yield engine
    engine.dispose()


def go_to(engine: Engine, revision: str) -> None:
    with writing(engine) as connection:
        if schema_revision(connection) in {None, "0001"} and revision != "base":
            migration.upgrade(connection, revision)
        else:
            migration.downgrade(connection, revision)


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    with reading(engine) as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def fill(engine: Engine) -> None:
    """As a store of release 0001 has it: a decision a day, each with an event and a final reward, and offsets."""
    with writing(engine) as connection:
        for day in range(NUM_DAYS):
            at = (20_000 + day) * DAY_SECONDS + 5
            connection.execute(text(DECISION), {"id": f"d{day}", "at": at, "items": ITEMS})
            connection.execute(text(EVENT), {"id": f"e{day}", "decision_id": f"d{day}", "at": at + 1})
            connection.execute(text(REWARD), {"id": f"d{day}", "at": at, "terminated": False})
        connection.execute(text("INSERT INTO log_offsets VALUES ('feedback', 0, 17, 50.5)"))


def check_kept(engine: Engine) -> None:
    assert rows(engine, "SELECT decision_id FROM decisions ORDER BY 1") == [("d0",), ("d1",), ("d2",)]
    assert rows(engine, "SELECT event_id, decision_id FROM feedback ORDER BY 1")[2] == ("e2", "d2")
    assert rows(engine, "SELECT topic, next_offset, read_up_to FROM log_offsets") == [("feedback", 17, 50.5)]
    assert rows(engine, "SELECT decision_id, item_id, reward FROM decision_rewards ORDER BY 1")[0] == ("d0", "a", 1.0)


def test_the_steps_make_the_tables_that_the_code_declares(url: str, engine: Engine) -> None:
    migrate(url)
    with reading(engine) as connection:
        found = compare_metadata(MigrationContext.configure(connection), STORE)
        tables = {change[1].name for change in found if change[0] == "remove_table"}
        assert len(tables) == len(found), found
        assert tables == (set() if url.startswith("sqlite") else {*POSTGRESQL.tables, "log_records"})
        assert schema_revision(connection) == migrations.HEAD
        assert inspect(connection).get_view_names() == ["decision_rewards"]


def test_data_of_the_release_before_is_taken_over_and_given_back(url: str, engine: Engine) -> None:
    go_to(engine, "0001")
    fill(engine)
    migrate(url)
    check_kept(engine)
    story = decision_story(engine, "d1")
    assert story is not None
    assert [event.event_id for event in story.events] == ["e1"]
    assert [d.decision_id for d in RewardTail(engine).since(0, 10)] == ["d0", "d1", "d2"]
    assert list(ReplayStore(engine).next_offsets().values()) == [17]
    go_to(engine, "0001")
    check_kept(engine)
    migrate(url)
    check_kept(engine)


def test_an_id_of_the_release_before_stays_unique(url: str, engine: Engine) -> None:
    go_to(engine, "0001")
    fill(engine)
    migrate(url)
    store = ReplayStore(engine)
    story = decision_story(engine, "d1")
    assert story is not None
    with store.transaction() as transaction:
        transaction.add_decisions([(story.decision, story.received_at + DAY_SECONDS)])
        transaction.add_feedback([story.events[0]._replace(received_at=story.received_at + DAY_SECONDS)])
    check_kept(engine)


def test_going_back_to_base_leaves_nothing(url: str, engine: Engine) -> None:
    migrate(url)
    go_to(engine, "base")
    with reading(engine) as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
        assert inspect(connection).get_view_names() == []


def test_on_postgresql_each_day_has_its_partition(postgresql_url: str) -> None:
    engine = open_store(postgresql_url)
    go_to(engine, "0001")
    fill(engine)
    migrate(postgresql_url)
    with reading(engine) as connection:
        names = [partition.name for partition in existing(connection, "decisions")]
    assert names == ["decisions_20241004", "decisions_20241005", "decisions_20241006"]
    engine.dispose()
