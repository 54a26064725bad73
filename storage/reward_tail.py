"""What the learner reads: decisions with their final rewards, in the order in which those became final or changed."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, and_, func, select, tuple_

from schemas.messages import Candidate, Features, LoggedItem
from schemas.tables import decisions, rewards, trainings
from storage.database import insert, reading, writing
from storage.decision_row import ACTION, CANDIDATES, CONTEXT, IDS, ITEMS, NULL, REWARDS, json_text
from storage.open_decisions import JOINED

TrainingRow = tuple[str, str, Sequence[float | None], Sequence[float | None]]
"""(decision_id, policy_version, r̂ [K] by position, the reward that trained the agent [K] by position)."""


@dataclass(frozen=True, slots=True)
class RewardedDecision:
    """A decision whose reward is final; times in seconds since the epoch."""

    decision_id: str
    decided_at: float
    user_id: str | None
    session_id: str | None
    mode: str
    context: Features
    candidates: list[str | Candidate] | None
    """Null: the whole catalogue."""
    exclude: list[str] | None
    shortlist: list[str] | None
    items: list[LoggedItem]
    action: list[float] | None
    log_density: float | None
    policy_version: str | None
    loop_hash: str
    rewards: tuple[float | None, ...]
    """[K] by position, null where there was no impression; `weights`: [1]."""
    terminated: bool
    final_at: float
    corrected_at: float | None
    revision: int


@dataclass(frozen=True, slots=True)
class Tail:
    """What one reading found, all of one snapshot."""

    decisions: list[RewardedDecision]
    """Whole revisions, by (revision, decided_at): new finals and corrections."""
    revision: int
    """The last one read: where to go on."""
    horizon: float
    """`decided_at` of the earliest decision that is not final; +inf if there is none."""


class RewardTail:
    """The learner's side of the store.

    Every method raises StoreUnavailableError when the database is locked or away.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read(self, revision: int, limit: int) -> Tail:
        """What came after `revision`: `limit` decisions, and more where the last one's revision has more."""
        with reading(self._engine) as connection:
            last = _last_revision(connection, revision, limit)
            statement = _SELECT.where(rewards.c.revision > revision, rewards.c.revision <= last)
            rows = connection.execute(statement.order_by(rewards.c.revision, rewards.c.decided_at)).all()
            horizon = _horizon(connection)
        return Tail([_decision(row) for row in rows], last, horizon)

    def since(self, revision: int, limit: int) -> list[RewardedDecision]:
        """The decisions of `read`."""
        return self.read(revision, limit).decisions

    def open_horizon(self) -> float:
        """The horizon of `read`."""
        with reading(self._engine) as connection:
            return _horizon(connection)

    def latest(self, num: int, up_to_revision: int) -> Iterator[RewardedDecision]:
        """The newest `num` by `decided_at` that did not change after `up_to_revision`, in order of `decided_at`.

        They are read as they are asked for, some at a time: a million take gigabytes.
        """
        statement = _SELECT.where(rewards.c.revision <= up_to_revision)
        newest_first = select(rewards.c.decided_at).where(rewards.c.revision <= up_to_revision)
        newest_first = newest_first.order_by(rewards.c.decided_at.desc())
        in_order = statement.order_by(*_PLACE).limit(_PAGE)
        with reading(self._engine) as connection:
            start = connection.execute(newest_first.offset(num - 1).limit(1)).scalar()
        place = (-math.inf if start is None else start, "")
        while True:
            with reading(self._engine) as connection:
                is_after = and_(rewards.c.decided_at >= place[0], tuple_(*_PLACE) > place)
                rows = connection.execute(in_order.where(is_after)).all()
            yield from (_decision(row) for row in rows)
            if len(rows) < _PAGE:
                return
            place = (rows[-1].decided_at, rows[-1].decision_id)

    def write_trainings(self, rows: Sequence[TrainingRow]) -> None:
        """The first of a decision wins."""
        if not rows:
            return
        values = [
            {
                "decision_id": id_,
                "policy_version": version,
                "estimates_json": json_text(r),
                "stabilized_json": json_text(s),
            }
            for id_, version, r, s in rows
        ]
        with writing(self._engine) as connection:
            connection.execute(insert(connection, trainings).on_conflict_do_nothing(), values)


_PAGE = 1_000
_PLACE = (rewards.c.decided_at, rewards.c.decision_id)
_SELECT = (
    select(decisions)
    .add_columns(rewards.c.rewards_json, rewards.c.terminated, rewards.c.final_at)
    .add_columns(rewards.c.corrected_at, rewards.c.revision)
    .join(rewards, JOINED)
)


def _last_revision(connection: Connection, revision: int, limit: int) -> int:
    """That of the `limit`-th reward after `revision`, or of the last one; `revision` itself if there is none."""
    after = select(rewards.c.revision).where(rewards.c.revision > revision)
    last = connection.execute(after.order_by(rewards.c.revision).offset(limit - 1).limit(1)).scalar()
    if last is None:
        last = connection.execute(select(func.max(rewards.c.revision))).scalar()
    return max(last or 0, revision)


def _horizon(connection: Connection) -> float:
    statement = select(func.min(rewards.c.decided_at)).where(rewards.c.final_at.is_(None))
    earliest = connection.execute(statement).scalar()
    return math.inf if earliest is None else earliest


def _decision(row: Row[Any]) -> RewardedDecision:
    return RewardedDecision(
        decision_id=row.decision_id,
        decided_at=row.decided_at,
        user_id=row.user_id,
        session_id=row.session_id,
        mode=row.mode,
        context=CONTEXT.decode(row.context_json),
        candidates=CANDIDATES.decode(row.candidates_json or NULL),
        exclude=IDS.decode(row.exclude_json or NULL),
        shortlist=IDS.decode(row.shortlist_json or NULL),
        items=ITEMS.decode(row.items_json),
        action=ACTION.decode(row.action_json or NULL),
        log_density=row.log_density,
        policy_version=row.policy_version,
        loop_hash=row.loop_hash,
        rewards=REWARDS.decode(row.rewards_json),
        terminated=row.terminated,
        final_at=row.final_at,
        corrected_at=row.corrected_at,
        revision=row.revision,
    )
