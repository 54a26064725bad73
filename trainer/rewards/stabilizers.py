"""Where the reward is stabilized: the agent learns from estimates of E[r | s, a] in place of raw rewards.

SRS and SRS2 are of arXiv 2308.13246. Raw rewards stay as they are: a stabilized batch is a new one, and no batch is
stabilized twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from schemas.loop_file import Loop
from trainer.agents import AGENTS
from trainer.agents.agent import Agent
from trainer.agents.view import View
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates
from trainer.replay.statistics import NumberStatistics
from trainer.rewards import ESTIMATORS
from trainer.rewards.estimator import RewardEstimator
from trainer.rewards.noise_meter import NoiseMeter
from trainer.state import gather, scatter


@dataclass(frozen=True, slots=True)
class Stabilizer:
    rewards: Callable[[TransitionBatch, RewardEstimator], Tensor]
    """What trains the agent in place of a raw batch's rewards, [B]."""
    shares_embeddings: bool = False
    """Whether the agent sees through the estimator's embeddings, with a stop-gradient: only the supervised loss moves
    them."""


STABILIZERS: dict[str, Stabilizer] = {
    "raw": Stabilizer(lambda batch, _: batch.reward),
    "srs": Stabilizer(lambda batch, estimator: estimator.predict(batch)),
    "srs2": Stabilizer(lambda batch, estimator: estimator.predict(batch), shares_embeddings=True),
}
"""Stabilizers by name, those of `schemas.loop_file`. With `raw` the estimator still learns: the noise meter and the
story of a decision show what stabilizing would do."""


class Stabilized:
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
        """The estimator's part of an update alone: for impressions that teach the agent nothing."""
        return self.estimator.update(batch, num_examples)

    def rewards(self, batch: TransitionBatch) -> Tensor:
        """What trains the agent in place of a raw batch's rewards, [B]."""
        return self.stabilizer.rewards(batch, self.estimator)

    def observe(self, fresh: TransitionBatch) -> None:
        """Shows the noise meter impressions that nothing has learned from yet."""
        self.meter.observe(fresh.reward, self.estimator.predict(fresh))

    def act(self, probe: ProbeStates) -> NDArray[np.float32]:
        return self.agent.act(probe)

    def policy_tensors(self) -> dict[str, NDArray[np.float32]]:
        return self.agent.policy_tensors()

    def rescale(self, statistics: NumberStatistics) -> None:
        self.estimator.rescale(statistics)
        self.agent.rescale(statistics)

    def state_dict(self) -> dict[str, Tensor]:
        return gather(agent=self.agent, estimator=self.estimator, meter=self.meter)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        scatter(state, agent=self.agent, estimator=self.estimator, meter=self.meter)


def stabilized_agent(loop: Loop) -> Stabilized:
    """The learner that the loop file names, with new weights from torch's random generator."""
    stabilizer = STABILIZERS[loop.learner.stabilizer]
    estimator = ESTIMATORS[loop.learner.estimator](loop)
    view = View.shared(estimator.embeddings) if stabilizer.shares_embeddings else View.own(loop)
    return Stabilized(AGENTS[loop.learner.agent](loop, view), estimator, stabilizer)
