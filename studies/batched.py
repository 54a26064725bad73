"""`shop` and the learner as arrays, many sessions at once: a seed of 48,000 decisions takes seconds, not minutes.

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

from policies.features import ItemEncoder, StateEncoder, network_layouts
from schemas.loop_file import AGENTS, GaussianExploration, Loop, SoftmaxExploration
from simulators.shop import NUM_CANDIDATES, NUM_USERS, Shop
from simulators.world import Floats, Ints, Outcome, State, renew, select
from trainer.replay.batch import TransitionBatch
from trainer.replay.batches import reward_batch, transition_batch, with_candidates
from trainer.replay.columns import Columns, RowShape
from trainer.replay.index_set import IndexSet
from trainer.replay.item_table import ItemTable
from trainer.replay.replay import ProbeStates
from trainer.replay.sampler import Sampler
from trainer.replay.sessions import NO_ROW
from trainer.rewards.estimator import RewardEstimator
from trainer.rewards.stabilizer import Stateless
from trainer.rewards.stabilizers import stabilized_agent


class EncodedShop:
    """What networks read of a shop with the dial k at 1, looked up instead of encoded decision by decision."""

    def __init__(self, shop: Shop, loop: Loop) -> None:
        self.state_layout, self.item_layout = network_layouts(loop)
        self.items = ItemTable(self.item_layout.num_slots, self.item_layout.num_numbers)
        encoder = ItemEncoder(loop)
        rows = [self.items.intern(encoder.encode(item.item_id, item.features)) for item in shop.catalogue()]
        self.item_rows = np.array(rows, np.int32)
        """[500] rows of the item table by place in the catalogue."""
        state = shop.start(NUM_USERS, np.random.default_rng(0)) | {"user": np.arange(NUM_USERS)}
        states = StateEncoder(loop)
        self._user_slots = np.array([states.encode(request.context).slots for request in shop.requests(state)])

    def states(self, state: State) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Slots [n, S] and numbers [n, 1]: the satisfaction, from 0 to 1."""
        numbers = (state["satisfaction"][:, None] + 1.0) / 2.0
        return self._user_slots[state["user"]].astype(np.int32), numbers.astype(np.float32)

    def probe(self, state: State) -> ProbeStates:
        slots, numbers = self.states(state)
        rows = self.item_rows[state["candidates"]]
        items = self.items.slots[rows].astype(np.int64), self.items.numbers[rows]
        return ProbeStates(slots.astype(np.int64), numbers, *items, np.ones(rows.shape, np.bool_))


class Memory:
    """The replay of sessions that go on in step: row r of session j is followed by row r + n."""

    def __init__(self, encoded: EncodedShop, loop: Loop, num_sessions: int, capacity: int, seed: int) -> None:
        layout = encoded.state_layout
        shape = replace(RowShape.of(loop, layout.num_slots, layout.num_numbers), num_candidates=NUM_CANDIDATES)
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

    def append(self, state: State, actions: Ints, propensities: Floats, expected: Floats, outcome: Outcome) -> None:
        """One decision of every session."""
        rows, columns = np.arange(self.num, self.num + self._num_sessions), self._columns
        columns.state_slots[rows], columns.state_numbers[rows] = self._encoded.states(state)
        columns.slate[rows] = self._encoded.item_rows[actions]
        columns.rewards[rows] = outcome.rewards
        columns.propensities[rows] = propensities
        columns.candidates[rows] = self._encoded.item_rows[state["candidates"]]
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
    """[P] true expected reward a session of the greedy policy then."""


