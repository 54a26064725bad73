"""One `up` from its first child to its report, with a program that stands in for the real commands."""

import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from schemas.loop_file import read_loop
from schemas.settings import Settings
from service.up import ranker, run
from service.up.preflight import UpError, locked
from service.up.run import INTERRUPTED, MISSING, Plan, run_up

LOOP = Path(__file__).parents[2] / "loop.toml"
PROGRAM = (sys.executable, str(Path(__file__).with_name("fake_program.py")))


class Up:
    """Runs `run_up` in a folder; what it prints, returns and reports is here."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data=folder / "data", loop=LOOP, port=0)
        self.report_path = folder / "report.json"
        self.out = io.StringIO()
        self.stop = Event()

    def __call__(self, *behaviour: str, world: str | None = "fake", run_seconds: float | None = 0.5) -> int:
        plan = Plan((*PROGRAM, *behaviour), world=world, run_seconds=run_seconds, report=self.report_path)
        return run_up(self.settings, read_loop(LOOP), plan, self.stop, self.out)

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.report_path.read_text())
        return found

    def said(self) -> str:
        return self.out.getvalue()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the children take their time to start, to answer and to end."""
    monkeypatch.setattr(ranker, "_TIMEOUT_SECONDS", 30.0)
    for name in ("KILL_AFTER_SECONDS", "DRAIN_SECONDS", "QUIET_SECONDS"):
        monkeypatch.setattr(run, name, 60.0)


@pytest.fixture
def up(tmp_path: Path) -> Up:
    return Up(tmp_path)


def meanwhile(up: Up, do: Callable[[], object], when: str) -> Thread:
    """Does something once `when` was said."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while not re.search(when, up.said()) and time.monotonic() < deadline:
            time.sleep(0.02)
        do()

    thread = Thread(target=wait)
    thread.start()
    return thread


def pid_of(up: Up, name: str) -> int:
    [*_, pid] = re.findall(rf"^{name} runs .*pid (\d+)", up.said(), re.MULTILINE)
    return int(pid)


def test_a_run_ends_by_itself_when_all_that_was_accepted_is_stored(up: Up) -> None:
    assert up() == 0
    report = up.report()
    assert report["world"] == "fake"
    assert report["feedback_stored"] == report["feedback_accepted"] == 20
    assert report["reward_per_decision"] == {"start": 0.5, "end": 0.5, "random": 0.2}
    assert report["seconds"] >= 0.5
    assert report["policies_swapped"] == 1
    assert report["restarts"] == {"serve": 0, "ingest": 0, "train": 0, "shoppers": 0}
    assert "2.50 × random" in up.said()
    pids = [int(pid) for pid in re.findall(r"runs \(pid (\d+)\)", up.said())]
    assert len(pids) == 4
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    logs = {path.name for path in (up.settings.data / "logs").iterdir()}
    assert logs == {"serve.log", "ingest.log", "train.log", "shoppers.log"}


def test_what_was_accepted_and_never_stored_is_a_failure(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "DRAIN_SECONDS", 0.3)
    assert up("--lazy", "ingest") == MISSING
    assert up.report()["feedback_stored"] == 0
    assert "wrong: 20 of 20 accepted feedback events are not stored" in up.said()


def test_a_run_that_nobody_comes_to_ends_too(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "START_SECONDS", 0.5)
    assert up("--lazy", "shoppers", run_seconds=0.1) == MISSING
    assert "wrong: no decision was made" in up.said()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["serve", "ingest", "train", "shoppers"])
def test_a_child_that_is_killed_is_restarted_and_the_run_goes_on(up: Up, name: str) -> None:
    killer = meanwhile(up, lambda: os.kill(pid_of(up, name), signal.SIGKILL), r"shoppers runs \(pid \d+\)")
    assert up(run_seconds=1.5) == 0
    killer.join()
    assert f"{name} died (signal 9)" in up.said()
    assert f"{name} runs again" in up.said()
    restarts = up.report()["restarts"]
    assert restarts == {"serve": 0, "ingest": 0, "train": 0, "shoppers": 0} | {name: 1}


@pytest.mark.parametrize(("run_seconds", "status"), [(None, 0), (60.0, INTERRUPTED)])
def test_it_stops_when_told(up: Up, run_seconds: float | None, status: int) -> None:
    stopper = meanwhile(up, up.stop.set, r"shoppers runs \(pid \d+\)")
    assert up(run_seconds=run_seconds) == status
    stopper.join()
    assert up.report_path.exists()
    assert "wrong:" not in up.said()


def test_a_child_that_cannot_do_what_it_should_ends_it(up: Up) -> None:
    assert up("--confused", "shoppers") == 2
    assert "shoppers cannot start" in up.said()
    assert "what is a shop?" in up.said()


def test_without_a_world_the_ranker_is_asked(up: Up) -> None:
    assert up(world=None) == 0
    report = up.report()
    assert report["world"] is None
    assert report["decisions"] > 0
    assert report["feedback_accepted"] == 20
    assert "shoppers" not in report["restarts"]


@pytest.mark.parametrize(
    ("world", "given", "found"), [("fake", None, "0"), ("fake", "5", "5"), (None, None, "None"), (None, "5", "5")]
)
def test_a_learner_beside_shoppers_does_not_yield_unless_told(
    up: Up, monkeypatch: pytest.MonkeyPatch, world: str | None, given: str | None, found: str
) -> None:
    monkeypatch.delenv("STEADYRANK_TRAIN_SESSION_NICE", raising=False)
    if given is not None:
        monkeypatch.setenv("STEADYRANK_TRAIN_SESSION_NICE", given)
    up.settings = Settings.from_environment(data=up.settings.data, loop=LOOP, port=0)
    assert up(world=world) == 0
    assert f"niceness {found}\n" in (up.settings.data / "logs" / "train.log").read_text()


def test_it_starts_nothing_beside_another(up: Up) -> None:
    with locked(up.settings.data), pytest.raises(UpError, match="already"):
        up()
    assert up.said() == ""
    assert not up.report_path.exists()


def test_shoppers_have_no_key(up: Up) -> None:
    up.settings = up.settings.model_copy(update={"api_keys": "secret"})
    with pytest.raises(UpError, match="STEADYRANK_API_KEYS"):
        up()


def test_a_folder_of_another_loop_is_refused(up: Up) -> None:
    up.settings.data.mkdir()
    (up.settings.data / "loop.json").write_text('{"name": "shop", "hash": "0"}')
    with pytest.raises(UpError, match="belongs to the loop 'shop'"):
        up()
