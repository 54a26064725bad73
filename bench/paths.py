"""The ways that a workload goes in the benchmark. Each runs in a process of its own, on a core of its own."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psutil  # type: ignore[import-untyped]  # it brings no types
import psycopg
from kafka import KafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # the same
from prometheus_client import CollectorRegistry
from sqlalchemy import Table, make_url

from bench.stores import analyze
from bench.workloads import Workload
from schemas.loop_file import Loop, parse_loop
from schemas.settings import Settings
from schemas.tables import decisions, feedback, feedback_ids, rewards
from storage.database import open_store
from storage.decision_row import decision_row
from storage.event_log import Partition, Record
from storage.event_logs import log_name, open_dead_letters
from storage.kafka_client import topic_name
from storage.kafka_reader import KafkaEventLogReader
from storage.replay_store import ReplayStore
from trainer.ingest.consumer import IngestConsumer
from trainer.ingest.parse import Parsed, parse
from trainer.metrics import IngestMetrics

LOOP_TEXT = """
name = "bench"
[item]
id = { kind = "category", buckets = 65536 }
[action]
kind = "slate"
size = 10
[reward]
click = 1.0
purchase = 5.0
wait = "10s"
closes = ["purchase"]
[learner]
agent = "dqn"
[exploration]
kind = "softmax"
"""
LOOP = parse_loop(LOOP_TEXT)
OPEN_LOOP = parse_loop(LOOP_TEXT.replace("10s", "1d"))
"""With windows that stay open as long as the benchmark takes."""
ROWS_A_TRANSACTION = 10_000
"""Of the raw upsert: about what ingest has in one."""
_MAX_RECORDS = 5_000


@dataclass(frozen=True, slots=True)
class Task:
    """One run of one path."""

    path: str
    """A key of `PATHS`."""
    workload: Workload
    settings: Settings
    broker_pid: int
    database_pid: int | None
    """None: SQLite has no server."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run took, from its first record to its last commit."""

    path: str
    workload: str
    num_elements: int
    seconds: float
    cpu_seconds: float
    """Of the process itself, all its threads."""
    broker_cpu_seconds: float
    database_cpu_seconds: float
    num_transactions: int = 0

    @property
    def a_second(self) -> float:
        return self.num_elements / self.seconds


def run(task: Task) -> list[Measured]:
    return PATHS[task.path](task)


class _Meter:
    """Measures from when it was made to when it is asked."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._before = self._now()

    def _now(self) -> tuple[float, ...]:
        database_pid = self._task.database_pid
        return (
            time.perf_counter(),
            time.process_time(),
            cpu_seconds(self._task.broker_pid),
            0.0 if database_pid is None else cpu_seconds(database_pid),
        )

    def measured(self, num_elements: int, num_transactions: int = 0) -> Measured:
        wall, own, broker, database = (now - before for before, now in zip(self._before, self._now(), strict=True))
        return Measured(
            self._task.path, self._task.workload.name, num_elements, wall, own, broker, database, num_transactions
        )


def cpu_seconds(pid: int) -> float:
    """Of the process and its children, those that have ended too."""
    parent = psutil.Process(pid)
    of_parent = parent.cpu_times()
    alive = [child.cpu_times() for child in parent.children()]
    ended = of_parent.children_user + of_parent.children_system
    return float(ended + sum(times.user + times.system for times in (of_parent, *alive)))


# ------------------------------------------------------------------ ceilings


def raw_consumer(task: Task) -> list[Measured]:
    """kafka-python reads the records, and nothing is done with them."""
    names = [topic_name(task.settings, topic) for topic in task.workload.topics]
    consumer: Any = KafkaConsumer(
        bootstrap_servers=task.settings.kafka,
        enable_auto_commit=False,
        fetch_max_bytes=16 << 20,
        max_partition_fetch_bytes=4 << 20,
        metrics_enabled=False,
    )
    partitions = [TopicPartition(name, n) for name in names for n in range(task.settings.kafka_partitions)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    num_left = sum(consumer.end_offsets(partitions).values())
    meter = _Meter(task)
    while num_left:
        num_left -= sum(map(len, consumer.poll(timeout_ms=1_000, max_records=_MAX_RECORDS).values()))
    measured = meter.measured(task.workload.num_elements)
    consumer.close()
    return [measured]


def raw_upsert(task: Task) -> list[Measured]:
    """The rows are there; they are written as quickly as the database's own driver can."""
    parsed = _parsed(task.workload)
    decision_rows = [decision_row(*each) for each in parsed.decisions]
    reward_rows = [(*row[:3], *(None,) * 5) for row in decision_rows]
    write = _into_sqlite if task.database_pid is None else _into_postgresql
    return [write(task, [(decisions, rewards, decision_rows, reward_rows), _feedback_rows(parsed)])]


_Rows = tuple[Table, Table | None, Sequence[tuple[Any, ...]], Sequence[tuple[Any, ...]]]


