"""Sums of rewards over time, kept up to date by differences, so that nobody has to add up the table `rewards`."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from schemas.tables import REWARD_BUCKET_SECONDS, reward_totals
from storage.database import insert

_KEY = ("bucket_start", "mode")
_SUMS = ("decisions", "reward_sum", "reward_square_sum")


@dataclass(frozen=True, slots=True)
class RewardChange:
    """The reward of one decision before (null: it was not final) and after. It is the sum over its impressions."""

    decided_at: float
    mode: str
    before: tuple[float | None, ...] | None
    after: tuple[float | None, ...]


def add_changes(connection: Connection, changes: Iterable[RewardChange]) -> None:
    """Bring `reward_totals` up to date with these changes."""
    sums: defaultdict[tuple[int, str], list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    for change in changes:
        total = sums[_bucket_start(change.decided_at), change.mode]
        after, before = _reward(change.after), _reward(change.before or ())
        total[0] += change.before is None
        total[1] += after - before
        total[2] += after**2 - before**2
    rows = [dict(zip(_KEY + _SUMS, (*key, *total), strict=True)) for key, total in sums.items()]
    if rows:
        statement = insert(connection, reward_totals)
        added = {name: reward_totals.c[name] + statement.excluded[name] for name in _SUMS}
        connection.execute(statement.on_conflict_do_update(index_elements=_KEY, set_=added), rows)


def _reward(rewards: tuple[float | None, ...]) -> float:
    return math.fsum(reward for reward in rewards if reward is not None)


def _bucket_start(decided_at: float) -> int:
    return math.floor(decided_at / REWARD_BUCKET_SECONDS) * REWARD_BUCKET_SECONDS
