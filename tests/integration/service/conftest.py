"""A ranker in this process, on a real store and event log, driven step by step: what it does in the background goes on
while a request is made, and while a test waits.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from schemas.loop_file import Loop
from schemas.messages import Decision, FeedbackEvent
from schemas.settings import Settings
from service import decision_log
from service.app import create_app
from service.bootstrap import make_parts
from storage.database import migrate, open_store
from storage.registry import PolicyRegistry
from storage.sql_log import SqlEventLogReader
from tests.unit.service import made


class LocalRanker:
    """The ranker's application without a socket."""

    def __init__(self, settings: Settings, loop: Loop) -> None:
        self.settings, self.loop = settings, loop
        self.parts = make_parts(settings, loop)
        self._runner = asyncio.Runner()
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(self.parts)), base_url="http://ranker", timeout=30
        )
        self._running = self.parts.running()
        self._runner.run(self._running.__aenter__())

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.run(self._running.__aexit__(None, None, None))
        self._runner.close()

    def ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **how))

    def post(self, path: str, body: object = None, **how: Any) -> httpx.Response:
        return self.ask("POST", path, json=body, **how)

    def recommend(self, **request: Any) -> dict[str, Any]:
        answer = self.post("/recommend", request)
        assert answer.status_code == 200, answer.text
        return answer.json()  # type: ignore[no-any-return]  # an object

    def put_items(self, *items: dict[str, Any]) -> None:
        assert self.ask("PUT", "/items", json=items).status_code == 200

    def wait_for(self, happened: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, "it did not happen"
            self._runner.run(asyncio.sleep(0.01))

    def wait(self, seconds: float) -> None:
        self._runner.run(asyncio.sleep(seconds))

    def publish(self, version: str, score: float, **of_manifest: Any) -> Path:
        """A policy that gives every item this score becomes champion; returns its folder."""
        tensors = made.constant_tensors(self.loop, score)
        folder = self.settings.policies_folder
        manifest = made.write(folder, self.loop, tensors, version=version, **of_manifest)
        engine = open_store(self.settings.store_url)
        registry = PolicyRegistry(engine, time.time)
        registry.publish(manifest, "published")
        registry.promote(version, pinned=False)
        engine.dispose()
        return folder / version

    def logged(self) -> tuple[list[Decision], list[FeedbackEvent]]:
        """All that is in the event log."""
        decisions: list[Decision] = []
        feedback: list[FeedbackEvent] = []
        reader = SqlEventLogReader(self.settings.log_url, clock=time.time)
        for record in reader.poll(100_000, 0).records:
            if record.partition.topic == "decisions":
                decisions += msgspec.json.decode(record.value, type=list[Decision])
            else:
                feedback += msgspec.json.decode(record.value, type=list[FeedbackEvent])
        reader.close()
        return decisions, feedback


@contextmanager
def locked(path: Path, busy_seconds: float = 5.0) -> Iterator[None]:
    """A SQLite file that nobody else can read or write, as a restore or a stuck backup would have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None, timeout=busy_seconds)) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")
            connection.execute("PRAGMA locking_mode=NORMAL")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # only then the lock is let go


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its end a ranker waits for the disk as long as it takes."""
    monkeypatch.setattr(decision_log, "_FINISH_BY_LOG_SECONDS", 30.0)
    monkeypatch.setattr(decision_log, "FINISH_SECONDS", 60.0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A log that takes its time on a busy disk is not silent: what it took must not go to the spool as well."""
    return Settings(data=tmp_path, champion_poll_seconds=0.02, items_poll_seconds=0.02, log_patience_seconds=30)


@pytest.fixture
def loop() -> Loop:
    return made.slate_loop()


@pytest.fixture
def ranker(settings: Settings, loop: Loop) -> Iterator[LocalRanker]:
    """Ready, on an empty store."""
    migrate(settings.store_url)
    ranker = LocalRanker(settings, loop)
    ranker.wait_for(lambda: ranker.parts.is_ready)
    yield ranker
    ranker.close()
