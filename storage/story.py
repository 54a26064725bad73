"""What people ask of the store: the story of one decision, reward totals, counts.

Every function raises StoreUnavailableError when the database is locked or away.
"""

import math
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Engine, Table, func, select

from schemas.messages import Decision, Mode
from schemas.tables import REWARD_BUCKET_SECONDS, decisions, feedback, rewards, trainings
from schemas.tables import reward_totals as totals
from storage.database import reading
from storage.decision_row import REWARDS, decision_of
from storage.open_decisions import StoredEvent, events_of


@dataclass(frozen=True, slots=True)
class Training:
    """What the learner made of a decision, and the first policy trained on it."""

    policy_version: str
    estimates: tuple[float | None, ...]
    """[K] r̂ by position, null where there was no impression."""
    stabilized: tuple[float | None, ...]
    """[K] the reward that trained the agent, by position."""


@dataclass(frozen=True, slots=True)
class DecisionStory:
    """Times in seconds since the epoch."""

    decision: Decision
    received_at: float
    events: tuple[StoredEvent, ...]
    """By (occurred_at, event_id)."""
    rewards: tuple[float | None, ...] | None
    """[K] by position; null while the window is open."""
    terminated: bool
    final_at: float | None
    corrected_at: float | None
    training: Training | None


@dataclass(frozen=True, slots=True)
class RewardTotal:
    """Sums over the final decisions of one mode that were decided in [bucket_start, + REWARD_BUCKET_SECONDS)."""

    bucket_start: int
    mode: str
    decisions: int
    reward_sum: float
    reward_square_sum: float


def decision_story(engine: Engine, decision_id: str) -> DecisionStory | None:
    """All of one snapshot; None: the store does not know the decision."""
    with reading(engine) as connection:
        reward = connection.execute(select(rewards).where(rewards.c.decision_id == decision_id)).first()
        if reward is None:
            return None
        # By both columns, since PostgreSQL finds a decision's day by `received_at`.
        which = (decisions.c.decision_id == decision_id, decisions.c.received_at == reward.received_at)
        decision = connection.execute(select(decisions).where(*which)).one()
        training = connection.execute(select(trainings).where(trainings.c.decision_id == decision_id)).first()
        earliest = min(decision.decided_at, decision.received_at)
        events = tuple(events_of(connection, {decision_id: earliest}).get(decision_id, ()))
    return DecisionStory(
        decision=decision_of(decision),
        received_at=decision.received_at,
        events=events,
        rewards=None if reward.rewards_json is None else REWARDS.decode(reward.rewards_json),
        terminated=bool(reward.terminated),
        final_at=reward.final_at,
        corrected_at=reward.corrected_at,
        training=None
        if training is None
        else Training(
            training.policy_version,
            REWARDS.decode(training.estimates_json),
            REWARDS.decode(training.stabilized_json),
        ),
    )


def reward_totals(engine: Engine, since: float, until: float = math.inf) -> list[RewardTotal]:
    """Buckets that start at or after `since` and end at or before `until`, by (bucket_start, mode)."""
    start = totals.c.bucket_start
    statement = select(totals).where(start >= since, start <= until - REWARD_BUCKET_SECONDS)
    with reading(engine) as connection:
        return [RewardTotal(*row) for row in connection.execute(statement.order_by(start, totals.c.mode))]


def first_totals(engine: Engine, mode: Mode, seconds: float) -> list[RewardTotal]:
    """The buckets of `mode` that start within `seconds` of its first one."""
    start, of_mode = totals.c.bucket_start, totals.c.mode == mode
    first = select(func.min(start)).where(of_mode).scalar_subquery()
    with reading(engine) as connection:
        rows = connection.execute(select(totals).where(of_mode, start < first + seconds).order_by(start))
        return [RewardTotal(*row) for row in rows]


def num_feedback(engine: Engine, received_since: float = 0.0) -> int:
    """Events stored that the event log got at that time or later. Counts them: not for every second."""
    return _count(engine, feedback, feedback.c.received_at >= received_since)


def num_decisions(engine: Engine) -> int:
    """Decisions stored. Counts them: not for every second."""
    return _count(engine, decisions)


def _count(engine: Engine, table: Table, *which: ColumnElement[bool]) -> int:
    with reading(engine) as connection:
        return connection.execute(select(func.count()).select_from(table).where(*which)).scalar_one()
