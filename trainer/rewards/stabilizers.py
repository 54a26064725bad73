"""Where the reward is stabilized: the agent learns from estimates of E[r | s, a] in place of raw rewards.

SRS and SRS2 are of arXiv 2308.13246. Raw rewards stay as they are: a stabilized batch is a new one, and no batch is
stabilized twice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from schemas.loop_file import Loop
from trainer.agents import AGENTS
from trainer.agents.agent import Agent
from trainer.agents.view import View
from trainer.networks import Embeddings
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates
from trainer.replay.statistics import NumberStatistics
from trainer.rewards import make_estimator
from trainer.rewards.blend import Blend
from trainer.rewards.doubly_robust import DoublyRobust
from trainer.rewards.estimator import RewardEstimator
from trainer.rewards.noise_meter import NoiseMeter
from trainer.rewards.raw import Raw
from trainer.rewards.srs import Srs
from trainer.rewards.stabilizer import Stabilizer
from trainer.state import Kept, OfParts


@dataclass(frozen=True, slots=True)
class StabilizerKind:
    make: Callable[[Loop], Stabilizer]
    view: Callable[[Loop, Embeddings], View]
    """How the agent sees, given the estimator's embeddings."""


def _own(loop: Loop, _: Embeddings) -> View:
    return View.own(loop)


def _shared(_: Loop, embeddings: Embeddings) -> View:
    return View.shared(embeddings)


STABILIZERS: dict[str, StabilizerKind] = {
    "raw": StabilizerKind(lambda _: Raw(), _own),
    "srs": StabilizerKind(lambda _: Srs(), _own),
    "srs2": StabilizerKind(lambda _: Srs(), _shared),
    "srs2-residual": StabilizerKind(lambda _: Srs(), View.residual),
    "doubly-robust": StabilizerKind(lambda _: DoublyRobust(), _own),
    "blend": StabilizerKind(Blend, _own),
}
"""Stabilizers by name, those of `schemas.kinds.STABILIZERS`. A new one is a file here, a line above and one there."""


class Stabilized(OfParts):
    """Any agent with any estimator and any stabilizer: itself an agent."""

    def __init__(self, agent: Agent, estimator: RewardEstimator, stabilizer: Stabilizer) -> None:
        self.agent = agent
        self.estimator = estimator
        self.stabilizer = stabilizer
        self.meter = NoiseMeter()

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        """Fits the estimator to the batch's raw rewards, then lets the agent learn from the stabilized ones."""
        figures = self.fit(batch, num_examples)
        return figures | self.agent.update(batch.with_reward(self.rewards(batch)), num_examples)

    def fit(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        """The supervised part of an update alone: for impressions that teach the agent nothing."""
        figures = self.estimator.update(batch, num_examples)
        return figures | self.stabilizer.fit(batch, self.estimator, num_examples)

    def rewards(self, batch: TransitionBatch) -> Tensor:
        """What trains the agent in place of a raw batch's rewards, [B]."""
        return self.stabilizer.rewards(batch, self.estimator)

    def observe(self, fresh: TransitionBatch) -> None:
        """Shows the noise meter, the stabilizer and the estimator impressions that nothing has learned from yet."""
        estimate = self.estimator.predict(fresh)
        self.meter.observe(fresh.reward, estimate)
        self.stabilizer.observe(fresh, estimate)
        self.estimator.observe(fresh)

    def figures(self) -> dict[str, float]:
        """What the noise meter and the stabilizer say, by name."""
        return self.meter.figures() | self.stabilizer.figures()

    def act(self, probe: ProbeStates) -> NDArray[np.float32]:
        return self.agent.act(probe)

    def policy_tensors(self) -> dict[str, NDArray[np.float32]]:
        return self.agent.policy_tensors()

    def rescale(self, statistics: NumberStatistics) -> None:
        self.estimator.rescale(statistics)
        self.stabilizer.rescale(statistics)
        self.agent.rescale(statistics)

    def _parts(self) -> dict[str, Kept]:
        return {
            "agent": self.agent,
            "estimator": self.estimator,
            "stabilizer": self.stabilizer,
            "meter": self.meter,
        }


def stabilized_agent(loop: Loop) -> Stabilized:
    """The learner that the loop file names, with new weights from torch's random generator."""
    kind = STABILIZERS[loop.learner.stabilizer]
    estimator = make_estimator(loop)
    agent = AGENTS[loop.learner.agent](loop, kind.view(loop, estimator.embeddings))
    return Stabilized(agent, estimator, kind.make(loop))
