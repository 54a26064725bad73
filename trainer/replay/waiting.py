"""Decisions that are final but not admitted yet: an earlier one may still be open (DESIGN §7.6)."""

from collections.abc import Iterator
from heapq import heappop, heappush

from storage.reward_tail import RewardedDecision


class Waiting:
    """By decision time; equal times by id."""

    def __init__(self) -> None:
        self._decisions: dict[str, RewardedDecision] = {}
        self._order: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._decisions)

    def put(self, decision: RewardedDecision) -> None:
        """A decision that waits already is corrected."""
        if decision.decision_id not in self._decisions:
            heappush(self._order, (decision.decided_at, decision.decision_id))
        self._decisions[decision.decision_id] = decision

    def take(self, decided_before: float, keep: int) -> Iterator[RewardedDecision]:
        """Removes and yields the earliest that were decided before this time, while more than `keep` are there."""
        while len(self._order) > keep and self._order[0][0] < decided_before:
            yield self._decisions.pop(heappop(self._order)[1])

    def first_revision(self) -> int | None:
        """The lowest revision that a waiting decision was read at."""
        return min((decision.revision for decision in self._decisions.values()), default=None)
