"""The whole loop without its processes: a world, the ranker and the learner in one thread, as fast as they go.

Everything that ranks or learns is the product's own; only HTTP, the event log and the store are left out. A policy acts
until the next one is made, `decisions_per_policy` later, as it does behind the ranker.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from policies.policy import make_policy
from schemas.loop_file import Loop
from schemas.manifest import PolicyManifest
from schemas.messages import Decision
from service.catalogue import ItemTables
from service.ranking import Ranker, Serving
from simulators.world import Floats, World, renew
from storage.catalogue import StoredItem
from storage.reward_tail import RewardedDecision, Tail
from trainer.replay.replay import Replay
from trainer.rewards.stabilizers import stabilized_agent

SECONDS_PER_DECISION = 0.001
"""A thousand decisions a second, as a laptop makes them: what session timeouts are measured against."""


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


class OnlineRun:
    """One seed of a world under one loop."""

    def __init__(self, world: World, loop: Loop, seed: int, *, num_sessions: int = 100) -> None:
        torch.manual_seed(seed)
        self._world, self._loop = world, loop
        self._rng = np.random.default_rng([seed, 1])
        self._state = world.start(num_sessions, self._rng)
        self._sessions = np.arange(num_sessions)
        self._num_decided = 0
        items = [StoredItem(each.item_id, each.features, 0.0, deleted=False) for each in world.catalogue()]
        self._tables = ItemTables(loop)
        self._serving = Serving(None, self._tables.changed(self._tables.empty(), items, None), "no policy yet")
        self._ranker = Ranker(loop, lambda: self._serving, self._clock, lambda: f"{seed}-{self._num_decided}")
        self._tail = MemoryTail()
        sampler = np.random.default_rng([seed, 2])
        self._replay = Replay(loop, self._tail, MemoryCatalogue(items), loop.learner.buffer_size, sampler)
        self._agent = stabilized_agent(loop)
        self._owed_updates = 0.0

    def run(self, num_decisions: int, *, num_points: int = 20, decisions_per_policy: int = 2_000) -> Floats:
        """The learning curve [num_points]: mean true expected reward of the decisions, exploration included."""
        rewards: list[Floats] = []
        next_policy = 0
        while self._num_decided < num_decisions:
            rewards.append(self._decide())
            self._learn()
            if self._num_decided >= next_policy and self._replay.num_admitted >= self._loop.learner.min_decisions:
                self._swap()
                next_policy = self._num_decided + decisions_per_policy
        parts = np.array_split(np.concatenate(rewards), num_points)
        return np.array([part.mean() for part in parts])

    def _clock(self) -> float:
        return self._num_decided * SECONDS_PER_DECISION

    def _decide(self) -> Floats:
        """One decision of every session; its true expected rewards [n]."""
        answers, decisions = [], []
        for request, session in zip(self._world.requests(self._state), self._sessions, strict=True):
            request.session_id = str(session)
            ranked = self._ranker.rank(request)
            assert ranked.decision is not None
            answers.append(ranked.answer)
            decisions.append(ranked.decision)
            self._num_decided += 1
        actions = self._world.actions(answers)
        expected: Floats = self._world.oracle_reward(self._state, actions).sum(axis=1)
        outcome = self._world.step(self._state, actions, self._rng)
        facts = zip(decisions, outcome.rewards.tolist(), outcome.terminated.tolist(), strict=True)
        self._tail.waiting += [self._rewarded(decision, rewards, terminated=left) for decision, rewards, left in facts]
        self._sessions = self._sessions + len(self._sessions) * outcome.done
        self._state = renew(self._world, outcome, self._rng)
        return expected

    def _rewarded(self, decision: Decision, rewards: list[float], *, terminated: bool) -> RewardedDecision:
        return RewardedDecision(
            decision_id=decision.decision_id,
            decided_at=decision.decided_at.timestamp(),
            user_id=decision.user_id,
            session_id=decision.session_id,
            mode=decision.mode,
            context=decision.context,
            candidates=decision.candidates,
            exclude=decision.exclude,
            shortlist=decision.shortlist,
            items=decision.items,
            action=decision.action,
            log_density=decision.log_density,
            policy_version=decision.policy_version,
            loop_hash=decision.loop_hash,
            rewards=tuple(rewards),
            terminated=terminated,
            final_at=self._clock(),
            corrected_at=None,
            revision=self._tail.revision + 1,
        )

    def _learn(self) -> None:
        settings = self._loop.learner
        if num := self._replay.advance():
            self._agent.observe(self._replay.newest(num))
        self._owed_updates += num / settings.decisions_per_update
        if self._replay.num_admitted < settings.min_decisions:
            return
        while self._owed_updates >= 1 and (batch := self._replay.sample(settings.batch_size)) is not None:
            self._agent.update(batch, self._replay.num_rewarded)
            self._owed_updates -= 1

    def _swap(self) -> None:
        manifest = PolicyManifest(
            version=str(self._num_decided),
            parent=None,
            loop_hash=self._loop.hash,
            created_at=self._clock(),
            sha256={},
            metrics={},
            revision=self._tail.revision,
            final_at=[],
        )
        policy = make_policy(self._loop, manifest, self._agent.policy_tensors())
        self._serving = replace(self._serving, policy=policy, table=self._tables.seen_by(self._serving.table, policy))


def changed(loop: Loop, **sections: dict[str, object]) -> Loop:
    """The loop with some keys of some sections changed, as in `changed(loop, learner={"discount": 0.5})`."""
    parts = {name: getattr(loop, name).model_copy(update=keys) for name, keys in sections.items()}
    return loop.model_copy(update=parts)
