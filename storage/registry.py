"""The policy registry: publish, promote, roll back.

The champion is the version of the last row of `promotions`. Its `previous_id` names the row to roll back to, whose own
`previous_id` goes on from there: a stack, as rolling back does not put the champion that it leaves onto it.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Engine, Row, bindparam, select, update
from sqlalchemy import insert as insert_into

from schemas.manifest import PolicyManifest
from schemas.tables import policies, promotions
from storage.database import insert, next_revision, reading, writing
from storage.decision_row import json_text

Published = Literal["published", "rejected"]
PolicyState = Literal["champion", "published", "rejected", "pruned"]

_METRICS = msgspec.json.Decoder(dict[str, float | None])


class UnknownPolicyError(Exception):
    """No policy has this version."""


class NotPromotableError(Exception):
    """The policy was rejected by the gate, or its files are gone."""


class NoPredecessorError(Exception):
    """There is no champion before this one to roll back to."""


@dataclass(frozen=True, slots=True)
class Champion:
    version: str
    pinned: bool


@dataclass(frozen=True, slots=True)
class PolicyRow:
    version: str
    state: PolicyState
    created_at: float
    """Seconds since the epoch."""
    parent: str | None
    metrics: dict[str, float | None]
    """Null where a metric was not finite."""


class PolicyRegistry:
    """Every method raises StoreUnavailableError when the database is locked or away."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock

    def champion(self) -> Champion | None:
        with reading(self._engine) as connection:
            current = _current(connection)
        return None if current is None else Champion(current.version, current.pinned)

    def next_version(self) -> str:
        """A version that no policy has or had, as "000042"; asking again gives another."""
        with writing(self._engine) as connection:
            return f"{next_revision(connection, 'policies'):06d}"

    def publish(self, manifest: PolicyManifest, state: Published) -> None:
        """Make a policy known whose files are in place; harmless to repeat."""
        row = {
            "version": manifest.version,
            "parent": manifest.parent,
            "loop_hash": manifest.loop_hash,
            "created_at": manifest.created_at,
            "state": state,
            "metrics_json": json_text(manifest.metrics),
        }
        with writing(self._engine) as connection:
            connection.execute(insert(connection, policies).on_conflict_do_nothing(), row)

    def promote(self, version: str, pinned: bool) -> None:
        """Make it the champion; by hand with `pinned`: the learner then promotes none until `unpin`.

        Raises:
            UnknownPolicyError: nothing was published under this version.
            NotPromotableError: the gate rejected it, or its files are gone.
        """
        with writing(self._engine) as connection:
            self._promote(connection, _locked(connection), version, pinned=pinned)

    def promote_unless_pinned(self, version: str) -> bool:
        """The learner's promotion: False, and nothing done, while the champion is pinned.

        Raises:
            UnknownPolicyError: nothing was published under this version.
            NotPromotableError: the gate rejected it, or its files are gone.
        """
        with writing(self._engine) as connection:
            current = _locked(connection)
            if current is not None and current.pinned:
                return False
            self._promote(connection, current, version, pinned=False)
            return True

    def rollback(self) -> str:
        """Make the champion before this one champion again, pinned; returns its version.

        Raises:
            NoPredecessorError: there is none, or its files are gone.
        """
        with writing(self._engine) as connection:
            current = _locked(connection)
            previous = None if current is None else _promotion(connection, current.previous_id)
            if previous is None:
                raise NoPredecessorError("there is no champion before this one: promote a version by hand instead")
            if _state(connection, previous.version) != "published":
                raise NoPredecessorError(
                    f"the files of {previous.version}, the champion before this one, are gone: promote one by hand"
                )
            self._add(connection, previous.version, previous.previous_id, pinned=True)
            return str(previous.version)

    def unpin(self) -> None:
        """Let the learner promote again."""
        with writing(self._engine) as connection:
            _pin(connection, _locked(connection), pinned=False)

    def listing(self, limit: int = 100) -> list[PolicyRow]:
        """The newest `limit`, newest first; a champion older than those comes last."""
        newest = select(policies).order_by(policies.c.created_at.desc(), policies.c.version.desc()).limit(limit)
        with reading(self._engine) as connection:
            current = _current(connection)
            champion = None if current is None else current.version
            rows = list(connection.execute(newest))
            if champion not in {None, *(row.version for row in rows)}:
                rows += connection.execute(select(policies).where(policies.c.version == champion))
        return [_policy_row(row, champion) for row in rows]

    def prunable(self, keep: int) -> list[str]:
        """Versions whose files may go: neither of the champion, nor of the one before it, nor of the newest `keep`."""
        statement = select(policies.c.version).where(policies.c.state.in_(["published", "rejected"]))
        with reading(self._engine) as connection:
            versions = connection.execute(statement.order_by(policies.c.created_at.desc()).offset(keep)).scalars().all()
            needed = _needed(connection)
        return [version for version in versions if version not in needed]

    def mark_pruned(self, versions: Collection[str]) -> list[str]:
        """Say that the files of these go, before they do; returns those marked: what was promoted meanwhile stays."""
        with writing(self._engine) as connection:
            _locked(connection)
            marked = sorted({*versions} - _needed(connection))
            statement = update(policies).where(policies.c.version == bindparam("of")).values(state="pruned")
            if marked:
                connection.execute(statement, [{"of": version} for version in marked])
        return marked

    def _promote(self, connection: Connection, current: Row[Any] | None, version: str, *, pinned: bool) -> None:
        _check_promotable(version, _state(connection, version))
        if current is not None and current.version == version:
            _pin(connection, current, pinned=pinned)
        else:
            self._add(connection, version, None if current is None else current.promotion_id, pinned=pinned)

    def _add(self, connection: Connection, version: str, previous_id: int | None, *, pinned: bool) -> None:
        row = {"version": version, "previous_id": previous_id, "pinned": pinned, "promoted_at": self._clock()}
        connection.execute(insert_into(promotions), row)


