"""`/metrics` of ingest and of the learner, scraped over HTTP."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event, Thread

import pytest
from prometheus_client import CollectorRegistry, Counter

from loadtest.parts.server import free_port
from schemas.loop_file import Loop, read_loop
from schemas.settings import Settings, SettingsError
from trainer.ingest.run import run_ingest
from trainer.metrics_server import serving_metrics
from trainer.run import run_train

ROOT = Path(__file__).parents[2]
LOOP = read_loop(ROOT / "loop.toml")

Run = Callable[[Settings, Loop, Event], None]
EACH = pytest.mark.parametrize(
    ("run", "name"), [(run_ingest, "steadyrank_ingest_records_total"), (run_train, "steadyrank_learner_updates_total")]
)


def free_ports(num: int) -> int:
    """The first of `num` ports in a row that nobody listens on, nor is given by chance."""
    while True:
        first = free_port()
        with suppress(OSError), ExitStack() as taken:
            for i in range(num):
                taken.enter_context(socket.create_server(("127.0.0.1", first + i)))
            return first


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return str(answer.read().decode())


def scrape_patiently(port: int, seconds: float = 60.0) -> str:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return scrape(port)
        except urllib.error.URLError:
            assert time.monotonic() < deadline, f"nothing answers on port {port}"
            time.sleep(0.05)


def test_it_answers_with_the_registry_and_the_process_until_the_end() -> None:
    registry, port = CollectorRegistry(), free_ports(1)
    Counter("clicks", "Clicks", registry=registry).inc(3)
    for _ in range(2):  # at the end the registry is as it was
        with serving_metrics(Settings(metrics_port=port), registry):
            text = scrape(port)
        assert "\nclicks_total 3.0\n" in text
        assert "\nprocess_resident_memory_bytes " in text
        with pytest.raises(urllib.error.URLError):
            scrape(port)
    assert registry.get_sample_value("process_resident_memory_bytes") is None


def test_without_a_port_nothing_is_started() -> None:
    before = set(threading.enumerate())  # of which some may be about to end
    with serving_metrics(Settings(), CollectorRegistry()):
        assert set(threading.enumerate()) <= before


@EACH
def test_a_process_answers_while_it_runs(tmp_path: Path, run: Run, name: str) -> None:
    port, stop = free_ports(1), Event()
    thread = Thread(target=run, args=(Settings(data=tmp_path, metrics_port=port), LOOP, stop))
    thread.start()
    try:
        assert f"\n{name} 0.0\n" in scrape_patiently(port)
    finally:
        stop.set()
        thread.join(timeout=60)
    with pytest.raises(urllib.error.URLError):
        scrape(port)


@EACH
def test_a_port_in_use_is_a_mistake_that_is_named(tmp_path: Path, run: Run, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"STEADYRANK_METRICS_PORT: cannot listen on 127.0.0.1:{port}"):
            run(Settings(data=tmp_path, metrics_port=port), LOOP, Event())


@pytest.mark.slow
def test_under_up_ingest_has_the_port_and_the_learner_the_next(tmp_path: Path) -> None:
    port = free_ports(2)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STEADYRANK_")}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "steadyrank.py"), "up", "--data", str(tmp_path), "--port", "0"],
        cwd=ROOT,
        env=environment | {"STEADYRANK_METRICS_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert "steadyrank_ingest_records_total" in scrape_patiently(port, 60)
        assert "steadyrank_learner_updates_total" in scrape_patiently(port + 1, 60)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
