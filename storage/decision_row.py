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


def decision_row(decision: Decision, received_at: float) -> tuple[Any, ...]:
    """The row of the table `decisions`, in the order of its columns."""
    return (
        decision.decision_id,
        decision.decided_at.timestamp(),
        received_at,
        decision.user_id,
        decision.session_id,
        decision.mode,
        decision.policy_version,
        decision.loop_hash,
        decision.seed,
        json_text(decision.context),
        _json_or_null(decision.candidates),
        _json_or_null(decision.exclude),
        _json_or_null(decision.shortlist),
        json_text(decision.items),
        _json_or_null(decision.action),
        decision.log_density,
        json_text(decision.exploration),
    )


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
