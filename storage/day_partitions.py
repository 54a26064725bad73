"""PostgreSQL: the tables that are partitioned by the UTC day of `received_at`."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from storage.database import application_lock

DAY_SECONDS = 86_400
PARTITIONED = ("decisions", "feedback")


@dataclass(frozen=True, slots=True)
class DayPartition:
    table: str
    day: int
    """Days since the epoch."""

    @property
    def name(self) -> str:
        return f"{self.table}_{datetime.fromtimestamp(self.day * DAY_SECONDS, UTC):%Y%m%d}"

    @property
    def ends_at(self) -> float:
        """Seconds since the epoch."""
        return float((self.day + 1) * DAY_SECONDS)


def needed(table: str, received: Iterable[float]) -> frozenset[DayPartition]:
    """Those of rows that were received at these times."""
    return frozenset(DayPartition(table, day) for day in {math.floor(at / DAY_SECONDS) for at in received})


def make(connection: Connection, partitions: Iterable[DayPartition]) -> None:
    """Make those that lack. Others that write meanwhile do not wait, but where they make some too."""
    missing = [each for each in partitions if not _exists(connection, each)]
    if missing:
        application_lock(connection)
    for each in missing:
        if not _exists(connection, each):
            # Made apart and then attached: made in its place it would lock the whole table.
            connection.execute(text(f"CREATE TABLE {each.name} (LIKE {each.table} INCLUDING ALL)"))
            bounds = f"FROM ({each.day * DAY_SECONDS}) TO ({(each.day + 1) * DAY_SECONDS})"
            connection.execute(text(f"ALTER TABLE {each.table} ATTACH PARTITION {each.name} FOR VALUES {bounds}"))


def existing(connection: Connection, table: str) -> Iterator[DayPartition]:
    """By day."""
    statement = text(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = CAST(:table AS regclass) ORDER BY c.relname"
    )
    for name in connection.execute(statement, {"table": table}).scalars().all():
        date = datetime.strptime(name.rpartition("_")[2], "%Y%m%d").replace(tzinfo=UTC)
        yield DayPartition(table, math.floor(date.timestamp() / DAY_SECONDS))


def _exists(connection: Connection, partition: DayPartition) -> bool:
    # Asked of the table itself: the functions that look names up may answer from before the lock was had.
    statement = text("SELECT 1 FROM pg_class WHERE relname = :name AND relnamespace = current_schema()::regnamespace")
    return connection.execute(statement, {"name": partition.name}).scalar() is not None
