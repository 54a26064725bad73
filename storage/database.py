"""Engines, transactions, and what every database does in its own way.

Errors: `StoreUnavailableError` from anything that touches a database; `SchemaTooNewError` from `migrate`.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    PoolProxiedConnection,
    Table,
    create_engine,
    event,
    func,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from migrations import HEAD
from schemas.tables import revisions
from storage.sqlite_connections import PAGE_BYTES, WRITES, begin, configure, has_lock, make_folder

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

BUSY_SECONDS = 5.0
STATEMENT_SECONDS = 30.0
IDLE_IN_TRANSACTION_SECONDS = 10.0
"""PostgreSQL: what one statement, and a pause within a transaction, may take at most."""
_NETWORK = {  # of a machine that is gone nobody says so: after some 10 s it counts as away
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_APPLICATION_LOCK = 0x57EAD  # any number that no other application of the same PostgreSQL database takes


class StoreUnavailableError(Exception):
    """The database cannot be used now; what was to be written is not in it."""


class SchemaTooNewError(Exception):
    """The database was migrated by a newer release than this one."""


def open_store(url: str, busy_seconds: float = BUSY_SECONDS, page_bytes: int = PAGE_BYTES) -> Engine:
    """An engine for the store; connects when first used. Safe for several threads, not across a fork.

    It waits `busy_seconds` for a lock that another process holds. A file of SQLite that it makes has pages of
    `page_bytes`.
    """
    address = make_url(url)
    if address.get_backend_name() != "sqlite":
        return _open_postgresql(address, busy_seconds)
    engine = create_engine(
        address, connect_args={"timeout": busy_seconds, "isolation_level": None}, pool_timeout=busy_seconds
    )
    event.listen(engine, "do_connect", lambda *_: make_folder(address))
    event.listen(engine, "connect", lambda connection, _: configure(connection, busy_seconds, page_bytes))
    event.listen(engine, "begin", lambda connection: begin(connection, busy_seconds))
    return engine


def _open_postgresql(address: URL, busy_seconds: float) -> Engine:
    """Nothing waits for ever: neither for a lock, nor for a statement, nor others for a process that was frozen within
    a transaction.
    """
    limits = {
        "lock_timeout": busy_seconds,
        "statement_timeout": STATEMENT_SECONDS,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_SECONDS,
    }
    options = " ".join(f"-c {name}={round(seconds * 1_000)}" for name, seconds in limits.items())
    given = address.query.get("options")
    return create_engine(
        address.set(drivername="postgresql+psycopg"),
        connect_args={"options": f"{options} {given or ''}".strip(), **_NETWORK},
        pool_pre_ping=True,
        pool_timeout=busy_seconds,
    )


def without_timeout(connection: Connection) -> None:
    """For the rest of the transaction statements may take as long as they do: migrations, and pruning."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A read transaction: everything in it is of one snapshot. Keep it short: on SQLite the WAL grows meanwhile.

    Raises:
        StoreUnavailableError: the database is locked or away.
    """
    options = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
    with _explained(engine), engine.connect() as connection:
        connection = connection.execution_options(**options)  # noqa: PLW2901 (the same connection)
        with connection.begin():
            yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A write transaction, committed at the end. SQLite's one write lock is taken at the start, so that no statement
    within can fail for want of it.

    Raises:
        StoreUnavailableError: the database is locked or away; nothing was written.
    """
    with _explained(engine), engine.connect() as connection:
        connection = connection.execution_options(**{WRITES: True})  # noqa: PLW2901 (the same connection)
        with connection.begin():
            yield connection