def _locked(connection: Connection) -> Row[Any] | None:
    """The current promotion, which no other transaction can change before this one ends."""
    next_revision(connection, "promotions")
    return _current(connection)


def _current(connection: Connection) -> Row[Any] | None:
    return connection.execute(select(promotions).order_by(promotions.c.promotion_id.desc()).limit(1)).first()


def _promotion(connection: Connection, promotion_id: int | None) -> Row[Any] | None:
    return connection.execute(select(promotions).where(promotions.c.promotion_id == promotion_id)).first()


def _pin(connection: Connection, current: Row[Any] | None, *, pinned: bool) -> None:
    if current is not None:
        is_current = promotions.c.promotion_id == current.promotion_id
        connection.execute(update(promotions).where(is_current).values(pinned=pinned))


def _needed(connection: Connection) -> set[str]:
    """The champion and the one to roll back to."""
    current = _current(connection)
    previous = None if current is None else _promotion(connection, current.previous_id)
    return {promotion.version for promotion in (current, previous) if promotion is not None}


def _state(connection: Connection, version: str) -> str | None:
    state: str | None = connection.execute(select(policies.c.state).where(policies.c.version == version)).scalar()
    return state


def _check_promotable(version: str, state: str | None) -> None:
    if state is None:
        raise UnknownPolicyError(f"there is no policy {version!r}; GET /policies lists those that are known")
    if state != "published":
        why = {"rejected": "the promotion gate rejected it", "pruned": "its files were pruned"}[state]
        raise NotPromotableError(f"policy {version} cannot be promoted: {why}")


def _policy_row(row: Row[Any], champion: str | None) -> PolicyRow:
    state: PolicyState = "champion" if row.version == champion else row.state
    return PolicyRow(row.version, state, row.created_at, row.parent, _METRICS.decode(row.metrics_json))
