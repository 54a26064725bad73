"""What producers say to the join, and the loops that it is judged by."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from schemas.loop_file import Loop

WAIT_SECONDS = 10.0
SESSION_TIMEOUT_SECONDS = 30.0
SLATE_SIZE = 2
ITEM_IDS = ("a", "b", "c")


@dataclass(frozen=True)
class Rule:
    """What of a loop file shapes the join."""

    is_weights: bool = False
    aggregate: Literal["sum", "max", "first", "last"] = "sum"
    closes: tuple[str, ...] = ()
    seen: str | None = None
    default: float = 0.0

    @property
    def loop(self) -> Loop:
        return _loop(self)


@lru_cache
def _loop(rule: Rule) -> Loop:
    reward: dict[str, object] = {"click": 1.0, "purchase": 5.0, "dislike": -2.0, "wait": f"{WAIT_SECONDS}s"}
    reward |= {"aggregate": rule.aggregate, "closes": rule.closes, "seen": rule.seen, "default": rule.default}
    slate = {"kind": "slate", "size": SLATE_SIZE}, {"agent": "dqn"}, {"kind": "softmax"}
    weights = {"kind": "weights", "dim": 2}, {"agent": "ddpg"}, {"kind": "gaussian"}
    action, learner, exploration = weights if rule.is_weights else slate
    return Loop.model_validate(
        {
            "name": "join",
            "item": {"id": {"kind": "category", "buckets": 8}},
            "action": action,
            "reward": reward,
            "session": {"timeout": f"{SESSION_TIMEOUT_SECONDS}s", "ends": ["leave"]},
            "learner": learner,
            "exploration": exploration,
        }
    )


@dataclass(frozen=True)
class DecisionMessage:
    decision_id: str
    decided_at: float
    session_id: str | None = "s"
    user_id: str | None = None
    num_items: int = 2
    propensity: float | None = 0.5


@dataclass(frozen=True)
class EventMessage:
    """Without an id each copy is an event of its own; without a time it happened when it was appended."""

    event_id: str | None
    decision_id: str
    kind: str = "click"
    item_id: str | None = "a"
    value: float | None = None
    occurred_at: float | None = None


Message = DecisionMessage | EventMessage
GARBAGE: dict[bytes, int] = {b"\xff\x00": 1, b"": 1, b'[{"kind":"click"},2,null]': 3, b"[]": 0, b'{"a":NaN}': 1}
"""Values of records, and how many dead letters each makes."""


def value_of(messages: Sequence[Message], rule: Rule) -> bytes:
    """An array; a single message stands for itself."""
    bodies = [_decision(each, rule) if isinstance(each, DecisionMessage) else _event(each) for each in messages]
    return json.dumps(bodies[0] if len(bodies) == 1 else bodies).encode()


def _event(message: EventMessage) -> dict[str, object]:
    body = asdict(message)
    return body | {"occurred_at": None if message.occurred_at is None else _iso(message.occurred_at)}


def _decision(message: DecisionMessage, rule: Rule) -> dict[str, object]:
    items = [
        {"item_id": item_id, "position": position, "score": 0.0, "propensity": message.propensity}
        for position, item_id in enumerate(ITEM_IDS[: message.num_items])
    ]
    log_density = None if message.propensity is None else -1.0
    return {
        "decision_id": message.decision_id,
        "decided_at": _iso(message.decided_at),
        "mode": "learned",
        "loop_hash": rule.loop.hash,
        "seed": 1,
        "session_id": message.session_id,
        "user_id": message.user_id,
        "items": items,
        "candidates": list(ITEM_IDS),
        **({"action": [0.5, -0.5], "log_density": log_density} if rule.is_weights else {}),
    }


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
