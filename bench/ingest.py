"""`make bench-ingest`: Kafka → rows committed, beside what kafka-python and the databases can do by themselves.

The consumer has a core of its own; Kafka and PostgreSQL share another one. Rounds are interleaved, so that what else
the machine does meanwhile strikes all alike; figures are medians.
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from bench.paths import Measured, Task, run
from bench.stores import PostgresStores, SqliteStores
from bench.workloads import Workload, fill
from loadtest.parts.kafka import LocalKafka
from loadtest.parts.postgresql import LocalPostgres
from schemas.settings import Settings

MUST = {"PostgreSQL": 25_000, "SQLite": 60_000}
"""Feedback events a second, end to end, of the workload `packed`."""
NUM_PARTITIONS = 4
_COLUMNS = (("a second", 10), ("lowest", 10), ("highest", 10), ("CPU µs", 8), ("SQL", 7), ("Kafka", 7), ("by CPU", 11))
_HEADER = " " * 24 + "".join(f"{name:>{width}}" for name, width in (*_COLUMNS, ("share", 7)))


@dataclass(frozen=True, slots=True)
class Key:
    workload: str
    path: str
    store: str
    """Empty: none takes part."""


Results = dict[Key, list[Measured]]
"""One of each round."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if a rate that must be reached was not."""
    options = _parser().parse_args(arguments)
    consumer_core, servers_core = _cores()
    os.sched_setaffinity(0, {servers_core})  # whatever is started from here on has it too
    with tempfile.TemporaryDirectory() as folder:
        results = _bench(Path(folder), options.events, options.rounds, consumer_core)
    sys.stdout.writelines(f"{line}\n" for line in _report(results))
    if options.json:
        options.json.write_text(json.dumps(_as_json(results), indent=1))
    return 0 if all(_rate(results, store) >= must for store, must in MUST.items()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.ingest", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="of each workload (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every figure of every round")
    quick = {"events": 40_000, "rounds": 1}
    parser.add_argument("--quick", action=_Set, values=quick, help="40,000 events, one round: less than a minute")
    return parser


class _Set(argparse.Action):
    """An option that stands for several others."""

    def __init__(self, option_strings: Sequence[str], dest: str, values: dict[str, int], **rest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help=rest.get("help"))
        self._values = values

    def __call__(self, _: object, namespace: argparse.Namespace, *__: object) -> None:
        vars(namespace).update(self._values)


def _cores() -> tuple[int, int]:
    """The consumer's and the servers'."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        _say("there is one core only: the consumer shares it with Kafka and PostgreSQL")
    return cores[0], cores[-1]


def _workloads(num_events: int) -> list[Workload]:
    now = time.time()
    return [
        Workload("packed", num_events, events_a_record=100, has_decisions=False, started_at=now),
        Workload("single", num_events // 2, events_a_record=1, has_decisions=False, started_at=now),
        Workload("mixed", num_events // 2, events_a_record=100, has_decisions=True, started_at=now),
    ]


def _bench(folder: Path, num_events: int, num_rounds: int, core: int) -> Results:
    results: Results = defaultdict(list)
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as parts:
        kafka = parts.enter_context(LocalKafka(folder / "kafka"))
        postgresql = parts.enter_context(LocalPostgres(folder / "postgresql"))
        apart = parts.enter_context(ProcessPoolExecutor(1, spawn, os.sched_setaffinity, (0, {core})))
        stores = (SqliteStores(folder), PostgresStores(postgresql))
        workloads = _workloads(num_events)
        for workload in workloads:
            _say(f"preparing {workload.name}")
            fill(_settings(kafka, workload), workload)
            for store in stores:
                store.prepare(workload)
        for number in range(num_rounds):
            for workload in workloads:
                _say(f"round {number + 1} of {num_rounds}: {workload.name}")
                for key, task in _tasks(kafka, stores, workload):
                    for measured in apart.submit(run, task).result():
                        results[replace(key, path=measured.path)].append(measured)
    return results


def _tasks(
    kafka: LocalKafka, stores: Sequence[SqliteStores | PostgresStores], workload: Workload
) -> Iterator[tuple[Key, Task]]:
    """Of one round; each is to be run before the next one is asked for."""
    path = "raw consumer"
    yield Key(workload.name, path, ""), Task(path, workload, _settings(kafka, workload), kafka.pid, None)
    for path in ("raw upsert", "ingest"):
        for store in stores:
            with store.copy(workload) as url:
                settings = _settings(kafka, workload, url)
                yield Key(workload.name, path, store.name), Task(path, workload, settings, kafka.pid, store.pid)


def _settings(kafka: LocalKafka, workload: Workload, url: str = "") -> Settings:
    return Settings(
        kafka=kafka.servers,
        kafka_partitions=NUM_PARTITIONS,
        kafka_topic_prefix=f"{workload.name}-",
        kafka_group=uuid.uuid4().hex,
        database_url=url,
    )


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


# ------------------------------------------------------------------ the report


def _report(results: Results) -> Iterator[str]:
    for workload in dict.fromkeys(key.workload for key in results):
        yield f"\n{workload}: {_TITLES[workload]}"
        yield _HEADER
        yield from (_line(results, key) for key in results if key.workload == workload)
    yield ""
    yield from _NOTES
    for store, must in MUST.items():
        rate = _rate(results, store)
        yield f"{store}: {rate:,.0f} events/s, must be {must:,}: {'reached' if rate >= must else 'MISSED'}"


_TITLES = {
    "packed": "feedback as the ranker writes it, 100 events a record; their decisions are stored, their windows open",
    "single": "the same as other producers write it, one event a record",
    "mixed": "decisions of 10 items, 20 a record, and 5 events each, 100 a record; then all rewards become final",
}
_NOTES = (
    "a second: elements (events and decisions), or final rewards; median of the rounds.",
    "CPU µs an element: of the process that is measured, of PostgreSQL, and of Kafka.",
    "by CPU: a second, if nothing waited but the process for PostgreSQL.",
    "share: of the slower ceiling, raw consumer or raw upsert, in the same round.",
)


def _line(results: Results, key: Key) -> str:
    rounds = results[key]
    rates = [each.a_second for each in rounds]
    own, database, broker = (
        1e6 * median(getattr(each, name) / each.num_elements for each in rounds)
        for name in ("cpu_seconds", "database_cpu_seconds", "broker_cpu_seconds")
    )
    name = f"  {key.path}{f', {key.store}' if key.store else ''}"
    return (
        f"{name:24}{median(rates):>10,.0f}{min(rates):>10,.0f}{max(rates):>10,.0f}"
        f"{own:>8.1f}{database:>7.1f}{broker:>7.1f}{1e6 / (own + database):>11,.0f}"
        + (f"{_share(results, key):>7.2f}" if key.path == "ingest" else "")
    )


def _share(results: Results, key: Key) -> float:
    consumers = results[Key(key.workload, "raw consumer", "")]
    upserts = results[Key(key.workload, "raw upsert", key.store)]
    return median(
        mine.a_second / min(consumer.a_second, upsert.a_second)
        for mine, consumer, upsert in zip(results[key], consumers, upserts, strict=True)
    )


def _rate(results: Results, store: str) -> float:
    return median(each.a_second for each in results[Key("packed", "ingest", store)])


def _as_json(results: Results) -> dict[str, object]:
    return {
        "machine": {"cores": os.cpu_count(), "processor": platform.processor(), "python": platform.python_version()},
        "must": MUST,
        "results": [asdict(key) | {"rounds": [asdict(each) for each in rounds]} for key, rounds in results.items()],
    }


if __name__ == "__main__":
    sys.exit(main())
