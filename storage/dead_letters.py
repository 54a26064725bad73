"""Dead letters of the SQL event log: rows of the store, written by ingest in the transaction that passes them by."""

from collections.abc import Collection, Iterator

from sqlalchemy import Engine, delete, select, tuple_

from schemas.tables import dead_letters
from storage.database import reading, writing
from storage.event_log import DeadLetter, Partition

_PAGE = 500
_ORIGIN = (dead_letters.c.topic, dead_letters.c.partition, dead_letters.c.offset, dead_letters.c.index)


class SqlDeadLetters:
    """Every method raises StoreUnavailableError when the database is locked or away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read(self) -> Iterator[DeadLetter]:
        """All, oldest first; some at a time, as values may be megabytes."""
        columns, last_id = dead_letters.c, 0
        statement = select(dead_letters).order_by(columns.dead_letter_id).limit(_PAGE)
        while True:
            with reading(self._engine) as connection:
                rows = connection.execute(statement.where(columns.dead_letter_id > last_id)).all()
            if not rows:
                return
            last_id = rows[-1].dead_letter_id
            for _, topic, number, offset, index, reason, detail, value, received_at in rows:
                yield DeadLetter(Partition(topic, number), offset, index, reason, detail, bytes(value), received_at)

    def forget(self, letters: Collection[DeadLetter]) -> None:
        """They were replayed."""
        origins = [(each.partition.topic, each.partition.number, each.offset, each.index) for each in letters]
        with writing(self._engine) as connection:
            connection.execute(delete(dead_letters).where(tuple_(*_ORIGIN).in_(origins)))

    def close(self) -> None:
        """The engine is the caller's."""
