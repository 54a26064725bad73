"""A fresh store for every run: each is a copy of one that was prepared once a workload."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import Engine, text

from bench.workloads import Workload
from loadtest.parts.postgresql import SUPERUSER, LocalPostgres
from storage import day_partitions
from storage.database import migrate, open_store, writing
from storage.replay_store import ReplayStore

_DECISIONS_A_TRANSACTION = 5_000


def prepare(url: str, workload: Workload) -> None:
    """The schema, and the decisions that the workload says are stored already."""
    migrate(url)
    engine = open_store(url)
    try:
        if engine.dialect.name == "postgresql":
            days = (time.time(), time.time() + day_partitions.DAY_SECONDS)  # it may be late in the evening
            with writing(engine) as connection:
                for table in day_partitions.PARTITIONED:
                    day_partitions.make(connection, day_partitions.needed(table, days))
        if not workload.has_decisions:
            _store_decisions(ReplayStore(engine, "kafka"), workload)
        analyze(engine)
    finally:
        engine.dispose()


def analyze(engine: Engine) -> None:
    """As the server itself would have done in a while."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))


def _store_decisions(store: ReplayStore, workload: Workload) -> None:
    received = [(decision, workload.started_at) for decision in workload.decisions()]
    for start in range(0, len(received), _DECISIONS_A_TRANSACTION):
        with store.transaction() as transaction:
            transaction.add_decisions(received[start : start + _DECISIONS_A_TRANSACTION])


class SqliteStores:
    """Files in a folder."""

    name = "SQLite"
    pid: int | None = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self, workload: Workload) -> None:
        prepare(self._url(workload.name), workload)

    @contextmanager
    def copy(self, workload: Workload) -> Iterator[str]:
        """The URL of a store as it was prepared, which is gone at the end."""
        shutil.copyfile(self._folder / f"{workload.name}.db", self._folder / "copy.db")
        yield self._url("copy")
        for path in self._folder.glob("copy.db*"):
            path.unlink()

    def _url(self, name: str) -> str:
        return f"sqlite:///{self._folder / name}.db"


class PostgresStores:
    """Databases of a server."""

    name = "PostgreSQL"

    def __init__(self, server: LocalPostgres) -> None:
        self._server = server
        self.pid: int | None = server.pid

    def prepare(self, workload: Workload) -> None:
        prepare(self._server.create_database(workload.name), workload)

    @contextmanager
    def copy(self, workload: Workload) -> Iterator[str]:
        """The URL of a store as it was prepared, which is gone at the end."""
        self._copy(workload.name)
        yield self._server.url("copy")
        self._server.drop_database("copy")

    def _copy(self, name: str) -> None:
        where = f"host=127.0.0.1 port={self._server.port} user={SUPERUSER} dbname=postgres"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE copy TEMPLATE {}").format(sql.Identifier(name)))
            connection.execute("CHECKPOINT")  # the copying's, not the run's
