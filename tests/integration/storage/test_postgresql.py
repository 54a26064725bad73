"""What PostgreSQL does in its own way: partitions, limits, and two that write at once."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text

from schemas.messages import Decision, LoggedItem
from storage import database
from storage.database import StoreUnavailableError, migrate, open_store, reading, writing
from storage.day_partitions import existing
from storage.open_decisions import StoredEvent
from storage.replay_store import ReplayStore, RewardRow
from storage.sql_log import SqlEventLogReader, SqlEventLogWriter

DAY_SECONDS = 86_400.0
TODAY = 20_000 * DAY_SECONDS


@pytest.fixture
def engine(postgresql_url: str) -> Iterator[Engine]:
    migrate(postgresql_url)
    engine = open_store(postgresql_url, busy_seconds=5.0)
    yield engine
    engine.dispose()


def decision(decision_id: str, at: float) -> Decision:
    items = [LoggedItem("a", 0, 0.5, 1.0)]
    return Decision(decision_id, datetime.fromtimestamp(at, UTC), "learned", "h", 1, items)


def click(event_id: str, decision_id: str, at: float) -> StoredEvent:
    return StoredEvent(event_id, decision_id, "a", "click", 1.0, at, at)


def add(store: ReplayStore, decision_id: str, at: float) -> None:
    with store.transaction() as transaction:
        transaction.add_decisions([(decision(decision_id, at), at)])
        transaction.add_feedback([click(f"{decision_id}-e", decision_id, at + 1)])


def plan(engine: Engine, query: str) -> str:
    with reading(engine) as connection:
        return "\n".join(connection.execute(text(f"EXPLAIN {query}")).scalars())


def test_partitions_are_made_as_their_days_come_by_all_who_write_at_once(engine: Engine) -> None:
    stores = [ReplayStore(engine) for _ in range(4)]

    def write(number: int) -> None:
        for day in range(3):
            add(stores[number], f"{number}-{day}", TODAY + day * DAY_SECONDS)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(engine) as connection:
        for table in ("decisions", "feedback"):
            assert [each.day for each in existing(connection, table)] == [20_000, 20_001, 20_002]
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 12


def test_a_partition_that_was_dropped_is_made_again(engine: Engine) -> None:
    store = ReplayStore(engine)
    add(store, "d", TODAY)
    with writing(engine) as connection:
        connection.execute(text("DROP TABLE feedback_20241004"))
    with pytest.raises(Exception, match="no partition"):
        add(store, "again", TODAY)
    add(store, "again", TODAY)
    with reading(engine) as connection:
        assert connection.execute(text("SELECT event_id FROM feedback")).scalars().all() == ["again-e"]


def test_events_and_decisions_are_looked_for_in_their_days_only_and_by_index(engine: Engine) -> None:
    store = ReplayStore(engine)
    for day in range(4):
        with store.transaction() as transaction:
            at = TODAY + day * DAY_SECONDS
            transaction.add_decisions([(decision(f"{day}-{n}", at), at) for n in range(2_000)])
            transaction.add_feedback([click(f"{day}-{n}", f"{day}-{n}", at) for n in range(2_000)])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    by_ids = plan(
        engine, f"SELECT * FROM feedback WHERE decision_id IN ('3-1', '3-2') AND received_at >= {TODAY + 259_000}"
    )
    assert "feedback_20241007_decision_id" in by_ids
    assert "20241004" not in by_ids
    joined = plan(
        engine,
        "SELECT * FROM rewards r JOIN decisions d ON d.decision_id = r.decision_id AND d.received_at = r.received_at "
        "WHERE r.decision_id IN ('3-1', '3-2')",
    )
    assert "Seq Scan" not in joined
    assert "decisions_20241007_pkey" in joined
    for query, index in {
        "SELECT * FROM rewards WHERE final_at IS NULL AND decided_at <= 5 ORDER BY decided_at LIMIT 9": "rewards_open",
        "SELECT min(decided_at) FROM rewards WHERE final_at IS NULL": "rewards_open",
        "SELECT revision FROM rewards WHERE revision > 5 ORDER BY revision LIMIT 1 OFFSET 9": "rewards_revision",
        "SELECT decided_at FROM rewards ORDER BY decided_at DESC OFFSET 9 LIMIT 1": "rewards_decided_at",
    }.items():
        assert index in plan(engine, query), query


def test_of_two_that_meet_at_one_reward_the_later_sees_what_the_earlier_wrote(engine: Engine) -> None:
    """One makes a reward final while another stores a late event of it: whoever comes second has both."""
    store = ReplayStore(engine)
    with store.transaction() as transaction:
        transaction.add_decisions([(decision("d", TODAY), TODAY)])
    seen: list[float | None] = []

    def late() -> None:
        with store.transaction() as transaction:
            transaction.add_feedback([click("e", "d", TODAY + 1)])
            transaction.lock_rewards()
            seen.extend(each.final_at for each in transaction.touched(["d"]))

    with store.transaction() as transaction:
        transaction.lock_rewards()
        (due,) = transaction.due(TODAY + 100, 10)
        assert due.events == ()
        thread = threading.Thread(target=late)
        thread.start()
        time.sleep(0.2)  # until it waits for the lock, or has gone past it wrongly
        assert seen == []
        transaction.write_rewards([RewardRow("d", (0.0,), False, TODAY + 50, None)])
    thread.join()
    assert seen == [TODAY + 50]


def test_whoever_freezes_within_a_transaction_holds_up_the_others_for_a_while_only(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "IDLE_IN_TRANSACTION_SECONDS", 0.3)
    migrate(postgresql_url)
    engine = open_store(postgresql_url, busy_seconds=5.0)
    store = ReplayStore(engine)

    def freeze() -> None:
        with store.transaction() as transaction:
            transaction.lock_rewards()
            with store.transaction() as other:
                other.lock_rewards()
            transaction.make_known([])

    with pytest.raises(StoreUnavailableError):
        freeze()
    engine.dispose()


def test_a_lock_that_another_holds_is_waited_for_and_then_given_up(postgresql_url: str) -> None:
    migrate(postgresql_url)
    engine = open_store(postgresql_url, busy_seconds=0.2)
    store = ReplayStore(engine)

    def wait() -> None:
        with store.transaction() as other:
            other.lock_rewards()

    with store.transaction() as transaction:
        transaction.lock_rewards()
        with pytest.raises(StoreUnavailableError, match="lock timeout"):
            wait()
    engine.dispose()


def test_the_driver_is_chosen_for_whoever_names_none(postgresql_url: str) -> None:
    engine = open_store(postgresql_url.replace("postgresql+psycopg", "postgresql"))
    with reading(engine) as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "30s"
        assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar() == "10s"
    engine.dispose()


def test_a_database_that_is_not_there_is_told_by_name_and_without_the_password() -> None:
    with pytest.raises(
        StoreUnavailableError, match=r"postgresql\+psycopg://me:\*\*\*@127\.0\.0\.1:1/none cannot be used"
    ) as caught:
        migrate("postgresql://me:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)


def test_the_event_log_keeps_order_and_times_there_too(postgresql_url: str) -> None:
    times = iter([1_000.0, 400.0, 1_001.5])
    writer = SqlEventLogWriter(postgresql_url, lambda: next(times))
    for value in (b"a", b"b", b"c"):
        writer.append("feedback", value).result(60)
    writer.close()
    reader = SqlEventLogReader(postgresql_url, clock=time.time)
    records = reader.poll(10, 0).records
    reader.close()
    assert [(record.value, record.appended_at) for record in records] == [(b"a", 1_000), (b"b", 1_000), (b"c", 1_001.5)]
    assert sorted({record.offset for record in records}) == [record.offset for record in records]
