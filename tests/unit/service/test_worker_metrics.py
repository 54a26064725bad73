"""Metrics of several processes, added up by whichever is asked."""

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.worker_metrics import WorkerMetrics

NOBODY = 2**22 + 1
"""Above the largest process id that Linux gives out."""


def counted(num: int, created_at: float) -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("steadyrank_decisions", "", ["mode"], registry=registry).labels("learned").inc(num)
    Gauge("steadyrank_decision_log_waiting", "", registry=registry).set(num)
    Gauge("steadyrank_items", "", registry=registry).set(100)
    Gauge("steadyrank_policy_created_at", "", registry=registry).set(created_at)
    seconds = Histogram("steadyrank_recommend_seconds", "", buckets=(0.1, 1.0), registry=registry)
    for _ in range(num):
        seconds.observe(0.5)
    return registry


def told(text: bytes) -> dict[str, float]:
    families = text_string_to_metric_families(text.decode())
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def write(folder: Path, pid: int, registry: CollectorRegistry) -> None:
    (folder / f"{pid}.prom").write_bytes(generate_latest(registry))


def test_a_worker_tells_of_all(tmp_path: Path) -> None:
    write(tmp_path, os.getppid(), counted(2, created_at=50.0))
    all_of_them = told(WorkerMetrics(counted(3, created_at=60.0), tmp_path).text())
    assert all_of_them["steadyrank_decisions_total learned"] == 5
    assert all_of_them["steadyrank_recommend_seconds_bucket 0.1"] == 0
    assert all_of_them["steadyrank_recommend_seconds_bucket 1.0"] == 5
    assert all_of_them["steadyrank_recommend_seconds_sum"] == 2.5
    assert all_of_them["steadyrank_decision_log_waiting"] == 5
    assert all_of_them["steadyrank_items"] == 100
    assert all_of_them["steadyrank_policy_created_at"] == 50


def test_what_a_dead_worker_counted_stays_and_what_it_held_does_not(tmp_path: Path) -> None:
    write(tmp_path, NOBODY, counted(2, created_at=50.0))
    all_of_them = told(WorkerMetrics(counted(3, created_at=60.0), tmp_path).text())
    assert all_of_them["steadyrank_decisions_total learned"] == 5
    assert all_of_them["steadyrank_decision_log_waiting"] == 3
    assert all_of_them["steadyrank_policy_created_at"] == 60


def test_alone_it_tells_of_itself() -> None:
    registry = counted(3, created_at=60.0)
    assert WorkerMetrics(registry, None).text() == generate_latest(registry)