class BatchedRun:
    """One seed of a shop under one loop."""

    def __init__(
        self,
        shop: Shop,
        loop: Loop,
        seed: int,
        num_decisions: int,
        *,
        num_sessions: int = 32,
        decisions_per_policy: int = 0,
        oracle: bool = False,
    ) -> None:
        """With a new learner.

        Args:
            shop: the world, its dial k at 1.
            loop: what is learned and how.
            seed: of the learner, of what is chosen and of what happens; not of the world.
            num_decisions: how many there will be.
            num_sessions: decisions that are made at once; a policy is at least as old.
            decisions_per_policy: after how many the learner's newest policy starts to act; 0: at once.
            oracle: the agent learns from the true E[r | s, a], whatever stabilizer the loop names.
        """
        torch.manual_seed(seed)
        self._shop, self._loop, self._num_sessions = shop, loop, num_sessions
        self._decisions_per_policy = decisions_per_policy
        self._rng = np.random.default_rng([seed, 1])
        self._encoded = EncodedShop(shop, loop)
        self._num_decisions = num_decisions
        self._memory = Memory(self._encoded, loop, num_sessions, num_decisions + num_sessions, seed)
        self.learner = stabilized_agent(loop)
        if oracle:
            self.learner.stabilizer = Oracle(self._memory.expected)
        self._acting = self.learner.agent
        self._acts_uniformly = True
        self._state = shop.start(num_sessions, self._rng)
        self._owed_updates = 0.0

    def run(self, num_points: int = 12, num_evaluated: int = 600) -> Curve:
        """Learns, and evaluates the greedy policy at the end of each of `num_points` equal parts."""
        points = np.linspace(0, self._num_decisions, num_points + 1)[1:]
        rewards: list[float] = []
        next_policy = 0
        while len(rewards) < num_points:
            self._decide()
            self._learn()
            if self._memory.num >= max(next_policy, self._loop.learner.min_decisions):
                self._acting = deepcopy(self.learner.agent) if self._decisions_per_policy else self.learner.agent
                self._acts_uniformly = False
                next_policy = self._memory.num + self._decisions_per_policy
            if self._memory.num >= points[len(rewards)]:
                rewards.append(self.greedy_reward(num_evaluated))
        return Curve(points, np.array(rewards))

    def greedy_reward(self, num_sessions: int) -> float:
        """True expected reward a session, always choosing the best by the newest network; the same users every time."""
        rng = np.random.default_rng(0)
        state, total = self._shop.start(num_sessions, rng), 0.0
        while len(state["user"]):
            best = self.learner.act(self._encoded.probe(state)).argmax(axis=1)
            actions = np.take_along_axis(state["candidates"], best[:, None], axis=1)
            total += float(self._shop.oracle_reward(state, actions).sum())
            outcome = self._shop.step(state, actions, rng)
            state = select(outcome.next_state, ~outcome.done)
        return total / num_sessions

    def _decide(self) -> None:
        shares = self._shares()  # [n, C]
        column = (shares.cumsum(axis=1) > self._rng.random((len(shares), 1))).argmax(axis=1)[:, None]
        actions = np.take_along_axis(self._state["candidates"], column, axis=1)
        expected = self._shop.oracle_reward(self._state, actions)
        outcome = self._shop.step(self._state, actions, self._rng)
        propensities = np.take_along_axis(shares, column, axis=1)
        self._memory.append(self._state, actions, propensities, expected, outcome)
        self._state = renew(self._shop, outcome, self._rng)

    def _shares(self) -> Floats:
        """The probability of each candidate, [n, C]: `policies.slates` for a slate of one."""
        explores, probe = self._loop.exploration, self._encoded.probe(self._state)
        uniform = np.full(probe.mask.shape, 1.0 / NUM_CANDIDATES)
        if self._acts_uniformly:
            return uniform
        scores = self._acting.act(probe).astype(np.float64)
        best = scores.max(axis=1, keepdims=True)
        assert not isinstance(explores, GaussianExploration), "the loop file makes sure of it"
        if isinstance(explores, SoftmaxExploration):
            shares = np.exp((scores - best) / explores.temperature)
        else:
            shares = (np.arange(NUM_CANDIDATES) == scores.argmax(axis=1)[:, None]).astype(np.float64)
        shares /= shares.sum(axis=1, keepdims=True)
        mixed: Floats = (1 - explores.epsilon) * shares + explores.epsilon * uniform
        return mixed

    def _learn(self) -> None:
        settings = self._loop.learner
        self.learner.observe(self._memory.newest())
        self._owed_updates += self._num_sessions / settings.decisions_per_update
        while self._owed_updates >= 1 and (batch := self._memory.sample(settings.batch_size)) is not None:
            self.learner.update(batch, self._memory.num)
            self._owed_updates -= 1
            for _ in range(settings.steps_per_update - 1):
                self.learner.fit(self._memory.sample_rewards(settings.batch_size), self._memory.num)