class SqliteWrites:
    """Write transactions on SQLite by the driver alone, on a connection that is kept: SQLAlchemy takes several times as
    long to begin one and to end it as SQLite does. For one thread.
    """

    def __init__(self, engine: Engine, busy_seconds: float) -> None:
        """`engine`: of `open_store`, on SQLite."""
        self._engine = engine
        self._busy_seconds = busy_seconds
        self._connection: PoolProxiedConnection | None = None

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """As the function of this name."""
        try:
            driver = self._driver()
            if not has_lock(driver, time.monotonic() + self._busy_seconds):
                driver.execute("BEGIN IMMEDIATE")  # says what is the matter
            yield driver
            driver.execute("COMMIT")
        except BaseException as error:
            self.close()
            if isinstance(error, sqlite3.Error):
                raise StoreUnavailableError(_explanation(self._engine, error)) from error
            raise

    def close(self) -> None:
        """The next transaction opens it anew."""
        if self._connection is not None:
            self._connection.close()  # which rolls back
        self._connection = None

    def _driver(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._engine.raw_connection()
            self._connection.cursor().execute("PRAGMA busy_timeout=0")
        return cast("sqlite3.Connection", self._connection.driver_connection)


def insert(connection: Connection, table: Table) -> "sqlite.Insert | postgresql.Insert":
    """An INSERT that knows ON CONFLICT, which each dialect has of its own."""
    if connection.dialect.name != "postgresql":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 (it costs 2 MB and 0.08 s that SQLite does not need)

    return postgresql.insert(table)


def next_revision(connection: Connection, name: str) -> int:
    """The next value of a counter, from 1. Its row stays locked until the transaction ends: others that want it wait,
    so that the order of values is the order of commits.
    """
    statement = insert(connection, revisions).values(name=name, value=1)
    statement = statement.on_conflict_do_update(index_elements=["name"], set_={"value": revisions.c.value + 1})
    value: int = connection.execute(statement.returning(revisions.c.value)).scalar_one()
    return value


def application_lock(connection: Connection) -> None:
    """Until the transaction ends no other one passes here; on SQLite no other one writes anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_APPLICATION_LOCK)))


def migrate(url: str, busy_seconds: float = BUSY_SECONDS) -> None:
    """Bring the store's schema up to this release; harmless to repeat, and safe from several processes at once.

    Raises:
        StoreUnavailableError: the database is locked or away.
        SchemaTooNewError: a newer release has migrated it.
    """
    engine = open_store(url, busy_seconds)
    try:
        with reading(engine) as connection:
            if schema_revision(connection) == HEAD:
                return
        # Here, because alembic costs 10 MB and 0.1 s that a ranker of a migrated store never needs.
        from storage import migration  # noqa: PLC0415

        with writing(engine) as connection:
            without_timeout(connection)
            application_lock(connection)
            _refuse_newer(schema_revision(connection), migration.steps())
            migration.upgrade(connection)
    finally:
        engine.dispose()


def schema_revision(connection: Connection) -> str | None:
    """The migration that the store is at; None: it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _refuse_newer(revision: str | None, known: frozenset[str]) -> None:
    if revision is not None and revision not in known:
        raise SchemaTooNewError(
            f"the store is at schema {revision}, and this release knows none above {HEAD}: a newer steadyrank has "
            "migrated it. Start that release, or restore a backup made before its first start"
        )


@contextmanager
def _explained(engine: Engine) -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise StoreUnavailableError(_explanation(engine, error)) from error
    except DatabaseError as error:
        # Its other subclasses are mistakes of ours, but where PostgreSQL ended a connection that was idle for too long.
        if type(error) is not DatabaseError and not error.connection_invalidated:
            raise
        raise StoreUnavailableError(_explanation(engine, error)) from error


def _explanation(engine: Engine, error: Exception) -> str:
    is_sqlite = engine.dialect.name == "sqlite"
    name = engine.url.database if is_sqlite else engine.url.render_as_string(hide_password=True)
    reason = str(getattr(error, "orig", None) or error).strip()
    if is_sqlite and "locked" in reason:
        return (
            f"the database {name} is locked by another process: nothing was written. "
            "Close what holds it (a backup, an open sqlite3 shell, a second `steadyrank up`); trying again is harmless"
        )
    return f"the database {name} cannot be used: {reason}"
