"""`make demo-kafka`: the same report as the demo's, on Kafka and PostgreSQL, and nothing of it is left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import psutil  # type: ignore[import-untyped]  # it brings no types
import pytest

ROOT = Path(__file__).parents[2]
START_SECONDS = 90.0
PROMISED_SECONDS = 5.0
"""In which `up` ends all of its own; the parts are killed then."""

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("kafka_at_hand")]


class Demo:
    """A running demo, in a folder of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        command = [sys.executable, "-m", "loadtest.demo_kafka", "--data", str(folder / "demo"), "--port", "0"]
        command += ["--world", "shop", "--report", str(folder / "report.json"), *options]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self.lines: list[str] = []
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            self.lines.extend(iter(self.process.stdout.readline, ""))

    def said(self) -> str:
        return "".join(self.lines)

    def wait_until_busy(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not re.search(r"[1-9]\d* decisions/s", self.said()):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def family(self) -> list[psutil.Process]:
        """All processes that it started, and theirs."""
        found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self._folder / "report.json").read_text())
        return found

    def close(self) -> None:
        if self.process.poll() is None:
            family = self.family()
            os.killpg(self.process.pid, signal.SIGKILL)
            for process in family:
                with_it_gone(process)
            self.process.wait()
        self._reader.join()


def with_it_gone(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    started: list[Demo] = []

    def start(*options: str) -> Demo:
        started.append(Demo(tmp_path, *options))
        return started[-1]

    yield start
    for demo in started:
        demo.close()


def test_a_demo_on_kafka_and_postgresql_learns_and_loses_nothing(start: Callable[..., Demo], tmp_path: Path) -> None:
    demo = start("--for", "12s", "--shoppers", "50")
    assert demo.process.wait(180) == 0, demo.said()
    report = demo.report()
    assert report["world"] == "shop"
    assert report["decisions"] > 0
    assert report["feedback_stored"] == report["feedback_accepted"] > 0
    assert report["requests_failed"] == 0
    assert report["policies_swapped"] >= 1
    assert report["feedback_to_served_seconds"]["p95"] is not None
    assert 0.1 < report["reward_per_decision"]["random"] < 0.4
    assert set(report["restarts"].values()) == {0}
    logs = tmp_path / "demo" / "logs"
    assert "connected to Kafka" in (logs / "serve.log").read_text()
    assert "reading from Kafka" in (logs / "ingest.log").read_text()
    assert not list((tmp_path / "demo").glob("*.db")), "neither store nor log is SQLite's"


def test_ctrl_c_ends_the_demo_and_all_of_its_parts(start: Callable[..., Demo]) -> None:
    demo = start()
    demo.wait_until_busy()
    family = demo.family()
    assert any("kafka.Kafka" in process.cmdline() for process in family)
    assert any(process.name() == "postgres" for process in family)
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(2 * PROMISED_SECONDS) == 0, demo.said()
    assert not [process for process in family if is_alive(process)]
    assert "Traceback" not in demo.said()
    assert demo.report()["world"] == "shop"
