"""What the tests of the replay buffer share: loops, decisions, and a tail and a catalogue in memory."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from schemas.loop_file import Loop
from schemas.messages import LoggedItem
from storage.catalogue import StoredItem
from storage.reward_tail import RewardedDecision, Tail
from trainer.replay.replay import Replay


def slate_loop(size: int = 2, **learner: object) -> Loop:
    """State: `page` in [0, 100]; items: a category and an unbounded price, which data scale."""
    return Loop.model_validate(
        {
            "name": "test",
            "state": {"page": {"kind": "number", "max": 100}},
            "item": {"kind": {"kind": "category", "size": 50}, "price": {"kind": "number"}},
            "action": {"kind": "slate", "size": size},
            "reward": {"click": 1.0, "wait": "10s"},
            "session": {"timeout": "30s"},
            "learner": {"agent": "dqn", "max_candidates": 4, **learner},
            "exploration": {"kind": "softmax"},
        }
    )


def weights_loop() -> Loop:
    return Loop.model_validate(
        {
            "name": "test",
            "state": {"page": {"kind": "number", "max": 100}},
            "action": {"kind": "weights", "dim": 3},
            "reward": {"click": 1.0, "wait": "10s"},
            "learner": {"agent": "ddpg"},
            "exploration": {"kind": "gaussian"},
        }
    )


def shown(*kinds: int, propensity: float | None = 0.5) -> list[LoggedItem]:
    """A slate of items by their category."""
    return [LoggedItem(f"i{k}", at, 0.0, propensity, {"kind": k, "price": float(k)}) for at, k in enumerate(kinds)]


def decided(decision_id: str, at: float, **changes: Any) -> RewardedDecision:
    """A decision of session `s` with items 1 and 2 of candidates 1, 2, 3, and reward 1 for the first."""
    fields: dict[str, Any] = {
        "decision_id": decision_id,
        "decided_at": at,
        "user_id": None,
        "session_id": "s",
        "mode": "learned",
        "context": {"page": at},
        "candidates": ["i1", "i2", "i3"],
        "exclude": None,
        "shortlist": None,
        "items": shown(1, 2),
        "action": None,
        "log_density": None,
        "policy_version": "000001",
        "loop_hash": "x",
        "rewards": (1.0, 0.0),
        "terminated": False,
        "final_at": at + 10,
        "corrected_at": None,
        "revision": 0,
    }
    return RewardedDecision(**fields | changes)


class MemoryTail:
    """Like `storage.reward_tail.RewardTail`, with the horizon set by hand."""

    def __init__(self) -> None:
        self.rows: dict[str, RewardedDecision] = {}
        self.revision = 0
        self.horizon = math.inf

    def write(self, *decisions: RewardedDecision) -> None:
        """All under one new revision; a decision that is there is corrected."""
        self.revision += 1
        for each in decisions:
            corrected_at = each.final_at + 1 if each.decision_id in self.rows else None
            self.rows[each.decision_id] = replace(each, revision=self.revision, corrected_at=corrected_at)

    def read(self, revision: int, limit: int) -> Tail:
        rows = sorted(self.rows.values(), key=lambda row: (row.revision, row.decided_at))
        rows = [row for row in rows if row.revision > revision]
        last = rows[min(limit, len(rows)) - 1].revision if rows else revision
        return Tail([row for row in rows if row.revision <= last], last, self.horizon)

    def latest(self, num: int, up_to_revision: int) -> Sequence[RewardedDecision]:
        rows = [row for row in self.rows.values() if row.revision <= up_to_revision]
        return sorted(rows, key=lambda row: row.decided_at)[-num:]


class MemoryCatalogue:
    """Items i0 … i9 with their category and price, until others are put."""

    def __init__(self) -> None:
        self.changes = [StoredItem(f"i{k}", {"kind": k, "price": float(k)}, 0.0, deleted=False) for k in range(10)]

    def changed_since(self, revision: int) -> tuple[Sequence[StoredItem], int]:
        return self.changes[revision:], len(self.changes)

    def put(self, item_id: str, features: dict[str, object], *, deleted: bool = False) -> None:
        self.changes.append(StoredItem(item_id, features, 0.0, deleted))


class ReplayWorld:
    """A replay buffer over a tail and a catalogue in memory."""

    def __init__(self, loop: Loop, capacity: int = 1_000) -> None:
        self.tail = MemoryTail()
        self.catalogue = MemoryCatalogue()
        self.loop = loop
        self.capacity = capacity
        self.replay = self.restarted()

    def restarted(self) -> Replay:
        """Another buffer over the same rows."""
        return Replay(self.loop, self.tail, self.catalogue, self.capacity, np.random.default_rng(0))

    def admit(self, *decisions: RewardedDecision) -> int:
        self.tail.write(*decisions)
        return self.replay.advance()


def transitions(replay: Replay) -> dict[tuple[str, int], tuple[float, str | None]]:
    """All that the agent may learn: (decision, position) → reward and next decision, None where nothing comes after."""
    buffer = replay._buffer
    codes = np.flatnonzero(buffer.ready.contains(np.arange(len(buffer.columns.decided_at) * buffer.num_positions)))
    found = {}
    for row, position in zip(*buffer.rows_and_positions(codes), strict=True):
        following = None if buffer.columns.terminated[row] else buffer._ids[buffer.columns.next_row[row]]
        found[buffer._ids[row], int(position)] = (float(buffer.columns.rewards[row, position]), following)
    return found
