"""The learner as a process, on a real store: it publishes, survives a kill, and waits for a store that is away."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event, Thread
from unittest.mock import patch

import pytest
import torch

from policies.files import read_manifest, read_policy
from policies.policy import SlatePolicy
from schemas.loop_file import parse_loop
from schemas.messages import Decision, LoggedItem
from schemas.settings import Settings
from storage.database import migrate, open_store
from storage.registry import PolicyRegistry
from storage.replay_store import ReplayStore, RewardRow
from storage.story import decision_story
from trainer import loop as loop_module
from trainer import run as run_module
from trainer.checkpoint import FILE, Checkpoint, usable_checkpoint
from trainer.loop import LearnerLoop, training_kind
from trainer.run import LearnerIsRunningError, only_learner, run_train

START = 1_800_000_000.0
LOOP_TEXT = """
name = "shop"
[state]
place = { kind = "category", size = 4 }
[item]
id = { kind = "category", buckets = 200 }
[action]
kind = "slate"
size = 1
[reward]
click = 1.0
wait = "10s"
[session]
ends = ["leave"]
[learner]
agent = "dqn"
stabilizer = "srs2"
batch_size = 32
decisions_per_update = 5
min_decisions = 100
publish_every = "100ms"
[exploration]
kind = "softmax"
"""
LOOP = parse_loop(LOOP_TEXT)
TRAIN = """
import sys
from pathlib import Path
from threading import Event
from schemas.loop_file import parse_loop
from schemas.settings import Settings
from trainer import loop
from trainer.run import LearnerIsRunningError, only_learner, run_train
loop.CHECKPOINT_EVERY_SECONDS = 0.2
run_train(Settings(data=Path(sys.argv[1])), parse_loop(sys.argv[2]), Event())
"""


class Store:
    """What ingest would have written."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data=folder)
        migrate(self.settings.store_url)
        self.engine = open_store(self.settings.store_url)
        self.registry = PolicyRegistry(self.engine, time.time)
        self.num_decisions = 0

    def decide(self, num: int) -> None:
        """Decisions of sessions of 5, with final rewards: items 0 and 1 are always clicked, the others never."""
        numbers = range(self.num_decisions, self.num_decisions + num)
        self.num_decisions += num
        decisions = [(_decision(n), START + n) for n in numbers]
        rewards = [RewardRow(f"d{n}", (float(n % 7 < 2),), n % 5 == 4, START + n + 10, None) for n in numbers]
        with ReplayStore(self.engine).transaction() as transaction:
            transaction.add_decisions(decisions)
            transaction.write_rewards(rewards)

    def champion(self) -> str:
        champion = self.registry.champion()
        return "" if champion is None else champion.version

    def is_served_and_kept(self) -> bool:
        """Whether a few policies and a training state are there; each time it is asked, more decisions come."""
        self.decide(20)
        return (self.settings.training_folder / FILE).exists() and self.champion() > "000003"

    def has_learned(self, num_updates: int) -> bool:
        """Whether the champion had so many updates; each time it is asked, more decisions come."""
        self.decide(50)
        champion = self.champion()
        folder = self.settings.policies_folder / champion
        return champion != "" and read_manifest(folder).metrics["updates"] >= num_updates

    def checkpoint(self) -> Checkpoint:
        checkpoint = usable_checkpoint(self.settings.training_folder, training_kind(LOOP))
        assert checkpoint is not None
        return checkpoint


