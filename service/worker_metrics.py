"""Metrics of several workers: whichever is asked tells those of all.

Each writes its own to a file every second: counting in files that all map, as prometheus_client offers it, would cost
every request more than it costs now to count. What a worker that died had counted stays counted.
"""

import asyncio
import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

WRITE_SECONDS = 1.0
_LARGEST = {"steadyrank_items", "steadyrank_log_away", "steadyrank_lift", "process_max_fds"}
_SMALLEST = {"steadyrank_policy_created_at", "process_start_time_seconds"}
"""Of gauges; the others, which count something of each worker, are added up."""

_Key = tuple[str, tuple[tuple[str, str], ...]]


class WorkerMetrics:
    """Those of this process and, where there is a folder, of the other workers."""

    def __init__(self, registry: CollectorRegistry, folder: Path | None) -> None:
        self._registry = registry
        self._folder = folder
        self._mine = None if folder is None else folder / f"{os.getpid()}.prom"

    async def run(self) -> None:
        """Writes what this process counted, until cancelled."""
        while self._mine is not None:
            await asyncio.sleep(WRITE_SECONDS)
            await asyncio.to_thread(self._write, self._mine)

    def text(self) -> bytes:
        """In Prometheus' text format. Blocks while files are read and added up."""
        if self._folder is None or self._mine is None:
            return generate_latest(self._registry)
        self._write(self._mine)
        all_of_them = CollectorRegistry()
        all_of_them.register(_Sum(self._folder))
        return generate_latest(all_of_them)

    def _write(self, path: Path) -> None:
        new = path.with_suffix(f".{threading.get_ident()}.new")  # threads that answer /metrics write, too
        new.write_bytes(generate_latest(self._registry))
        new.replace(path)


class _Sum(Collector):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        families: dict[str, list[Metric]] = defaultdict(list)
        for file in sorted(self._folder.glob("*.prom")):
            is_alive = _is_alive(int(file.stem))
            for family in text_string_to_metric_families(file.read_text()):
                if family.type != "gauge" or is_alive:
                    families[family.name].append(family)
        for same in families.values():
            yield _added_up(same)


def _added_up(same: list[Metric]) -> Metric:
    first = same[0]
    whole = Metric(first.name, first.documentation, first.type)
    values: dict[_Key, list[float]] = defaultdict(list)
    for sample in _samples(same):
        values[sample.name, tuple(sorted(sample.labels.items()))].append(sample.value)
    for (name, labels), of_workers in values.items():
        whole.add_sample(name, dict(labels), _total(name, of_workers))
    return whole


def _samples(families: Iterable[Metric]) -> Iterator[Sample]:
    return (sample for family in families for sample in family.samples)


def _total(name: str, of_workers: list[float]) -> float:
    if name in _SMALLEST or name.endswith("_created"):
        return min(of_workers)
    return max(of_workers) if name in _LARGEST else sum(of_workers)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's by now
        return False
    return True
