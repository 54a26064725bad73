"""Retention: what the store forgets. Whole UTC days go; on PostgreSQL their partitions are dropped.

Raises StoreUnavailableError when the database is locked or away: what went so far is gone, and pruning again goes on.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Engine, Select, Table, delete, func, select, text

from schemas.tables import dead_letters, decisions, feedback, feedback_ids, reward_totals, rewards, trainings
from storage import day_partitions
from storage.database import next_revision, reading, without_timeout, writing
from storage.day_partitions import DAY_SECONDS
from storage.open_decisions import MAX_EARLY_SECONDS

_CHUNK = 1_000  # rows under one write lock: ingest goes on in between


@dataclass(frozen=True, slots=True)
class Pruned:
    before: float
    """Decisions received before this time went, seconds since the epoch: the start of a UTC day."""
    num_decisions: int
    num_feedback: int


def prune(engine: Engine, before: float) -> Pruned:
    """Forget decisions received before the UTC day of `before`, with all that came of them.

    The first day with a decision that is not final stays, and all after it. Feedback stays a day longer, as it may have
    come before its decision. An event that comes for a decision that went is kept, and is worth nothing.
    """
    day_start = _day_start(min(before, _earliest_open(engine)))
    feedback_end = day_start - MAX_EARLY_SECONDS
    num_decisions = _repeat(engine, lambda connection: _forget_decisions(connection, day_start))
    if engine.dialect.name == "postgresql":
        num_feedback = _forget_old(engine, feedback_ids, feedback_ids.c.received_at, feedback_end)
        _drop_days(engine, "decisions", day_start)
        _drop_days(engine, "feedback", feedback_end)
    else:
        num_feedback = _forget_old(engine, feedback, feedback.c.received_at, feedback_end)
    _forget_old(engine, dead_letters, dead_letters.c.received_at, day_start)
    _forget_old(engine, reward_totals, reward_totals.c.bucket_start, day_start)
    return Pruned(day_start, num_decisions, num_feedback)


def _day_start(at: float) -> float:
    return math.floor(at / DAY_SECONDS) * float(DAY_SECONDS)


def _earliest_open(engine: Engine) -> float:
    """When the first decision was received whose reward is not final; +inf if all are."""
    statement = select(func.min(rewards.c.received_at)).where(rewards.c.final_at.is_(None))
    with reading(engine) as connection:
        earliest = connection.execute(statement).scalar()
    return math.inf if earliest is None else earliest


def _repeat(engine: Engine, forget_some: Callable[[Connection], int]) -> int:
    """A transaction a time, until there is nothing left; returns how many rows went."""
    num_gone = 0
    while True:
        with writing(engine) as connection:
            without_timeout(connection)
            num = forget_some(connection)
        if num == 0:
            return num_gone
        num_gone += num


def _forget_decisions(connection: Connection, before: float) -> int:
    next_revision(connection, "rewards")  # its lock: ingest corrects none of them meanwhile
    ids = connection.execute(_first(rewards.c.decision_id, rewards.c.received_at < before)).scalars().all()
    tables: list[Table] = [trainings, rewards]
    if connection.dialect.name != "postgresql":  # there they go with their day
        tables.append(decisions)
    for table in tables:
        connection.execute(delete(table).where(table.c.decision_id.in_(ids)))
    return len(ids)


def _forget_old(engine: Engine, table: Table, time: Column[Any], before: float) -> int:
    key = next(iter(table.primary_key.columns))

    def forget_some(connection: Connection) -> int:
        keys = connection.execute(_first(key, time < before)).scalars().all()
        return connection.execute(delete(table).where(key.in_(keys), time < before)).rowcount if keys else 0

    return _repeat(engine, forget_some)


def _first(key: Column[Any], which: ColumnElement[bool]) -> Select[Any]:
    return select(key).where(which).limit(_CHUNK)


def _drop_days(engine: Engine, table: str, before: float) -> None:
    with reading(engine) as connection:
        old = [each for each in day_partitions.existing(connection, table) if each.ends_at <= before]
    for partition in old:
        with writing(engine) as connection:
            connection.execute(text(f"DROP TABLE {partition.name}"))