def _decision(n: int) -> Decision:
    return Decision(
        decision_id=f"d{n}",
        decided_at=datetime.fromtimestamp(START + n, UTC),
        mode="explore",
        loop_hash=LOOP.hash,
        seed=n,
        items=[LoggedItem(f"i{n % 7}", 0, 0.0, 0.25, {})],
        context={"place": n % 4},
        session_id=f"s{n // 5}",
        candidates=[f"i{(n + k) % 7}" for k in range(4)],
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.engine.dispose()


@contextmanager
def training(store: Store) -> Iterator[None]:
    stop = Event()
    thread = Thread(target=run_train, args=(store.settings, LOOP, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=60)
    assert not thread.is_alive()


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_it_publishes_what_it_learned_and_tells_the_story(store: Store) -> None:
    store.decide(200)
    # However slow it is, a policy has learned from all that is there.
    with patch.object(loop_module, "MAX_LEARN_SECONDS", 60.0), training(store):
        wait_until(lambda: store.champion() != "")
        first = store.champion()
        store.decide(100)
        wait_until(lambda: store.champion() > first)
    policy = read_policy(store.settings.policies_folder / store.champion(), LOOP)
    assert policy.manifest.revision == 2
    assert policy.manifest.metrics["admitted_decisions"] == 300.0
    story = decision_story(store.engine, "d4")
    assert story is not None
    assert story.training is not None
    assert story.training.policy_version == "000001"
    assert story.training.estimates == story.training.stabilized
    assert story.rewards == (0.0,)


def test_when_told_to_stop_it_keeps_its_state_and_goes_on_from_it(store: Store) -> None:
    store.decide(200)
    with training(store):
        wait_until(lambda: store.champion() != "")
    before, kept = store.champion(), store.checkpoint().facts["progress"]
    store.decide(50)
    with training(store):
        wait_until(lambda: store.champion() > before)
    manifest = read_manifest(store.settings.policies_folder / f"{int(before) + 1:06d}")
    assert manifest.parent == before
    assert manifest.metrics["updates"] > kept["num_updates"] > 0
    assert manifest.metrics["admitted_decisions"] == kept["num_admitted"] + 50 == 250


@pytest.mark.slow
def test_after_kill_9_it_goes_on_from_the_state_that_was_kept(store: Store) -> None:
    process = subprocess.Popen([sys.executable, "-c", TRAIN, str(store.settings.data), LOOP_TEXT])
    try:
        wait_until(store.is_served_and_kept, seconds=60.0)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    before = store.checkpoint()
    resumed: list[Checkpoint] = []

    def look(learner: LearnerLoop, _: Event) -> None:
        learner.keep()
        resumed.append(store.checkpoint())

    with patch.object(LearnerLoop, "run", look):
        run_train(store.settings, LOOP, Event())
    assert resumed[0].facts == before.facts
    assert resumed[0].tensors.keys() == before.tensors.keys()
    assert all(torch.equal(resumed[0].tensors[name], before.tensors[name]) for name in before.tensors)
    killed_at = store.champion()
    store.decide(100)
    with training(store):
        wait_until(lambda: store.champion() > killed_at)
    assert store.checkpoint().facts["progress"]["num_admitted"] == store.num_decisions


def test_a_second_learner_on_the_same_folder_is_refused(store: Store) -> None:
    folder = store.settings.training_folder
    with only_learner(folder), pytest.raises(LearnerIsRunningError, match=str(folder)):
        run_train(store.settings, LOOP, Event())
    with only_learner(folder):  # free again
        pass


def test_a_damaged_state_is_said_so_and_it_starts_afresh(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.settings.training_folder.mkdir()
    (store.settings.training_folder / FILE).write_bytes(b"not what it was")
    store.decide(200)
    with training(store):
        wait_until(lambda: store.champion() != "")
    assert "starting afresh" in caplog.text
    assert store.checkpoint().facts["progress"]["num_admitted"] == 200


def test_while_the_store_is_locked_it_waits_and_says_so(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.decide(200)
    lock = sqlite3.connect(store.settings.data / "steadyrank.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with patch.object(run_module, "open_store", partial(open_store, busy_seconds=0.1)), training(store):
        wait_until(lambda: "locked" in caplog.text)
        lock.execute("ROLLBACK")
        lock.close()
        wait_until(lambda: store.champion() != "")


def test_the_policy_prefers_what_was_clicked(store: Store) -> None:
    with training(store):
        wait_until(lambda: store.has_learned(num_updates=300), seconds=60.0)
    policy = read_policy(store.settings.policies_folder / store.champion(), LOOP)
    assert isinstance(policy, SlatePolicy)
    state = policy.state_vectors([policy.state_encoder.encode({"place": 0})])[0]
    scores = policy.scores(state, policy.item_vectors([policy.item_encoder.encode(f"i{k}", {}) for k in range(7)]))
    assert scores[:2].min() > scores[2:].max() + 0.3  # .6 to .9, by how many batches it drew of which decisions
