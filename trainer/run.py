"""Wires the learner to its parts: the process behind `steadyrank train`."""

import time
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
from trainer.patience import patiently
from trainer.publisher import Publisher
from trainer.replay.replay import Replay
from trainer.rewards.stabilizers import stabilized_agent


def run_train(settings: Settings, loop: Loop, stop: Event, registry: CollectorRegistry | None = None) -> None:
    """Learns and publishes until `stop` is set; blocks. While the store is away it waits."""
    torch.set_num_threads(1)  # the networks are small: threads cost more than they bring
    torch.manual_seed(loop.learner.seed)
    metrics = LearnerMetrics(registry or CollectorRegistry())
    settings.data.mkdir(parents=True, exist_ok=True)
    patiently(lambda: migrate(settings.store_url), stop, metrics)
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
        if learner := patiently(start, stop, metrics):
            learner.run(stop)
    finally:
        engine.dispose()
