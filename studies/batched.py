"""A world and the learner as arrays, many sessions at once: a seed of 48,000 decisions takes seconds, not minutes.

Agents, estimators, stabilizers, networks and minibatches are the product's own. Left out are the ranker, whose choices
are drawn here for all sessions at once (by the same rule), and the store: rows go straight into the buffer's columns.
tests/learning/test_batched.py holds the arrays against the product.
"""

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.kinds import AGENTS
from schemas.loop_file import Loop
from schemas.sections import GaussianExploration, WeightsAction
from simulators.world import Floats, Ints, Outcome, State, World, renew, select
from studies.choices import Choice, draw_items, draw_weights, slate_shares, uniform_shares, uniform_weights
from studies.encoded_worlds import EncodedWorld, encoded_world
from trainer.replay.batch import TransitionBatch
from trainer.replay.batches import reward_batch, transition_batch, with_candidates
from trainer.replay.columns import Columns, RowShape
from trainer.replay.index_set import IndexSet
from trainer.replay.item_table import PADDING
from trainer.replay.sampler import Sampler
from trainer.replay.sessions import NO_ROW
from trainer.replay.statistics import NumberStatistics, mean_and_std
from trainer.rewards.estimator import RewardEstimator
from trainer.rewards.stabilizer import Stateless
from trainer.rewards.stabilizers import stabilized_agent

_STATISTICS_ROWS = 10_000


