"""`steadyrank up` as a whole: it ends by itself with a report that adds up, whatever is killed, and ends when told."""

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
from typing import Any, TypeVar

import pytest

ROOT = Path(__file__).parents[2]
NUM_SHOPPERS = 100
CHILDREN = ("serve", "ingest", "train", "shoppers")
PROMISED_SECONDS = 5.0
"""In which all ends, when it is told to or `up` is killed."""

pytestmark = pytest.mark.slow

T = TypeVar("T")


class Up:
    """A running `steadyrank up` on a folder of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.lines: list[str] = []
        command = [sys.executable, str(ROOT / "steadyrank.py"), "up", "--world", "shop", "--port", "0"]
        command += ["--shoppers", str(NUM_SHOPPERS), *options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STEADYRANK_")}
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            self.lines.extend(iter(self.process.stdout.readline, ""))

    def said(self) -> str:
        return "".join(self.lines)

    def wait_for(self, what: Callable[[], T | None], max_seconds: float = 60.0) -> T:
        deadline = time.monotonic() + max_seconds
        while not (found := what()):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)
        return found

    def wait_until_busy(self) -> None:
        self.wait_for(lambda: re.search(r"[1-9]\d* decisions/s", self.said()))

    def pids(self, name: str) -> list[int]:
        """Of all the processes that this child was, oldest first."""
        return [int(pid) for pid in re.findall(rf"^{name} runs(?: again)? \(pid (\d+)\)", self.said(), re.MULTILINE)]

    def kill(self, name: str) -> None:
        """Returns when the supervisor has it running again."""
        pids = self.pids(name)
        os.kill(pids[-1], signal.SIGKILL)
        self.wait_for(lambda: len(self.pids(name)) > len(pids))

    def end(self, max_seconds: float) -> int:
        status = self.process.wait(max_seconds)
        self._reader.join()
        return status

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return found

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._reader.join()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*options: str) -> Up:
        started.append(Up(tmp_path, *options))
        return started[-1]

    yield start
    for up in started:
        up.close()


def is_alive(pid: int) -> bool:
    """A zombie, whose parent is gone and which nobody has reaped yet, is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_run_learns_and_loses_nothing(start: Callable[..., Up]) -> None:
    up = start("--for", "15s", "--report", "report.json")
    assert up.end(120) == 0, up.said()
    report = up.report()
    assert report["world"] == "shop"
    assert report["decisions"] > 0
    assert report["feedback_stored"] == report["feedback_accepted"] > 0
    assert report["requests_failed"] == 0
    assert report["policies_swapped"] >= 1
    assert report["feedback_to_served_seconds"]["p95"] is not None
    assert 0.1 < report["reward_per_decision"]["random"] < 0.4
    assert report["reward_per_decision"]["start"] > 0
    assert report["restarts"] == dict.fromkeys(CHILDREN, 0)
    assert not any(is_alive(pid) for name in CHILDREN for pid in up.pids(name))


def test_whatever_is_killed_the_others_go_on_and_nothing_accepted_is_missing(start: Callable[..., Up]) -> None:
    up = start("--for", "25s", "--report", "report.json")
    up.wait_until_busy()
    for name in CHILDREN:
        up.kill(name)
        time.sleep(1)
    assert up.end(120) == 0, up.said()
    report = up.report()
    assert report["feedback_stored"] >= report["feedback_accepted"] > 0
    assert report["requests_failed"] <= NUM_SHOPPERS, "what was in flight when the ranker was killed, and no more"
    assert report["restarts"] == dict.fromkeys(CHILDREN, 1)
    assert report["decisions"] > 0
    assert report["policies_swapped"] >= 1
    assert report["feedback_to_served_seconds"]["p95"] is not None
    for name in CHILDREN:
        assert f"{name} died (signal 9)" in up.said()


def test_ctrl_c_ends_all_in_five_seconds(start: Callable[..., Up]) -> None:
    up = start("--report", "report.json")
    up.wait_until_busy()
    up.process.send_signal(signal.SIGINT)
    assert up.end(PROMISED_SECONDS) == 0, up.said()
    assert "Traceback" not in up.said()
    assert not any(is_alive(pid) for name in CHILDREN for pid in up.pids(name))
    assert up.report()["decisions"] > 0
    for name in CHILDREN:
        assert "Traceback" not in (up.folder / "data" / "logs" / f"{name}.log").read_text()


def test_the_children_of_an_up_that_is_killed_end_in_five_seconds(start: Callable[..., Up]) -> None:
    up = start()
    up.wait_until_busy()
    pids = [up.pids(name)[-1] for name in CHILDREN]
    assert all(is_alive(pid) for pid in pids)
    up.process.kill()
    deadline = time.monotonic() + PROMISED_SECONDS
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    again = start("--for", "3s", "--report", "report.json")  # no lock is left behind
    assert again.end(60) == 0, again.said()


def test_a_second_up_on_the_same_folder_is_refused_and_the_first_goes_on(start: Callable[..., Up]) -> None:
    first = start()
    first.wait_for(lambda: first.pids("serve"))
    second = start()
    assert second.end(30) == 2
    assert f"runs on {first.folder / 'data'} already (pid {first.process.pid})" in second.said()
    assert first.process.poll() is None
    first.process.send_signal(signal.SIGTERM)
    assert first.end(PROMISED_SECONDS) == 0
