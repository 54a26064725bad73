"""The ranker's process."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from schemas.loop_file import Loop
from schemas.settings import Settings, SettingsError
from service.serve import run_serve
from storage.sql_log import SqlEventLogReader

ROOT = Path(__file__).parents[3]
LOOP_FILE = ROOT / "schemas" / "loop.toml"
START = """
import logging, sys
from pathlib import Path
from schemas.loop_file import read_loop
from schemas.settings import Settings
from service.serve import run_serve
logging.basicConfig(level=logging.INFO)
settings = Settings(data=Path(sys.argv[1]), port=0, decision_log_seconds=5.0)
run_serve(settings, read_loop(Path(sys.argv[2])))
assert "torch" not in sys.modules
"""


@contextmanager
def process(data: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The ranker as a process of its own, answering; yields it and its URL."""
    command = [sys.executable, "-W", "error", "-c", START, str(data), str(LOOP_FILE)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stderr is not None
            found = next(filter(None, (re.search(r"http://\S+", line) for line in child.stderr)))
            wait_until_ready(found[0])
            yield child, found[0]
        finally:
            child.kill()


def wait_until_ready(url: str) -> None:
    for _ in range(1_000):
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    pytest.fail("the ranker is not ready")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_end_it_logs_the_last_decisions_and_exits_with_0(tmp_path: Path, number: signal.Signals) -> None:
    with process(tmp_path) as (child, url):
        answers = [httpx.post(f"{url}/recommend", json={"candidates": ["a", "b"]}) for _ in range(10)]
        assert [answer.status_code for answer in answers] == [200] * 10
        child.send_signal(number)
        assert child.wait(10) == 0
    assert num_logged(tmp_path) == 10


def num_logged(data: Path) -> int:
    reader = SqlEventLogReader(Settings(data=data).log_url, clock=time.time)
    try:
        return sum(record.value.count(b'"decided_at"') for record in reader.poll(1_000, 0).records)
    finally:
        reader.close()


def test_killed_it_loses_no_feedback_that_it_acknowledged(tmp_path: Path) -> None:
    with process(tmp_path) as (child, url):
        for i in range(20):
            event = {"decision_id": "d", "kind": "click", "event_id": f"e{i}"}
            assert httpx.post(f"{url}/feedback", json=event).status_code == 202
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
    reader = SqlEventLogReader(Settings(data=tmp_path).log_url, clock=time.time)
    logged = b"".join(record.value for record in reader.poll(1_000, 0).records)
    reader.close()
    assert all(f'"e{i}"'.encode() in logged for i in range(20))


def test_a_port_that_is_taken_is_a_mistake_of_the_settings(tmp_path: Path, loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port}"):
            run_serve(Settings(data=tmp_path, port=port), loop)


def test_a_client_that_sends_too_much_hears_413_on_a_real_socket(tmp_path: Path) -> None:
    with process(tmp_path) as (_, url):
        large = httpx.put(f"{url}/items", content=b" " * (20 << 20), headers={"content-type": "application/json"})
        assert large.status_code == 413
        assert httpx.post(f"{url}/recommend", json={"candidates": ["a"]}).status_code == 200
