"""SQLite's own ways with files, the write-ahead log and its one write lock."""

import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import cast

from sqlalchemy import URL, Connection

WRITES = "steadyrank_writes"
"""The execution option of connections whose transactions take the write lock at their start."""
_LOCK_SECONDS = 0.002
PAGE_BYTES = 4_096
"""SQLite's own default."""
_MAX_IDLE_WAL_BYTES = 1 << 26  # what a long reading made it grow to is given back
_CHECKPOINT_BYTES = 1 << 22  # of it, after which a commit moves them to the database


def make_folder(address: URL) -> None:
    """That the file of this address is to be in."""
    if address.database:
        with suppress(OSError):  # SQLite then says that it cannot open the file
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)


def configure(connection: sqlite3.Connection, busy_seconds: float, page_bytes: int) -> None:
    """A new connection: a commit is on the disk when it returns, and readers and the writer do not wait for each other.
    A new file gets pages of `page_bytes`; one that is there keeps its own.

    Raises `sqlite3.OperationalError`: the file was locked for `busy_seconds`.
    """
    connection.execute(f"PRAGMA page_size={page_bytes}")
    _switch_to_wal(connection, time.monotonic() + busy_seconds)
    [page_bytes] = connection.execute("PRAGMA page_size").fetchone()
    connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_BYTES // page_bytes}")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA journal_size_limit={_MAX_IDLE_WAL_BYTES}")


def _switch_to_wal(connection: sqlite3.Connection, deadline: float) -> None:
    # SQLite does not wait for a lock here: of two processes that start on a new file one fails at once.
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def begin(connection: Connection, busy_seconds: float) -> None:
    """A transaction, with the write lock where the connection's option `WRITES` says so: sqlite3 by itself would begin
    at the first INSERT only, with a lock that may then not be had.

    Raises `sqlalchemy.exc.OperationalError`: the file was locked for `busy_seconds`.
    """
    if not connection.get_execution_options().get(WRITES, False):
        connection.exec_driver_sql("BEGIN")
        return
    driver = cast("sqlite3.Connection", connection.connection.driver_connection)
    connection.exec_driver_sql("PRAGMA busy_timeout=0")
    try:
        if not has_lock(driver, time.monotonic() + busy_seconds):
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # says what is the matter
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={round(busy_seconds * 1_000)}")


def has_lock(driver: sqlite3.Connection, deadline: float) -> bool:
    """Whether a transaction with the write lock began before the deadline (of `time.monotonic`): SQLite's own wait asks
    every 100 ms in the end, and so hardly gets a lock that another one takes again at once.
    """
    while time.monotonic() < deadline:
        try:
            driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                return False
        else:
            return True
        time.sleep(_LOCK_SECONDS)
    return False
