"""The whole loop without its processes: a world, the learner and its policies, in one thread and as fast as they go.

Everything that learns or acts is the product's own; only HTTP, the event log and the store are left out. A policy acts
until the next is made, `decisions_per_policy` later, as it does behind the ranker.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from policies.networks import ItemVectors
from policies.noise import draw_action, uniform_action
from policies.policy import SlatePolicy, make_policy
from policies.slates import draw_slate
from schemas.loop_file import GaussianExploration, Loop
from schemas.manifest import PolicyManifest
from schemas.messages import LoggedItem, RankedItem, Recommendation, RecommendRequest
from simulators.world import World, renew
from storage.catalogue import StoredItem
from storage.reward_tail import RewardedDecision, Tail
from trainer.replay.replay import Replay
from trainer.rewards.stabilizers import Stabilized, stabilized_agent


@dataclass(slots=True)
class MemoryTail:
    """Rewarded decisions that never saw a database."""

    waiting: list[RewardedDecision] = field(default_factory=list)
    revision: int = 0

    def read(self, revision: int, limit: int) -> Tail:
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        self.revision += bool(taken)
        return Tail(taken, max(self.revision, revision), np.inf)

    def latest(self, num: int, up_to_revision: int) -> Sequence[RewardedDecision]:  # noqa: ARG002 a study starts empty
        return []


@dataclass(slots=True)
class MemoryCatalogue:
    items: Sequence[StoredItem]

    def changed_since(self, revision: int) -> tuple[Sequence[StoredItem], int]:
        return (self.items, 1) if revision == 0 else ((), revision)


@dataclass(frozen=True, slots=True)
class Point:
    """One stretch of a learning curve: means over its decisions, exploration included."""

    num_decisions: int
    expected_reward: float
    """True expected reward a decision of what was chosen."""


class OnlineRun:
    """One seed of a world and a loop."""

    def __init__(self, world: World, loop: Loop, seed: int, *, num_sessions: int = 100) -> None:
        torch.manual_seed(seed)
        self.world, self.loop = world, loop
        self._rng = np.random.default_rng([seed, 1])
        self._tail = MemoryTail()
        items = [StoredItem(c.item_id, c.features, 0.0, deleted=False) for c in world.catalogue()]
        capacity = loop.learner.buffer_size
        self._replay = Replay(loop, self._tail, MemoryCatalogue(items), capacity, np.random.default_rng([seed, 2]))
        self.agent: Stabilized = stabilized_agent(loop)
        self._items = items
        self._place = {item.item_id: i for i, item in enumerate(items)}
        self._vectors: ItemVectors | None = None
        self._state = world.start(num_sessions, self._rng)
        self._session_ids = np.arange(num_sessions)
        self._num_decided = 0
        self._owed = 0.0
        self.policy = None
        self.update_seconds = 0.0
        self.num_updates = 0

    def run(self, num_decisions: int, *, decisions_per_policy: int = 2_000, points: int = 20) -> list[Point]:
        """Decides and learns; the curve has `points` stretches of equal length."""
        curve: list[Point] = []
        stretch = num_decisions // points
        rewards: list[NDArray[np.float64]] = []
        next_policy = 0
        while self._num_decided < num_decisions:
            rewards.append(self._decide())
            self._learn()
            if self._num_decided >= next_policy and self._replay.num_admitted >= self.loop.learner.min_decisions:
                self._publish()
                next_policy = self._num_decided + decisions_per_policy
            if self._num_decided >= stretch * (len(curve) + 1):
                curve.append(Point(self._num_decided, float(np.concatenate(rewards).mean())))
                rewards = []
        return curve

    def _decide(self) -> NDArray[np.float64]:
        requests = self.world.requests(self._state)
        answers = [self._answer(request) for request in requests]
        actions = self.world.actions(answers)
        expected = self.world.oracle_reward(self._state, actions).sum(axis=1)
        outcome = self.world.step(self._state, actions, self._rng)
        now = self._num_decided / 1_000  # seconds: a thousand decisions each, as a laptop makes them
        for i, (request, answer) in enumerate(zip(requests, answers, strict=True)):
            rewards, done = outcome.rewards[i], bool(outcome.done[i])
            self._tail.waiting.append(self._decision(i, now, request, answer, rewards, done=done))
        self._session_ids = np.where(outcome.done, self._session_ids + 1_000_000, self._session_ids)
        self._state = renew(self.world, outcome, self._rng)
        self._num_decided += len(requests)
        return expected

    def _answer(self, request: RecommendRequest) -> Recommendation:
        seed = int(self._rng.integers(2**62))
        policy, exploration = self.policy, self.loop.exploration
        if self.loop.action.kind == "weights":
            if policy is None:
                drawn = uniform_action(self.loop.action.dim, seed)
            else:
                assert isinstance(exploration, GaussianExploration)
                drawn = draw_action(policy.action(policy.state_encoder.encode(request.context)), exploration, seed)
            return Recommendation("", [], None, "learned", drawn.action, drawn.log_density)
        candidates = [str(c) for c in request.candidates or ()]
        scores = None
        if policy is not None:
            assert isinstance(policy, SlatePolicy)
            places = [self._place[c] for c in candidates]
            vectors = ItemVectors(self._vectors.vectors[:, places], self._vectors.biases[places])
            scores = policy.scores(policy.state_vector(policy.state_encoder.encode(request.context)), vectors)
        slate = draw_slate(scores, self.loop.action.size, exploration, seed, len(candidates))
        chosen = zip(slate.indices, slate.propensities, strict=True)
        return Recommendation("", [RankedItem(candidates[i], 0.0, p) for i, p in chosen], None, "learned")

    def _decision(
        self,
        i: int,
        now: float,
        request: RecommendRequest,
        answer: Recommendation,
        rewards: NDArray[np.float64],
        *,
        done: bool,
    ) -> RewardedDecision:
        items = [
            LoggedItem(item.item_id, k, 0.0, item.propensity, self._items[self._place[item.item_id]].features)
            for k, item in enumerate(answer.items)
        ]
        return RewardedDecision(
            decision_id=f"{self._num_decided + i}",
            decided_at=now,
            user_id=request.user_id,
            session_id=str(self._session_ids[i]),
            mode="learned",
            context=request.context or {},
            candidates=request.candidates,
            exclude=None,
            shortlist=None,
            items=items,
            action=answer.action,
            log_density=answer.log_density,
            policy_version=None,
            loop_hash=self.loop.hash,
            rewards=tuple(rewards.tolist()),
            terminated=done,
            final_at=now,
            corrected_at=None,
            revision=self._tail.revision + 1,
        )

    def _learn(self) -> None:
        self._owed += self._replay.advance() / self.loop.learner.decisions_per_update
        if self._replay.num_admitted < self.loop.learner.min_decisions:
            self._owed = 0.0
        started = time.perf_counter()
        while self._owed >= 1 and (batch := self._replay.sample(self.loop.learner.batch_size)) is not None:
            self.agent.update(batch, self._replay.num_rewarded)
            self._owed -= 1
            self.num_updates += 1
        self.update_seconds += time.perf_counter() - started

    def _publish(self) -> None:
        manifest = PolicyManifest(
            version=str(self._num_decided),
            parent=None,
            loop_hash=self.loop.hash,
            created_at=0.0,
            sha256={},
            metrics={},
            revision=0,
            final_at=[],
        )
        self.policy = make_policy(self.loop, manifest, self.agent.policy_tensors())
        if isinstance(self.policy, SlatePolicy):
            encoder = self.policy.item_encoder
            self._vectors = self.policy.item_vectors([encoder.encode(i.item_id, i.features) for i in self._items])
