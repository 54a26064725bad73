"""The supervisor restarts what dies and ends what it started. Its children here are small Python programs."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import pytest

from service.up.supervisor import Child, ChildFailedError, Supervisor

SLEEP = "import time; print('ready', flush=True); time.sleep(60)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


T = TypeVar("T")


def until(what: Callable[[], T | None]) -> T:
    """What the children do takes real time."""
    deadline = time.monotonic() + 60
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


@contextmanager
def child(folder: Path, code: str, clock: Clock) -> Iterator[Child]:
    one = Child("worker", [sys.executable, "-c", code], folder / "worker.log", clock)
    try:
        yield one
    finally:
        one.terminate()
        one.finish(0)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path / "logs", said.append)
    yield supervisor
    supervisor.stop(max_seconds=0)


def start(supervisor: Supervisor, name: str, code: str) -> None:
    """Returns when the child has got so far as to say that it is ready."""
    lines: SimpleQueue[str] = SimpleQueue()
    supervisor.start(name, [sys.executable, "-c", code], on_line=lines.put)
    assert lines.get(timeout=60) == "ready\n"


def test_what_dies_is_restarted_after_a_back_off_that_doubles_up_to_five_seconds(tmp_path: Path) -> None:
    clock = Clock()
    with child(tmp_path, "raise SystemExit('bad luck')", clock) as worker:
        backoffs = []
        for attempt in range(7):
            news = until(worker.step)
            assert "worker died (exit status 1)" in news
            assert news.count("bad luck") == 1, "the last lines are of this life only"
            waited = 0.0
            while worker.state == "waiting":
                assert worker.restarts == attempt
                clock.now += 0.1
                waited += 0.1
                worker.step()
            backoffs.append(round(waited, 1))
        assert backoffs == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_child_that_lived_for_ten_seconds_is_restarted_at_once_again(tmp_path: Path) -> None:
    clock = Clock()
    with child(tmp_path, "import time; time.sleep(60)", clock) as worker:
        for lived, backoff in [(1, "0.2"), (9.9, "0.4"), (10, "0.2"), (1, "0.4")]:
            clock.now += lived
            os.kill(worker.pid, signal.SIGKILL)
            assert f"worker died (signal 9); restarting it in {backoff} s" in until(worker.step)
            clock.now += 10
            worker.step()
            assert worker.state == "running"
        assert worker.restarts == 4


def test_a_child_that_was_used_wrongly_is_not_restarted(supervisor: Supervisor) -> None:
    code = "import sys; sys.stderr.write('no such loop file'); sys.exit(2)"
    supervisor.start("train", [sys.executable, "-c", code])
    with pytest.raises(ChildFailedError, match=r"(?s)train cannot start.*no such loop file"):
        until(supervisor.step)


def test_others_go_on_when_one_dies(supervisor: Supervisor, said: list[str]) -> None:
    start(supervisor, "serve", SLEEP)
    start(supervisor, "ingest", SLEEP)
    serve, ingest = supervisor.children["serve"], supervisor.children["ingest"]
    pid = serve.pid
    os.kill(ingest.pid, signal.SIGKILL)

    def is_back() -> bool:
        supervisor.step()
        return ingest.restarts == 1

    said.clear()
    until(is_back)
    assert [news.split(";")[0] for news in said] == ["ingest died (signal 9)", f"ingest runs again (pid {ingest.pid})"]
    assert (serve.pid, serve.restarts, serve.state) == (pid, 0, "running")


def test_stop_ends_all_at_once_and_kills_what_does_not_listen(supervisor: Supervisor, said: list[str]) -> None:
    for name, code in [("serve", SLEEP), ("ingest", DEAF), ("train", DEAF)]:
        start(supervisor, name, code)
    said.clear()
    supervisor.stop(max_seconds=0.3)
    for one in supervisor.children.values():
        with pytest.raises(ProcessLookupError):
            os.kill(one.pid, 0)
    supervisor.step()
    supervisor.stop()
    assert said == [], "what was stopped is neither missed nor restarted"


def test_some_may_be_stopped_before_the_others(supervisor: Supervisor) -> None:
    start(supervisor, "serve", SLEEP)
    start(supervisor, "shoppers", SLEEP)
    supervisor.stop(["shoppers"])
    assert [one.state for one in supervisor.children.values()] == ["running", "stopped"]
    os.kill(supervisor.children["serve"].pid, 0)


def test_all_lines_are_heard_when_a_child_has_finished(supervisor: Supervisor) -> None:
    code = (
        "import signal, sys, time\n"
        "def leave(*_):\n"
        "    print('last words', flush=True)\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        "print('first', flush=True)\n"
        "time.sleep(60)"
    )
    lines: list[str] = []
    supervisor.start("shoppers", [sys.executable, "-c", code], on_line=lines.append)
    until(lambda: lines)
    supervisor.stop(max_seconds=60)
    assert lines == ["first\n", "last words\n"]


def test_a_child_inherits_the_files_that_it_is_given_and_no_others(supervisor: Supervisor) -> None:
    given, other = os.pipe(), os.pipe()
    code = f"import os; os.write({given[1]}, b'here'); os.write({other[1]}, b'here')"
    supervisor.start("serve", [sys.executable, "-c", code], files=[given[1]])
    news = until(supervisor.children["serve"].step)
    assert "Bad file descriptor" in news
    assert os.read(given[0], 100) == b"here"
    for end in (*given, *other):
        os.close(end)


def test_the_log_of_the_run_before_is_kept(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    for text in ("first", "second", "third"):
        supervisor = Supervisor(logs, print)
        supervisor.start("serve", [sys.executable, "-c", f"print({text!r}); raise SystemExit(1)"])
        until(supervisor.children["serve"].step)
        supervisor.stop()
    assert (logs / "serve.log").read_text() == "third\n"
    assert (logs / "serve.log.1").read_text() == "second\n"
