"""`steadyrank serve --workers 2`, as a process of its own."""

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]  # it brings no types
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.service.test_serve import LOOP_FILE, PATIENCE_SECONDS, ROOT, wait_until_ready

SERVE = [sys.executable, "-W", "error", str(ROOT / "steadyrank.py"), "serve", "--loop", str(LOOP_FILE), "--port", "0"]


@contextmanager
def workers(data: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Both answering; yields the parent and their URL."""
    command = [*SERVE, "--data", str(data), "--workers", "2"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stderr is not None
            found = next(filter(None, (re.search(r"(\S+): 2 workers", line) for line in parent.stderr)))
            url = f"http://{found[1]}"
            wait_until_ready(url)
            wait_for(lambda: len(answering(url)) == 2)
            yield parent, url
        finally:
            parent.kill()


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if happened():
            return
        time.sleep(0.02)
    pytest.fail("it did not happen")


def answering(url: str) -> set[int]:
    """The processes that answer new connections."""
    port = int(url.rsplit(":", 1)[1])
    found = set()
    for _ in range(12):
        # One that waited for a worker that was killed just now is reset.
        with suppress(ConnectionError), closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            connection.request("GET", "/livez")
            connection.getresponse().read()
            open_now = [each for each in psutil.net_connections("tcp") if each.status == "ESTABLISHED"]
            found |= {each.pid for each in open_now if each.laddr.port == port}
    return found


def decisions(url: str) -> float:
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=PATIENCE_SECONDS).text)
    samples = [sample for family in families for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == "steadyrank_decisions_total")


def ask(url: str, num: int) -> list[int]:
    """Each on a connection of its own, so that both workers get some."""
    statuses = []
    for _ in range(num):
        with closing(http.client.HTTPConnection("127.0.0.1", int(url.rsplit(":", 1)[1]))) as connection:
            connection.request("POST", "/recommend", b'{"candidates": ["a", "b"]}')
            statuses.append(connection.getresponse().status)
    return statuses


@pytest.mark.slow
def test_two_share_a_port_and_their_metrics_and_one_that_dies_is_restarted(tmp_path: Path) -> None:
    with workers(tmp_path) as (parent, url):
        first, second = sorted(answering(url))
        assert ask(url, 40) == [200] * 40
        wait_for(lambda: decisions(url) >= 40)  # each writes what it counted every second
        assert decisions(url) == 40
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: len(psutil.Process(parent.pid).children()) == 2 and len(answering(url)) == 2)
        assert first not in answering(url)
        assert second in answering(url)
        assert ask(url, 20) == [200] * 20
        wait_for(lambda: decisions(url) >= 60)
        assert decisions(url) == 60
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(PATIENCE_SECONDS) == 0
        assert not psutil.pid_exists(second)


def test_no_number_of_workers(tmp_path: Path) -> None:
    command = [*SERVE, "--data", str(tmp_path), "--workers", "0"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "'0' is no number from 1 on" in ended.stderr