def _feedback_rows(parsed: Parsed) -> _Rows:
    return feedback, feedback_ids, parsed.events, [(event.event_id, event.received_at) for event in parsed.events]


def _parsed(workload: Workload) -> Parsed:
    records = (
        Record(Partition(topic, 0), offset, workload.started_at, value)
        for topic in workload.topics
        for offset, value in enumerate(workload.values(topic))
    )
    return parse(records, LOOP.feedback_kinds)


def _into_sqlite(task: Task, tables: Sequence[_Rows]) -> Measured:
    connection = sqlite3.connect(make_url(task.settings.store_url).database or "", isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    num_transactions = 0
    meter = _Meter(task)
    for table, beside, rows, beside_rows in tables:
        for start, end in _ranges(len(rows)):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_insert_one(table), rows[start:end])
            if beside is rewards:
                connection.executemany(_insert_one(beside), beside_rows[start:end])
            connection.execute("COMMIT")
            num_transactions += 1
    measured = meter.measured(task.workload.num_elements, num_transactions)
    connection.close()
    return measured


def _into_postgresql(task: Task, tables: Sequence[_Rows]) -> Measured:
    """The ids too, which keep rows of partitioned tables unique; but as if all were known to be new."""
    num_transactions = 0
    with psycopg.connect(task.settings.store_url.replace("+psycopg", "")) as connection:
        meter = _Meter(task)
        for table, beside, rows, beside_rows in tables:
            for start, end in _ranges(len(rows)):
                if beside is not None:
                    connection.execute(_insert_all(beside), _columns(beside_rows[start:end]))
                connection.execute(_insert_all(table), _columns(rows[start:end]))
                connection.commit()
                num_transactions += 1
        return meter.measured(task.workload.num_elements, num_transactions)


def _ranges(num_rows: int) -> Iterator[tuple[int, int]]:
    return ((start, start + ROWS_A_TRANSACTION) for start in range(0, num_rows, ROWS_A_TRANSACTION))


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return list(map(list, zip(*rows, strict=True)))


def _insert_one(table: Table) -> str:
    marks = ", ".join("?" * len(table.columns))
    return f"INSERT INTO {table.name} ({_names(table)}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608 (ours)


def _insert_all(table: Table) -> bytes:
    given = ", ".join(f"%b::{_ARRAYS.get(type(column.type).__name__, 'text[]')}" for column in table.columns)
    rows = f"SELECT * FROM unnest({given})"  # noqa: S608 (the same)
    return f"INSERT INTO {table.name} ({_names(table)}) {rows} ON CONFLICT DO NOTHING".encode()


def _names(table: Table) -> str:
    return ", ".join(column.name for column in table.columns)


_ARRAYS = {"BigInteger": "int8[]", "Double": "float8[]", "Boolean": "bool[]"}


# ------------------------------------------------------------------ ingest


def ingest(task: Task) -> list[Measured]:
    """What `steadyrank ingest` does, until all is committed; then, where decisions came too, until all are final."""
    engine = open_store(task.settings.store_url)
    reader = KafkaEventLogReader(task.settings, time.time)
    store = ReplayStore(engine, log_name(task.settings))
    dead_letters = open_dead_letters(task.settings)

    def consumer(loop: Loop) -> IngestConsumer:
        return IngestConsumer(reader, store, loop, time.time, metrics, dead_letters=dead_letters)

    metrics = IngestMetrics(CollectorRegistry())
    try:
        measured = [_read_all(task, consumer(OPEN_LOOP), reader, metrics)]
        if task.workload.has_decisions:
            analyze(engine)
            measured.append(_finalize_all(task, consumer(LOOP), metrics))
    finally:
        reader.close()
        engine.dispose()
    return measured


def _read_all(task: Task, consumer: IngestConsumer, reader: KafkaEventLogReader, metrics: IngestMetrics) -> Measured:
    while not reader.assignment():
        consumer.step()
    meter, num_records, num_transactions = _Meter(task), 0, 0
    while num_records < task.workload.num_records:
        num_records += consumer.step()
        num_transactions += 1
    measured = meter.measured(task.workload.num_elements, num_transactions)
    assert sum(_count(metrics, "elements", topic=topic) for topic in task.workload.topics) == task.workload.num_elements
    return measured


def _finalize_all(task: Task, consumer: IngestConsumer, metrics: IngestMetrics) -> Measured:
    consumer.step()  # joins the group again, and may wait for records
    meter, num_before, num_transactions = _Meter(task), _count(metrics, "final_rewards"), 0
    while _count(metrics, "final_rewards") < task.workload.num_decisions:
        consumer.step()
        num_transactions += 1
    num_finals = round(_count(metrics, "final_rewards") - num_before)
    return replace(meter.measured(num_finals, num_transactions), path="finals")


def _count(metrics: IngestMetrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"steadyrank_ingest_{name}_total", labels) or 0.0


PATHS: dict[str, Callable[[Task], list[Measured]]] = {
    "raw consumer": raw_consumer,
    "raw upsert": raw_upsert,
    "ingest": ingest,
}
