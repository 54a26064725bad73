"""The ranker's process."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import httpx
import pytest
import uvloop

from schemas.loop_file import Loop
from schemas.settings import Settings, SettingsError
from service.serve import listeners, run_serve
from storage.sql_log import SqlEventLogReader
from tests.integration.service.conftest import locked

ROOT = Path(__file__).parents[3]
LOOP_FILE = ROOT / "schemas" / "loop.toml"
PATIENCE_SECONDS = 60.0
START = """
import json, logging, sys
from pathlib import Path
from schemas.loop_file import read_loop
from schemas.settings import Settings
from service import decision_log
from service.serve import run_serve
decision_log._FINISH_BY_LOG_SECONDS, decision_log.FINISH_SECONDS = 30, 60
logging.basicConfig(level=logging.INFO)
settings = Settings(data=Path(sys.argv[1]), port=0, **json.loads(sys.argv[3]))
run_serve(settings, read_loop(Path(sys.argv[2])))
assert "torch" not in sys.modules
"""


@contextmanager
def process(
    data: Path, *, decision_log_seconds: float = 5.0, is_durable: bool = False
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The ranker as a process of its own, answering; yields it and its URL."""
    settings = json.dumps(
        {
            "decision_log_seconds": decision_log_seconds,
            "durable_decisions": is_durable,
            "log_patience_seconds": 30,  # on a busy disk a log that takes its time is not silent
        }
    )
    command = [sys.executable, "-W", "error", "-c", START, str(data), str(LOOP_FILE), settings]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stderr is not None
            found = next(filter(None, (re.search(r"http://\S+", line) for line in child.stderr)))
            wait_until_ready(found[0])
            yield child, found[0]
        finally:
            child.kill()


def wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz", timeout=PATIENCE_SECONDS).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    pytest.fail("the ranker is not ready")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_end_it_logs_the_last_decisions_and_exits_with_0(tmp_path: Path, number: signal.Signals) -> None:
    with process(tmp_path) as (child, url):
        answers = [recommend(url) for _ in range(10)]
        assert [answer.status_code for answer in answers] == [200] * 10
        child.send_signal(number)
        assert child.wait(PATIENCE_SECONDS) == 0
    assert num_logged(tmp_path) == 10


def recommend(url: str) -> httpx.Response:
    return httpx.post(f"{url}/recommend", json={"candidates": ["a", "b"]}, timeout=PATIENCE_SECONDS)


def num_logged(data: Path) -> int:
    return logged(data).count(b'"decided_at"')


@pytest.mark.slow
def test_killed_it_loses_no_feedback_that_it_acknowledged(tmp_path: Path) -> None:
    with process(tmp_path) as (child, url):
        for i in range(20):
            event = {"decision_id": "d", "kind": "click", "event_id": f"e{i}"}
            assert httpx.post(f"{url}/feedback", json=event, timeout=PATIENCE_SECONDS).status_code == 202
        os.kill(child.pid, signal.SIGKILL)
        child.wait(PATIENCE_SECONDS)
    found = logged(tmp_path)
    assert all(f'"e{i}"'.encode() in found for i in range(20))


def logged(data: Path) -> bytes:
    reader = SqlEventLogReader(Settings(data=data).log_url, clock=time.time)
    try:
        return b"".join(record.value for record in reader.poll(1_000, 0).records)
    finally:
        reader.close()


