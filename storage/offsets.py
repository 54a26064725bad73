"""How far the event log has been read: offsets by compare-and-set, and watermarks (DESIGN §6 and §7.6).

Each function works within the caller's transaction, on the rows of one log ("sql", "kafka").
"""

import math
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, bindparam, case, func, select, update

from schemas.tables import log_offsets
from storage.bulk import insert_new
from storage.event_log import Partition, Topic


class StaleOffsetsError(Exception):
    """Another consumer has moved the stored offsets: this one has lost its partitions and must seek anew."""


def stored_offsets(connection: Connection, log: str) -> dict[Partition, int]:
    """Where to go on; partitions that were never seen are not in it."""
    columns = log_offsets.c
    statement = select(columns.topic, columns.partition, columns.next_offset).where(columns.log == log)
    return {Partition(topic, number): offset for topic, number, offset in connection.execute(statement)}


def make_known(connection: Connection, log: str, partitions: Iterable[Partition]) -> None:
    """Rows for partitions that have none yet: read from nowhere, so that rewards wait for them."""
    ordered = sorted(partitions, key=_place)
    insert_new(connection, log_offsets, [(log, each.topic, each.number, 0, -math.inf) for each in ordered])


def advance(
    connection: Connection,
    log: str,
    expected: Mapping[Partition, int],
    next_offsets: Mapping[Partition, int],
    read_up_to: Mapping[Partition, float],
) -> None:
    """Move the offsets on from `expected` (absent: 0) by compare-and-set, and the watermarks forward.

    A partition that `next_offsets` does not name stays where `expected` has it. Watermarks never go back.

    Raises:
        StaleOffsetsError: another consumer moved them.
    """
    partitions = sorted({*expected, *next_offsets, *read_up_to}, key=_place)  # in one order: no deadlocks
    make_known(connection, log, [each for each in partitions if expected.get(each, 0) == 0])
    for each in partitions:
        before = expected.get(each, 0)
        values = {"after": next_offsets.get(each, before), "at": read_up_to.get(each, -math.inf)}
        which = {"of": each.topic, "number": each.number, "before": before}
        if connection.execute(_ADVANCE, {**values, **which, "by": log}).rowcount != 1:
            raise StaleOffsetsError(f"{each.topic}/{each.number} is no longer at offset {before}")


def watermark(connection: Connection, log: str, topic: Topic) -> float:
    """The time before which every partition of `topic` has been read; -inf if one never was."""
    columns = log_offsets.c
    statement = select(func.min(columns.read_up_to)).where(columns.log == log, columns.topic == topic)
    at: float | None = connection.execute(statement).scalar()
    return -math.inf if at is None else at


def _place(partition: Partition) -> tuple[str, int]:
    return partition.topic, partition.number


_ADVANCE = (
    update(log_offsets)
    .where(log_offsets.c.log == bindparam("by"), log_offsets.c.topic == bindparam("of"))
    .where(log_offsets.c.partition == bindparam("number"), log_offsets.c.next_offset == bindparam("before"))
    .values(
        next_offset=bindparam("after"),
        # Compared in the database: a consumer that was frozen may come with an older one.
        read_up_to=case((log_offsets.c.read_up_to > bindparam("at"), log_offsets.c.read_up_to), else_=bindparam("at")),
    )
)
