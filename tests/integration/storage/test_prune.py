"""Retention, on both databases: whole days go, nothing that is still needed does."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from schemas.messages import Decision, LoggedItem
from storage.database import migrate, open_store, reading
from storage.day_partitions import existing
from storage.event_log import DeadLetter, Partition
from storage.open_decisions import StoredEvent
from storage.prune import prune
from storage.replay_store import ReplayStore, RewardRow
from storage.reward_tail import RewardTail
from storage.story import decision_story, num_decisions, reward_totals

DAY_SECONDS = 86_400.0
FIRST = 20_000 * DAY_SECONDS
NUM_DAYS = 5


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 's.db'}" if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    migrate(url)
    engine = open_store(url)
    fill(engine)
    yield engine
    engine.dispose()


def fill(engine: Engine, num: int = 3) -> None:
    """`num` decisions a day at its noon, each with an event, a final reward and a training."""
    store = ReplayStore(engine)
    for day in range(NUM_DAYS):
        at = FIRST + (day + 0.5) * DAY_SECONDS
        ids = [f"d{day}-{n}" for n in range(num)]
        with store.transaction() as transaction:
            transaction.add_decisions([(decision(id_, at), at) for id_ in ids])
            transaction.add_feedback([StoredEvent(f"e{id_}", id_, "a", "click", 1.0, at, at + 1) for id_ in ids])
            transaction.add_dead_letters([DeadLetter(Partition("feedback", 0), day, 0, "r", "d", b"x", at)])
            transaction.write_rewards([RewardRow(id_, (1.0,), False, at + 10, None) for id_ in ids])
        RewardTail(engine).write_trainings([(id_, "000001", [1.0], [1.0]) for id_ in ids])


def decision(decision_id: str, at: float) -> Decision:
    return Decision(decision_id, datetime.fromtimestamp(at, UTC), "learned", "h", 1, [LoggedItem("a", 0, 0.5, 1.0)])


def count(engine: Engine, table: str) -> int:
    with reading(engine) as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_days_before_go_with_all_that_came_of_them(engine: Engine) -> None:
    pruned = prune(engine, FIRST + 2.7 * DAY_SECONDS)
    assert (pruned.before, pruned.num_decisions, pruned.num_feedback) == (FIRST + 2 * DAY_SECONDS, 6, 3)
    assert decision_story(engine, "d1-0") is None
    story = decision_story(engine, "d2-0")
    assert story is not None
    assert story.training is not None
    assert len(story.events) == 1
    for table in ("decisions", "rewards", "trainings", "decision_rewards"):
        assert count(engine, table) == 9, table
    assert count(engine, "feedback") == 12  # a day longer: events may come before their decision
    assert count(engine, "dead_letters") == 3
    assert len(reward_totals(engine, 0)) == 3
    assert len(RewardTail(engine).since(0, 100)) == 9


def test_pruning_again_does_nothing_and_pruning_on_goes_on(engine: Engine) -> None:
    prune(engine, FIRST + 2 * DAY_SECONDS)
    assert prune(engine, FIRST + 2 * DAY_SECONDS).num_decisions == 0
    assert prune(engine, FIRST + 3 * DAY_SECONDS).num_decisions == 3
    assert prune(engine, FIRST - DAY_SECONDS).num_decisions == 0


def test_what_is_not_final_stays_and_all_after_it(engine: Engine) -> None:
    at = FIRST + 1.1 * DAY_SECONDS
    with ReplayStore(engine).transaction() as transaction:
        transaction.add_decisions([(decision("open", at), at)])
    assert prune(engine, FIRST + 4 * DAY_SECONDS).before == FIRST + DAY_SECONDS
    assert num_decisions(engine) == 13


def test_more_than_one_chunk_goes(engine: Engine) -> None:
    at = FIRST + 0.6 * DAY_SECONDS
    ids = [f"more-{n}" for n in range(2_500)]
    with ReplayStore(engine).transaction() as transaction:
        transaction.add_decisions([(decision(id_, at), at) for id_ in ids])
        transaction.add_feedback([StoredEvent(f"e{id_}", id_, "a", "click", 1.0, at, at) for id_ in ids])
        transaction.write_rewards([RewardRow(id_, (1.0,), False, at + 10, None) for id_ in ids])
    pruned = prune(engine, FIRST + 2 * DAY_SECONDS)
    assert (pruned.num_decisions, pruned.num_feedback) == (2_506, 2_503)


def test_an_id_that_went_may_come_again(engine: Engine) -> None:
    prune(engine, FIRST + 3 * DAY_SECONDS)
    at = FIRST + 0.5 * DAY_SECONDS
    with ReplayStore(engine).transaction() as transaction:
        transaction.add_decisions([(decision("d0-0", at), at)])
        transaction.add_feedback([StoredEvent("ed0-0", "d0-0", "a", "click", 1.0, at, at + 1)])
    assert decision_story(engine, "d0-0") is not None


def test_on_postgresql_the_partitions_of_old_days_are_dropped(postgresql_url: str) -> None:
    migrate(postgresql_url)
    engine = open_store(postgresql_url)
    fill(engine)
    prune(engine, FIRST + 3 * DAY_SECONDS)
    with reading(engine) as connection:
        assert [each.day for each in existing(connection, "decisions")] == [20_003, 20_004]
        assert [each.day for each in existing(connection, "feedback")] == [20_002, 20_003, 20_004]
        assert connection.execute(text("SELECT count(*) FROM feedback_ids")).scalar() == 9
    engine.dispose()
