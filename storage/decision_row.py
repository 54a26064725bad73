"""How a decision lies in its row: columns named `*_json` hold JSON text, null where there is nothing."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Row

from schemas.messages import Candidate, Decision, Features, LoggedItem

CONTEXT = msgspec.json.Decoder(Features)
CANDIDATES = msgspec.json.Decoder(list[str | Candidate] | None)
IDS = msgspec.json.Decoder(list[str] | None)
ITEMS = msgspec.json.Decoder(list[LoggedItem])
ACTION = msgspec.json.Decoder(list[float] | None)
REWARDS = msgspec.json.Decoder(tuple[float | None, ...])
NULL = "null"


class _ItemId(msgspec.Struct):
    item_id: str


_ITEM_IDS = msgspec.json.Decoder(list[_ItemId])


def json_text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def item_ids(items_json: str) -> tuple[str, ...]:
    """[K] by position, without decoding the features."""
    return tuple(item.item_id for item in _ITEM_IDS.decode(items_json))


def decision_row(decision: Decision, received_at: float) -> dict[str, Any]:
    """The row of the table `decisions`."""
    return {
        "decision_id": decision.decision_id,
        "decided_at": decision.decided_at.timestamp(),
        "received_at": received_at,
        "user_id": decision.user_id,
        "session_id": decision.session_id,
        "mode": decision.mode,
        "policy_version": decision.policy_version,
        "loop_hash": decision.loop_hash,
        "seed": decision.seed,
        "context_json": json_text(decision.context),
        "candidates_json": _json_or_null(decision.candidates),
        "exclude_json": _json_or_null(decision.exclude),
        "shortlist_json": _json_or_null(decision.shortlist),
        "items_json": json_text(decision.items),
        "action_json": _json_or_null(decision.action),
        "log_density": decision.log_density,
        "exploration_json": json_text(decision.exploration),
    }


def decision_of(row: Row[Any]) -> Decision:
    """The message that the row was made of."""
    return Decision(
        decision_id=row.decision_id,
        decided_at=datetime.fromtimestamp(row.decided_at, UTC),
        mode=row.mode,
        loop_hash=row.loop_hash,
        seed=row.seed,
        items=ITEMS.decode(row.items_json),
        context=CONTEXT.decode(row.context_json),
        user_id=row.user_id,
        session_id=row.session_id,
        candidates=CANDIDATES.decode(row.candidates_json or NULL),
        exclude=IDS.decode(row.exclude_json or NULL),
        shortlist=IDS.decode(row.shortlist_json or NULL),
        action=ACTION.decode(row.action_json or NULL),
        log_density=row.log_density,
        policy_version=row.policy_version,
        exploration=CONTEXT.decode(row.exploration_json),
    )


def _json_or_null(value: object) -> str | None:
    return None if value is None else json_text(value)
