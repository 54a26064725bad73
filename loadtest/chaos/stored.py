"""What the store holds, for the audit: read by its own statements, not by those of the product."""

from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import Engine, and_, select

from schemas.tables import decisions, feedback, reward_totals, rewards
from storage.database import reading
from storage.open_decisions import OpenDecision, StoredEvent
from storage.story import RewardTotal

_ROWS_AT_ONCE = 5_000


class _Item(msgspec.Struct):
    item_id: str


_ITEMS = msgspec.json.Decoder(list[_Item])
_REWARDS = msgspec.json.Decoder(tuple[float | None, ...])


def stored_events(engine: Engine) -> Iterator[StoredEvent]:
    """Every row of `feedback`."""
    yield from map(StoredEvent._make, _rows(engine, select(*(feedback.c[name] for name in StoredEvent._fields))))


def stored_decisions(engine: Engine) -> Iterator[OpenDecision]:
    """Every decision with its reward, without its events."""
    joined = and_(decisions.c.decision_id == rewards.c.decision_id, decisions.c.received_at == rewards.c.received_at)
    statement = select(
        decisions.c.decision_id,
        decisions.c.decided_at,
        decisions.c.mode,
        decisions.c.items_json,
        rewards.c.rewards_json,
        rewards.c.terminated,
        rewards.c.final_at,
    ).join(rewards, joined, isouter=True)
    for row in _rows(engine, statement):
        yield OpenDecision(
            decision_id=row.decision_id,
            decided_at=row.decided_at,
            mode=row.mode,
            item_ids=tuple(item.item_id for item in _ITEMS.decode(row.items_json)),
            is_weights=False,
            events=(),
            rewards=None if row.rewards_json is None else _REWARDS.decode(row.rewards_json),
            terminated=bool(row.terminated),
            final_at=row.final_at,
        )


def stored_totals(engine: Engine) -> list[RewardTotal]:
    return [RewardTotal(*row) for row in _rows(engine, select(reward_totals))]


def _rows(engine: Engine, statement: Any) -> Iterator[Any]:
    with reading(engine) as connection:
        options = connection.execution_options(stream_results=True, yield_per=_ROWS_AT_ONCE)
        yield from options.execute(statement)
