"""The items that can be recommended, and their features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, select, update

from schemas.messages import Features
from schemas.tables import items
from storage.database import insert, next_revision, reading, writing
from storage.decision_row import CONTEXT, json_text


@dataclass(frozen=True, slots=True)
class StoredItem:
    item_id: str
    features: Features
    updated_at: float
    """Seconds since the epoch."""
    deleted: bool


class Catalogue:
    """Every method raises StoreUnavailableError when the database is locked or away."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock

    def upsert(self, put: Sequence[tuple[str, Features]]) -> None:
        """Put items with their features in place of what was there; of an id that comes twice the last counts."""
        if not put:
            return
        with writing(self._engine) as connection:
            change = self._change(connection, deleted=False)
            rows = [{"item_id": item_id, "features_json": json_text(features), **change} for item_id, features in put]
            statement = insert(connection, items)
            replaced = {name: statement.excluded[name] for name in rows[0]}
            connection.execute(statement.on_conflict_do_update(index_elements=["item_id"], set_=replaced), rows)

    def delete(self, item_id: str) -> None:
        """Harmless to repeat."""
        with writing(self._engine) as connection:
            statement = update(items).where(items.c.item_id == item_id, items.c.deleted.is_(False))
            connection.execute(statement.values(self._change(connection, deleted=True)))

    def get(self, item_id: str) -> StoredItem | None:
        """None: unknown or deleted."""
        with reading(self._engine) as connection:
            row = connection.execute(_SELECT.where(items.c.item_id == item_id, items.c.deleted.is_(False))).first()
        return None if row is None else _item(*row[:-1])

    def changed_since(self, revision: int) -> tuple[list[StoredItem], int]:
        """What was put or deleted after `revision` (0: everything), and the revision to ask from next."""
        with reading(self._engine) as connection:
            rows = connection.execute(_SELECT.where(items.c.revision > revision).order_by(items.c.revision)).all()
        return [_item(*row[:-1]) for row in rows], rows[-1].revision if rows else revision

    def _change(self, connection: Connection, *, deleted: bool) -> dict[str, object]:
        return {"updated_at": self._clock(), "deleted": deleted, "revision": next_revision(connection, "items")}


_SELECT = select(items.c.item_id, items.c.features_json, items.c.updated_at, items.c.deleted, items.c.revision)


def _item(item_id: str, features_json: str, updated_at: float, deleted: bool) -> StoredItem:
    return StoredItem(item_id, CONTEXT.decode(features_json), updated_at, deleted)
