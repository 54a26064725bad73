"""What the load asked for and what it was told: a file of JSON lines a process, written as it happens, never read back
by who wrote it.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Literal, Self

import msgspec

from schemas.messages import FeedbackEvent

How = Literal["http", "spooled", "producer"]
"""Who promised to keep an event: a ranker by its log, a ranker by its spool, or the broker."""


class Asked(msgspec.Struct, frozen=True, tag=True):
    """A decision that a shopper will ask for in a moment; written only where others are to speak of it before."""

    decision_id: str
    item_ids: tuple[str, ...]


class Answered(msgspec.Struct, frozen=True, tag=True):
    """A decision that a ranker gave."""

    decision_id: str
    item_ids: tuple[str, ...]
    """As shown."""
    at: float
    ranker: int


class Acknowledged(msgspec.Struct, frozen=True, tag=True, gc=False):
    """An event that somebody promised to keep, as a reader of the log must make it: with its defaults filled in."""

    event_id: str
    decision_id: str
    item_id: str | None
    kind: str
    value: float
    occurred_at: float
    how: How

    @property
    def content(self) -> tuple[object, ...]:
        """All that was promised, the id apart."""
        return self.decision_id, self.item_id, self.kind, self.value, self.occurred_at

    @classmethod
    def of(cls, event: FeedbackEvent, event_id: str, occurred_at: float, how: How) -> Self:
        value = 1.0 if event.value is None else event.value
        return cls(event_id, event.decision_id, event.item_id, event.kind, value, occurred_at, how)


class Tally(msgspec.Struct, frozen=True, tag=True):
    """Counts by what was counted, of one process, at its end."""

    counts: dict[str, int]


Entry = Asked | Answered | Acknowledged | Tally


class LedgerWriter:
    """Appends entries to a file. Safe for several threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)  # whole lines, at once: others read along
        self._lock = Lock()
        self._encode = msgspec.json.Encoder().encode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, *entries: Entry) -> None:
        lines = b"".join(self._encode(entry) + b"\n" for entry in entries)
        with self._lock:
            self._file.write(lines)


class LedgerReader:
    """Reads along while the file is written."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open("rb")
        self._rest = b""
        self._decode = msgspec.json.Decoder(Entry).decode

    def read(self) -> Iterator[Entry]:
        """The entries that are new since the last call."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return map(self._decode, lines)

    def close(self) -> None:
        self._file.close()


class ContradictionError(Exception):
    """The load was told two different things of one event: it cannot tell what must be stored."""


class Ledger:
    """All that the processes of the load wrote down so far."""

    def __init__(self, *paths: Path) -> None:
        self._readers = [LedgerReader(path) for path in paths]
        self.events: dict[str, Acknowledged] = {}
        """By id, as they were acknowledged first."""
        self.num_repeats = 0
        """Acknowledgements of events that were acknowledged before: sent twice on purpose, or again after a failure."""
        self.answered: dict[str, Answered] = {}
        self.counts: Counter[str] = Counter()
        self.num_ended = 0
        """Processes that have come to their end."""

    def refresh(self) -> None:
        """Read what has come.

        Raises:
            ContradictionError: an event was acknowledged twice, not as the same.
        """
        for reader in self._readers:
            for entry in reader.read():
                self._add(entry)

    def close(self) -> None:
        for reader in self._readers:
            reader.close()

    def _add(self, entry: Entry) -> None:
        match entry:
            case Acknowledged():
                first = self.events.setdefault(entry.event_id, entry)
                if first.content != entry.content:
                    raise ContradictionError(f"{first} and {entry}")
                self.num_repeats += first is not entry
            case Answered():
                self.answered.setdefault(entry.decision_id, entry)
            case Tally():
                self.counts.update(entry.counts)
                self.num_ended += 1
