"""Which decision comes next in a session: the episode of one `session_id`, else of one `user_id` (DESIGN §3).

`next_rows` says it of all decisions at once; `SessionIndex` keeps the same links while decisions come in any order.
"""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

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
    """The live rows of each session. Inserting and removing return the links that they change."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._sessions: dict[str, list[Entry]] = {}

    def insert(self, key: str | None, entry: Entry) -> list[Link]:
        """Also into the middle of a session, where a decision came late."""
        if key is None:
            return [(entry.row, NO_ROW)]
        entries = self._sessions.setdefault(key, [])
        at = bisect_left(entries, entry)
        links = [_link(earlier, entry, self._timeout_seconds) for earlier in entries[max(at - 1, 0) : at]]
        following = [_link(entry, later, self._timeout_seconds) for later in entries[at : at + 1]]
        entries.insert(at, entry)
        return links + (following or [(entry.row, NO_ROW)])

    def remove(self, key: str | None, entry: Entry) -> list[Link]:
        """What came before the removed row has no next one then: the row after it is not what really came next."""
        if key is None:
            return []
        entries = self._sessions[key]
        at = bisect_left(entries, entry)
        del entries[at]
        if not entries:
            del self._sessions[key]
        return [(earlier.row, NO_ROW) for earlier in entries[max(at - 1, 0) : at]]
