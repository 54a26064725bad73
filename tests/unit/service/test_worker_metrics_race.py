"""The metrics of a worker are written by its event loop and by the threads that answer /metrics, at the same time."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from service.worker_metrics import WorkerMetrics


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_all_who_ask_at_the_same_time_are_answered(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    Counter("asked", "Asked", registry=registry).inc()
    metrics = WorkerMetrics(registry, tmp_path)
    with ThreadPoolExecutor(8) as threads:
        texts = list(threads.map(lambda _: metrics.text(), range(400)))
    assert all(b"asked_total 1.0" in text for text in texts)
