"""Which decision comes next in a session: the episode of one `session_id`, else of one `user_id` (DESIGN §3).

`next_rows` says it of all decisions at once; `SessionIndex` keeps the same links while decisions come in any order.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from trainer.replay.row_table import RowTable

NO_ROW = -1


class Entry(NamedTuple):
    """One decision in its session, sorted by time and, so that equal times have an order too, by id."""

    decided_at: float
    decision_id: str
    row: int


Link = tuple[int, int]
"""A row, and the row that comes next or `NO_ROW`."""


def session_key(session_id: str | None, user_id: str | None) -> str | None:
    """What decisions of one session share; None: the decision stands alone."""
    if session_id is not None:
        return f"session {session_id}"
    return None if user_id is None else f"user {user_id}"


def next_rows(decisions: Iterable[tuple[str | None, Entry]], timeout_seconds: float) -> dict[int, int]:
    """For each row the next one of its session, `NO_ROW` where there is none; a gap over the timeout ends a session."""
    sessions: dict[str, list[Entry]] = {}
    links = {}
    for key, entry in decisions:
        links[entry.row] = NO_ROW
        if key is not None:
            sessions.setdefault(key, []).append(entry)
    for entries in sessions.values():
        links |= dict(_link(earlier, later, timeout_seconds) for earlier, later in pairwise(sorted(entries)))
    return links


def _link(earlier: Entry, later: Entry, timeout_seconds: float) -> Link:
    return earlier.row, later.row if later.decided_at - earlier.decided_at <= timeout_seconds else NO_ROW


class SessionIndex:
    """The live rows of each session. Inserting and removing return the links that they change.

    A session is known by a hash of 64 bits: among five million, two share one in one buffer of a million.
    """

    def __init__(self, timeout_seconds: float, num_rows: int, entry_of: Callable[[int], Entry]) -> None:
        """Of rows [0, num_rows); `entry_of` says the entry of a row that is in."""
        self._timeout_seconds = timeout_seconds
        self._entry_of = entry_of
        self._before = np.zeros(num_rows, np.int32)  # in the session: row + 1; 0 where there is none
        self._after = np.zeros(num_rows, np.int32)  # the same
        self._sessions = np.zeros(num_rows, np.int64)  # the session's hash; 0 where the row stands alone
        self._last = RowTable(self._sessions)  # has the last row of each session

    def insert(self, key: str | None, entry: Entry) -> list[Link]:
        """Also into the middle of a session, where a decision came late."""
        row = entry.row
        self._sessions[row] = 0 if key is None else hash(key) or 1
        if key is None:
            return [(row, NO_ROW)]
        earlier, later = self._around(entry, next(self._last.find(self._sessions[row]), NO_ROW))
        self._join(earlier.row if earlier else NO_ROW, row)
        self._join(row, later.row if later else NO_ROW)
        if later is None:
            self._make_last(row, instead_of=earlier.row if earlier else NO_ROW)
        links = [_link(earlier, entry, self._timeout_seconds)] if earlier else []
        return [*links, _link(entry, later, self._timeout_seconds) if later else (row, NO_ROW)]

    def remove(self, row: int) -> list[Link]:
        """What came before the removed row has no next one then: the row after it is not what really came next."""
        if self._sessions[row] == 0:
            return []
        earlier, later = int(self._before[row]) - 1, int(self._after[row]) - 1
        self._join(earlier, later)
        if later == NO_ROW:
            self._make_last(earlier, instead_of=row)
        return [] if earlier == NO_ROW else [(earlier, NO_ROW)]

    def _around(self, entry: Entry, last: int) -> tuple[Entry | None, Entry | None]:
        """What comes before and after an entry in a session with this last row; nearly always the last one and none."""
        earlier, later = self._entry(last), None
        while earlier is not None and earlier > entry:
            earlier, later = self._entry(int(self._before[earlier.row]) - 1), earlier
        return earlier, later

    def _entry(self, row: int) -> Entry | None:
        return None if row == NO_ROW else self._entry_of(row)

    def _join(self, earlier: int, later: int) -> None:
        """One follows on the other; either may be `NO_ROW`."""
        if earlier != NO_ROW:
            self._after[earlier] = later + 1
        if later != NO_ROW:
            self._before[later] = earlier + 1

    def _make_last(self, row: int, *, instead_of: int) -> None:
        """Of a session; either may be `NO_ROW`."""
        if instead_of != NO_ROW:
            self._last.remove(instead_of)
        if row != NO_ROW:
            self._last.put(row)