class Memory:
    """The replay of sessions that go on in step: row r of session j is followed by row r + n."""

    def __init__(self, encoded: EncodedWorld, loop: Loop, num_sessions: int, capacity: int, seed: int) -> None:
        layout = encoded.state_layout
        shape = replace(RowShape.of(loop, layout.num_slots, layout.num_numbers), num_candidates=encoded.num_candidates)
        self._rng = np.random.default_rng([seed, 2])
        self._encoded = encoded
        self._num_sessions = num_sessions
        self._columns = Columns.empty(shape, capacity)
        self._ready = IndexSet(capacity)
        self._sampler = Sampler(loop, shape, self._rng)
        self._needs_candidates = AGENTS[loop.learner.agent].needs_candidates
        self.expected = torch.zeros(capacity)
        """[capacity] E[r | s, a] of each row."""
        self._goes_on = np.zeros(num_sessions, np.bool_)
        self.num = 0

    def append(self, state: State, choice: Choice, expected: Floats, outcome: Outcome) -> None:
        """One decision of every session."""
        rows, columns = np.arange(self.num, self.num + self._num_sessions), self._columns
        columns.state_slots[rows], columns.state_numbers[rows] = self._encoded.states(state)
        if self._encoded.num_candidates:
            columns.slate[rows] = self._encoded.item_rows[choice.actions]
        else:
            columns.action[rows] = choice.actions
        columns.rewards[rows] = outcome.rewards
        columns.propensities[rows] = choice.propensities
        columns.log_density[rows] = choice.log_densities
        columns.candidates[rows] = self._encoded.item_rows[self._encoded.candidates(state)]
        columns.terminated[rows] = outcome.terminated
        columns.next_row[rows] = NO_ROW
        self.expected[rows] = torch.from_numpy(expected[:, 0]).float()
        before = (rows - self._num_sessions)[self._goes_on]
        columns.next_row[before] = before + self._num_sessions
        ready = np.concatenate([before, rows[columns.terminated[rows]]])
        self._goes_on = ~outcome.done
        self._sampler.put(self._ready.set_members(ready, np.ones(len(ready), np.bool_)))
        self.num += self._num_sessions

    def sample(self, size: int) -> TransitionBatch | None:
        """As `Replay.sample`."""
        columns, items = self._columns, self._encoded.items
        rows = self._sampler.draw(size, self._ready, lambda rows: columns.was_sampled[rows, 0])
        if rows is None:
            return None
        columns.was_sampled[rows, 0] = True
        batch = transition_batch(columns, items, rows, np.zeros_like(rows))
        return with_candidates(batch, columns, items) if self._needs_candidates else batch

    def sample_rewards(self, size: int) -> TransitionBatch:
        """As `Replay.sample_rewards`."""
        rows = self._rng.integers(0, self.num, size)
        return reward_batch(self._columns, self._encoded.items, rows, np.zeros_like(rows))

    def newest(self) -> TransitionBatch:
        """The last decision of every session, as `Replay.newest`."""
        rows = np.arange(self.num - self._num_sessions, self.num)
        return reward_batch(self._columns, self._encoded.items, rows, np.zeros_like(rows))

    def number_statistics(self) -> NumberStatistics:
        """As `Replay.number_statistics`."""
        evenly = slice(0, self.num, max(1, self.num // _STATISTICS_ROWS))
        candidates, encoded = self._columns.candidates[evenly], self._encoded
        items = encoded.items.numbers[candidates[candidates != PADDING]]
        return NumberStatistics(
            *mean_and_std(self._columns.state_numbers[evenly], encoded.state_layout.scaled_by_data),
            *mean_and_std(items, encoded.item_layout.scaled_by_data),
        )


class Oracle(Stateless):
    """The true E[r | s, a], by row of the memory: what a stabilizer would give if it knew everything."""

    def __init__(self, expected: Tensor) -> None:
        self._expected = expected

    def rewards(self, batch: TransitionBatch, _estimator: RewardEstimator) -> Tensor:
        return self._expected[batch.rows]


@dataclass(frozen=True, slots=True)
class Curve:
    num_decisions: Floats
    """[P]"""
    reward: Floats
    """[P] what `BatchedRun.greedy_reward` found then."""


class BatchedRun:
    """One seed of a world under one loop."""

    def __init__(
        self,
        world: World,
        loop: Loop,
        seed: int,
        num_decisions: int,
        *,
        num_sessions: int = 32,
        decisions_per_policy: int = 0,
        num_spare: int = 0,
        oracle: bool = False,
    ) -> None:
        """With a new learner.

        Args:
            world: a shop shows one item a decision.
            loop: what is learned and how.
            seed: of the learner, of what is chosen and of what happens; not of the world.
            num_decisions: how many there will be.
            num_sessions: decisions that are made at once; a policy is at least as old.
            decisions_per_policy: after how many the learner's newest policy starts to act; 0: at once.
            num_spare: how many may be made after the run.
            oracle: the agent learns from the true E[r | s, a], whatever stabilizer the loop names.

        Raises:
            WorldError: the loop's slate is of more than one item.
        """
        torch.manual_seed(seed)
        self._world, self._loop, self._num_sessions = world, loop, num_sessions
        self._decisions_per_policy = decisions_per_policy
        self._rng = np.random.default_rng([seed, 1])
        self._encoded = encoded_world(world, loop)
        self._has_weights = loop.action.kind == "weights"
        self._num_decisions = num_decisions
        self._memory = Memory(self._encoded, loop, num_sessions, num_decisions + num_spare + num_sessions, seed)
        self.learner = stabilized_agent(loop)
        if oracle:
            self.learner.stabilizer = Oracle(self._memory.expected)
        self._acting = self.learner.agent
        self._acts_uniformly = True
        self._state = world.start(num_sessions, self._rng)
        self._owed_updates = 0.0
        self._num_scaled_at = 0

    def run(self, num_points: int = 12, num_evaluated: int = 600) -> Curve:
        """Learns, and evaluates the greedy policy at the end of each of `num_points` equal parts."""
        points = np.linspace(0, self._num_decisions, num_points + 1)[1:]
        rewards: list[float] = []
        next_policy = 0
        while len(rewards) < num_points:
            self.decide()
            self._learn()
            if self._memory.num >= max(next_policy, self._loop.learner.min_decisions):
                self._acting = deepcopy(self.learner.agent) if self._decisions_per_policy else self.learner.agent
                self._acts_uniformly = False
                next_policy = self._memory.num + self._decisions_per_policy
            if self._memory.num >= points[len(rewards)]:
                rewards.append(self.greedy_reward(num_evaluated))
        return Curve(points, np.array(rewards))

    def greedy_reward(self, num_sessions: int) -> float:
        """True expected reward of the newest network without exploration, over the same sessions every time: a session,
        or a decision where the world counts the clicks of pages.
        """
        rng = np.random.default_rng(0)
        state, total, num_decisions = self._world.start(num_sessions, rng), 0.0, 0
        num_left = num_sessions
        while num_left:
            best = self.learner.act(self._encoded.probe(state))
            actions = best.astype(np.float64) if self._has_weights else self._best_items(state, best)
            total += float(self._world.oracle_reward(state, actions).sum())
            num_decisions += num_left
            outcome = self._world.step(state, actions, rng)
            state = select(outcome.next_state, ~outcome.done)
            num_left -= int(outcome.done.sum())
        return total / (num_sessions if self._world.page_size is None else num_decisions)

    def newest(self) -> tuple[TransitionBatch, Floats]:
        """The last decision of every session, as `Replay.newest`, and its true E[r | s, a], [n]."""
        batch = self._memory.newest()
        return batch, self._memory.expected[batch.rows].double().numpy()

    def _best_items(self, state: State, scores: NDArray[np.float32]) -> Ints:
        """[n, 1]"""
        return np.take_along_axis(self._encoded.candidates(state), scores.argmax(axis=1)[:, None], axis=1)

    def decide(self) -> None:
        """One decision of every session; nothing is learned from it yet."""
        choice = self._choose_weights() if self._has_weights else self._choose_items()
        expected = self._world.oracle_reward(self._state, choice.actions)
        outcome = self._world.step(self._state, choice.actions, self._rng)
        self._memory.append(self._state, choice, expected, outcome)
        self._state = renew(self._world, outcome, self._rng)

    def _choose_items(self) -> Choice:
        return draw_items(self._shares(), self._encoded.candidates(self._state), self._rng)

    def _shares(self) -> Floats:
        """The probability of each candidate, [n, C]."""
        if self._acts_uniformly:
            return uniform_shares(self._num_sessions, self._encoded.num_candidates)
        explores = self._loop.exploration
        assert not isinstance(explores, GaussianExploration), "the loop file makes sure of it"
        return slate_shares(self._acting.act(self._encoded.probe(self._state)).astype(np.float64), explores)

    def _choose_weights(self) -> Choice:
        explores, action = self._loop.exploration, self._loop.action
        assert isinstance(explores, GaussianExploration), "the loop file makes sure of it"
        assert isinstance(action, WeightsAction)
        if self._acts_uniformly:
            return uniform_weights(self._num_sessions, action.dim, self._rng)
        means = self._acting.act(self._encoded.probe(self._state)).astype(np.float64)
        return draw_weights(means, explores, self._rng.random((self._num_sessions, 1 + action.dim)))

    def _learn(self) -> None:
        settings = self._loop.learner
        self.learner.observe(self._memory.newest())
        self._rescale()
        self._owed_updates += self._num_sessions / settings.decisions_per_update
        while self._owed_updates >= 1 and (batch := self._memory.sample(settings.batch_size)) is not None:
            self.learner.update(batch, self._memory.num)
            self._owed_updates -= 1
            for _ in range(settings.steps_per_update - 1):
                self.learner.fit(self._memory.sample_rewards(settings.batch_size), self._memory.num)

    def _rescale(self) -> None:
        """As the learner's loop: at first, and again whenever the decisions have doubled."""
        scaled = self._encoded.state_layout.scaled_by_data + self._encoded.item_layout.scaled_by_data
        if any(scaled) and self._memory.num >= 2 * self._num_scaled_at:
            self.learner.rescale(self._memory.number_statistics())
            self._num_scaled_at = self._memory.num
