"""Wires the learner to its parts: the process behind `steadyrank train`."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import numpy as np
import torch
from prometheus_client import CollectorRegistry

from schemas.loop_file import Loop
from schemas.settings import Settings
from storage.catalogue import Catalogue
from storage.database import migrate, open_store
from storage.registry import PolicyRegistry
from storage.reward_tail import RewardTail
from trainer.loop import LearnerLoop
from trainer.metrics import LearnerMetrics
from trainer.metrics_server import serving_metrics
from trainer.patience import patiently
from trainer.publisher import Publisher
from trainer.replay.replay import Replay
from trainer.rewards.stabilizers import stabilized_agent


class LearnerIsRunningError(Exception):
    """Another learner works on this data folder; two would publish beside each other."""


@contextmanager
def only_learner(folder: Path) -> Iterator[None]:
    """Holds the folder for this process, as long as it lives; raises `LearnerIsRunningError`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LearnerIsRunningError(
                f"another learner works in {folder.absolute()}: stop it first, or take another data folder"
            ) from None
        yield


def run_train(settings: Settings, loop: Loop, stop: Event, registry: CollectorRegistry | None = None) -> None:
    """Learns and publishes until `stop` is set; blocks. While the store is away it waits.

    Raises:
        LearnerIsRunningError: another process does so already.
        SettingsError: the port of its metrics cannot be had.
    """
    metrics = LearnerMetrics(registry or CollectorRegistry())
    with only_learner(settings.training_folder), serving_metrics(settings, metrics.registry):
        _run(settings, loop, stop, metrics)


def _run(settings: Settings, loop: Loop, stop: Event, metrics: LearnerMetrics) -> None:
    torch.set_num_threads(settings.train_threads)
    torch.manual_seed(loop.learner.seed)
    settings.data.mkdir(parents=True, exist_ok=True)
    patiently(lambda: migrate(settings.store_url), stop, metrics.failures)
    engine = open_store(settings.store_url)

    def start() -> LearnerLoop:
        tail, rng = RewardTail(engine), np.random.default_rng(loop.learner.seed)
        learner = LearnerLoop(
            loop,
            Replay(loop, tail, Catalogue(engine, time.time), loop.learner.buffer_size, rng),
            lambda: stabilized_agent(loop),
            Publisher(
                loop,
                settings.policies_folder,
                PolicyRegistry(engine, time.time),
                tail,
                time.time,
                keep_policies=settings.keep_policies,
            ),
            folder=settings.training_folder,
            rng=rng,
            timer=time.monotonic,
            metrics=metrics,
        )
        learner.resume()
        return learner

    try:
        if learner := patiently(start, stop, metrics.failures):
            learner.run(stop)
    finally:
        engine.dispose()
