"""A learner that never comes to an end of its work, on the data folder of a ranker."""

import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any

import psutil  # type: ignore[import-untyped]  # it brings no types

from bench.rankers import ROOT, Workload, request
from loadtest.parts.process import ProcessTree, wait_until
from loadtest.parts.server import PartFailedError
from policies.files import read_manifest
from schemas.messages import Decision, LoggedItem
from schemas.settings import Settings
from storage.database import open_store
from storage.registry import PolicyRegistry
from storage.replay_store import ReplayStore, RewardRow

NUM_DECISIONS = 5_000
"""Stored before it starts."""
_A_SECOND = 100
_DECISIONS_PER_UPDATE = 0.1  # ten updates for each decision: always more than it can do
_START_SECONDS = 60.0


class Learner:
    """`steadyrank train`, paused and resumed so that rounds with it and without it can take turns."""

    def __init__(self, process: ProcessTree, settings: Settings) -> None:
        self._process, self._settings = process, settings
        self.pause, self.resume = process.pause, process.resume

    @property
    def cpu_seconds(self) -> float:
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def num_updates(self) -> int:
        """By the newest policy that it promoted; 0: it has promoted none."""
        engine = open_store(self._settings.store_url)
        try:
            found = PolicyRegistry(engine, time.time).champion()
        finally:
            engine.dispose()
        metrics: dict[str, Any] = {}
        if found is not None:
            metrics = dict(read_manifest(self._settings.policies_folder / found.version).metrics)
        return int(metrics.get("updates", 0))


@contextmanager
def learner(settings: Settings, workload: Workload) -> Iterator[Learner]:
    """Learning, once it has promoted a policy of its own; decisions with rewards keep coming.

    Raises:
        PartFailedError: it promoted none in a minute.
    """
    _unpin(settings)
    feed = _Feed(settings, workload)
    feed.add(NUM_DECISIONS)
    loop_file = settings.loop.with_name("learner.toml")
    pace = f"[learner]\ndecisions_per_update = {_DECISIONS_PER_UPDATE}\n"
    loop_file.write_text(workload.loop_text.replace("[learner]\n", pace))
    command = [sys.executable, str(ROOT / "steadyrank.py"), "train", "--data", str(settings.data)]
    log = settings.data.parent / "learner.log"
    process = ProcessTree([*command, "--loop", str(loop_file)], log)
    it = Learner(process, settings)
    try:
        with feed.running():
            if not wait_until(lambda: it.num_updates > 0 or not process.is_running, _START_SECONDS, 0.2):
                raise PartFailedError(f"it promoted nothing: {log.read_text()[-2_000:]}")
            yield it
    finally:
        process.kill()


class _Feed:
    """What ingest would have written."""

    def __init__(self, settings: Settings, workload: Workload) -> None:
        self._settings, self._workload = settings, workload
        self._loop_hash = workload.loop.hash
        self._num, self._chance = 0, random.Random(0)

    def add(self, num: int) -> None:
        numbers = range(self._num, self._num + num)
        self._num += num
        now = time.time()
        engine = open_store(self._settings.store_url)
        try:
            with ReplayStore(engine).transaction() as transaction:
                transaction.add_decisions([(self._decision(n, now), now) for n in numbers])
                transaction.write_rewards([self._reward(n, now) for n in numbers])
        finally:
            engine.dispose()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Some more of them every second."""
        stop = Event()

        def feed() -> None:
            while not stop.wait(1.0):
                self.add(_A_SECOND)

        thread = Thread(target=feed, name="feed", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _decision(self, n: int, now: float) -> Decision:
        asked: Any = request(self._chance, self._workload)
        shown = asked["candidates"][:10]
        items = [
            LoggedItem(item_id, position, 0.0, 0.1, self._workload.features(int(item_id[1:])))
            for position, item_id in enumerate(shown)
        ]
        return Decision(
            decision_id=f"fed-{n}",
            decided_at=datetime.fromtimestamp(now + 1e-6 * n, UTC),
            mode="explore",
            loop_hash=self._loop_hash,
            seed=n,
            items=items,
            context=asked["context"],
            user_id=asked["user_id"],
            candidates=asked["candidates"],
        )

    def _reward(self, n: int, now: float) -> RewardRow:
        return RewardRow(f"fed-{n}", tuple(float(self._chance.random() < 0.1) for _ in range(10)), False, now, None)


def _unpin(settings: Settings) -> None:
    engine = open_store(settings.store_url)
    try:
        PolicyRegistry(engine, time.time).unpin()
    finally:
        engine.dispose()