def wait_until_relayed(data: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if not list((data / "spool").iterdir()):
            return
        time.sleep(0.02)
    pytest.fail("the spool was not relayed")


@pytest.mark.slow
def test_killed_in_an_outage_it_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    """The next process adopts what the dead one had spooled."""
    with process(tmp_path) as (child, url), locked(tmp_path / "events.db"):
        for i in range(20):
            event = {"decision_id": "d", "kind": "click", "event_id": f"e{i}"}
            accepted = httpx.post(f"{url}/feedback", json=event, timeout=PATIENCE_SECONDS)
            assert (accepted.status_code, accepted.json()) == (202, {"accepted": 1, "spooled": 1})
        os.kill(child.pid, signal.SIGKILL)
        child.wait(PATIENCE_SECONDS)
    assert b'"e0"' not in logged(tmp_path)
    with process(tmp_path):
        wait_until_relayed(tmp_path)
    relayed = logged(tmp_path)
    assert [relayed.count(f'"e{i}"'.encode()) for i in range(20)] == [1] * 20


@pytest.mark.slow
def test_killed_it_loses_only_decisions_that_were_not_acknowledged_yet(tmp_path: Path) -> None:
    """Those of the last 20 ms, and of as long as the log's acknowledgement takes: here 2 s, for a busy disk."""
    answered: dict[str, float] = {}
    with process(tmp_path, decision_log_seconds=0.02) as (child, url), httpx.Client(timeout=30) as client:
        started = time.monotonic()
        while time.monotonic() < started + 3:
            answer = client.post(f"{url}/recommend", json={"candidates": ["a", "b"]})
            answered[answer.json()["decision_id"]] = time.monotonic()
        os.kill(child.pid, signal.SIGKILL)
        killed = time.monotonic()
        child.wait(PATIENCE_SECONDS)
    found = logged(tmp_path)
    lost = [at for decision_id, at in answered.items() if f'"{decision_id}"'.encode() not in found]
    assert all(at > killed - 2 for at in lost)
    assert len(lost) < len(answered)


@pytest.mark.slow
@pytest.mark.parametrize("is_log_away", [False, True])
def test_killed_right_after_an_answer_it_loses_no_durable_decision(tmp_path: Path, is_log_away: bool) -> None:
    with process(tmp_path, is_durable=True) as (child, url):
        with locked(tmp_path / "events.db") if is_log_away else nullcontext():
            asked = [recommend(url) for _ in range(20)]
            os.kill(child.pid, signal.SIGKILL)
            child.wait(PATIENCE_SECONDS)
        ids = [answer.json()["decision_id"] for answer in asked]
    if is_log_away:
        with process(tmp_path):
            wait_until_relayed(tmp_path)
    found = logged(tmp_path)
    assert [found.count(f'"{each}"'.encode()) for each in ids] == [1] * 20


FRUGAL = """
import sys, threading
from pathlib import Path
from schemas.loop_file import read_loop
from schemas.settings import Settings
from service import serve
stop = threading.Event()
serve._SETTLED_SECONDS = 0.01
serve.share_one_arena = lambda: print(threading.active_count(), "thread")
serve.give_memory_back = lambda: (print("given back"), stop.set())
serve.run_serve(Settings(data=Path(sys.argv[1]), port=0), read_loop(Path(sys.argv[2])), stop)
"""


def test_it_shares_one_arena_before_it_has_threads_and_gives_back_what_its_start_needed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FRUGAL, str(tmp_path), str(LOOP_FILE)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.stdout.splitlines() == ["1 thread", "given back"]


def test_a_port_that_is_taken_is_a_mistake_of_the_settings(tmp_path: Path, loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port}"):
            run_serve(Settings(data=tmp_path, port=port), loop)


def test_a_client_that_sends_too_much_hears_413_on_a_real_socket(tmp_path: Path) -> None:
    with process(tmp_path) as (_, url):
        large = httpx.put(
            f"{url}/items",
            content=b" " * (20 << 20),
            headers={"content-type": "application/json"},
            timeout=PATIENCE_SECONDS,
        )
        assert large.status_code == 413
        assert recommend(url).status_code == 200


def test_a_crowd_of_connections_is_taken_in_a_few_turns_of_the_loop() -> None:
    new_loop = uvloop.new_event_loop
    with socket.create_server(("127.0.0.1", 0)) as listener, asyncio.Runner(loop_factory=new_loop) as runner:
        clients = [socket.create_connection(listener.getsockname()) for _ in range(100)]
        assert runner.run(_turns_to_take(listener, len(clients))) < 20  # uvloop alone takes 100
        for client in clients:
            client.close()


async def _turns_to_take(listener: socket.socket, num: int) -> int:
    taken: list[asyncio.BaseTransport] = []

    class Counted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            taken.append(transport)

    loop, num_turns = asyncio.get_running_loop(), 0
    servers = [await loop.create_server(Counted, sock=each) for each in listeners(listener)]
    while len(taken) < num:
        await asyncio.sleep(0)
        num_turns += 1
    for server in servers:
        server.close()
    for transport in taken:
        transport.close()
    return num_turns
