"""Engines, transactions and migrations on SQLite."""

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, func, insert, inspect, select

import migrations
from schemas.tables import STORE, revisions
from storage import migration
from storage.database import (
    SchemaTooNewError,
    StoreUnavailableError,
    migrate,
    next_revision,
    open_store,
    reading,
    schema_revision,
    writing,
)

ROOT = Path(__file__).parents[3]


def hold(engine: Engine, lock: str) -> sqlite3.Connection:
    """Another process, as it were, that holds a lock until it is closed."""
    assert engine.url.database is not None
    connection = sqlite3.connect(engine.url.database, isolation_level=None)
    connection.execute(lock)
    return connection


def num_revisions(engine: Engine) -> int:
    with reading(engine) as connection:
        return connection.execute(select(func.count()).select_from(revisions)).scalar_one()


def test_the_migrations_make_the_tables_that_the_code_declares(engine: Engine) -> None:
    with reading(engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection), STORE) == []
        assert schema_revision(connection) == migrations.HEAD
        assert inspect(connection).get_view_names() == ["decision_rewards"]


def test_the_newest_step_is_the_one_that_the_code_asks_for() -> None:
    assert max(migration.steps()) == migrations.HEAD


def test_going_back_to_base_leaves_nothing(engine: Engine) -> None:
    with writing(engine) as connection:
        migration.downgrade(connection, "base")
    with reading(engine) as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
        assert inspect(connection).get_view_names() == []
        assert schema_revision(connection) is None


def test_migrating_again_keeps_what_is_there(engine: Engine, store_url: str) -> None:
    with writing(engine) as connection:
        next_revision(connection, "x")
    migrate(store_url)
    assert num_revisions(engine) == 1


def test_a_migrated_store_starts_without_alembic(engine: Engine, store_url: str) -> None:
    code = (
        f"import sys; from storage.database import migrate; migrate({store_url!r}); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_many_processes_may_migrate_a_new_store_at_once(store_url: str) -> None:
    code = f"from storage.database import migrate; migrate({store_url!r}, busy_seconds=60)"
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]


def test_a_store_of_a_newer_release_is_refused(engine: Engine, store_url: str) -> None:
    with writing(engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNewError, match=f"schema 9999, and this release knows none above {migrations.HEAD}"):
        migrate(store_url)


def test_a_migration_that_fails_leaves_nothing(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = migration.upgrade

    def fail(connection: object) -> None:
        steps(connection)  # type: ignore[arg-type]  # it is a Connection
        raise ZeroDivisionError

    monkeypatch.setattr(migration, "upgrade", fail)
    with pytest.raises(ZeroDivisionError):
        migrate(store_url)
    engine = open_store(store_url)
    with reading(engine) as connection:
        assert inspect(connection).get_table_names() == []
    engine.dispose()


def test_a_locked_store_says_which_it_is_and_what_to_do(hasty_engine: Engine) -> None:
    engine = hasty_engine
    holder = hold(engine, "BEGIN IMMEDIATE")
    with (
        pytest.raises(StoreUnavailableError, match=r"steadyrank\.db is locked by another process.*Close what holds it"),
        writing(engine),
    ):
        pass
    assert num_revisions(engine) == 0  # readers are not in the way of writers, nor writers of readers
    holder.close()
    with writing(engine) as connection:
        next_revision(connection, "x")
    assert num_revisions(engine) == 1


def test_a_write_transaction_cannot_fail_for_the_lock_once_it_has_begun(engine: Engine, hasty_engine: Engine) -> None:
    def write() -> None:
        with writing(hasty_engine):
            pass

    with writing(engine) as connection:
        with pytest.raises(StoreUnavailableError):
            write()
        next_revision(connection, "x")
    write()
    assert num_revisions(engine) == 1


def test_a_full_disk_undoes_the_whole_transaction(engine: Engine) -> None:
    def fill() -> None:
        with writing(engine) as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
            next_revision(connection, "x")
            connection.execute(insert(revisions), [{"name": f"{n:064}", "value": n} for n in range(10_000)])

    with pytest.raises(StoreUnavailableError, match=r"steadyrank\.db cannot be used: database or disk is full"):
        fill()
    assert num_revisions(engine) == 0


def test_what_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("buy milk " * 1_000)
    with pytest.raises(StoreUnavailableError, match=r"notes\.db cannot be used: file is not a database"):
        migrate(f"sqlite:///{tmp_path}/notes.db")


def test_a_reading_is_of_one_snapshot(engine: Engine) -> None:
    with reading(engine) as connection:
        count = select(func.count()).select_from(revisions)
        assert connection.execute(count).scalar() == 0
        with writing(engine) as other:
            next_revision(other, "x")
        assert connection.execute(count).scalar() == 0
    assert num_revisions(engine) == 1


def test_revisions_are_distinct_and_in_the_order_of_commits(engine: Engine, store_url: str) -> None:
    taken: list[int] = []
    patient = open_store(store_url, busy_seconds=60)

    def take() -> None:
        for _ in range(25):
            with writing(patient) as connection:
                taken.append(next_revision(connection, "x"))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    patient.dispose()
    assert taken == list(range(1, 101))


def test_open_rewards_and_feedback_are_found_by_an_index(engine: Engine) -> None:
    queries = {
        "SELECT * FROM rewards WHERE final_at IS NULL AND decided_at <= 5 ORDER BY decided_at LIMIT 9": "rewards_open",
        "SELECT min(decided_at) FROM rewards WHERE final_at IS NULL": "rewards_open",
        "SELECT revision FROM rewards WHERE revision > 5 ORDER BY revision LIMIT 1 OFFSET 9": "rewards_revision",
        "SELECT * FROM feedback WHERE decision_id IN ('a', 'b')": "feedback_decision_id",
        "SELECT * FROM policies ORDER BY created_at DESC LIMIT 9": "policies_created_at",
    }
    with reading(engine) as connection:
        for query, index in queries.items():
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").all()
            assert index in plan[0].detail, f"{query}: {plan}"
