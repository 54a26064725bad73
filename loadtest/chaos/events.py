"""What the load says about a decision, and when: most of it soon, some of it late, twice or too early. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

from schemas.messages import FeedbackEvent

LATE = 0.05
"""Share of what comes after the window: half of it happened within, and corrects the reward; the rest counts not."""
TWICE = 0.05
NAMELESS = 0.1
"""Without an `event_id`."""
UNKNOWN = 0.02
"""About a decision that nobody made."""
EARLY = 0.03
"""Share of the decisions that are spoken of before they are made."""

_SOON_SECONDS = 1.0
_LATE_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Sending:
    """Events that happened together, to be sent then."""

    at: float
    events: tuple[FeedbackEvent, ...]


class Storyteller:
    """Makes up what happened to decisions; every event has an `occurred_at`."""

    def __init__(self, name: str, rng: Random, wait_seconds: float) -> None:
        """`name` goes into the ids: that of no other storyteller."""
        self._name, self._rng, self._wait_seconds = name, rng, wait_seconds
        self._num = 0

    def story(self, decision_id: str, item_ids: Sequence[str], now: float) -> Iterator[Sending]:
        """All that is to be said of a decision that is made now, or in a moment."""
        rng = self._rng
        if rng.random() < UNKNOWN:
            decision_id = f"{decision_id}-unknown"
        seen = [item_id for item_id in item_ids if rng.random() < 0.9]
        yield from self._told(decision_id, [("view", item_id) for item_id in seen], now)
        done: list[tuple[str, str | None]] = [("click", item_id) for item_id in seen if rng.random() < 0.35]
        done += [("purchase", item_id) for item_id in seen if rng.random() < 0.04]
        done += [("click", None)] if rng.random() < 0.05 else []
        yield from self._told(decision_id, done, now + rng.uniform(0, _SOON_SECONDS))
        if rng.random() < 0.1:
            yield from self._told(decision_id, [("leave", None)], now + _SOON_SECONDS)

    def _told(self, decision_id: str, done: Sequence[tuple[str, str | None]], now: float) -> Iterator[Sending]:
        if not done:
            return
        rng, at, occurred_at = self._rng, now, now
        if rng.random() < LATE:
            at = now + self._wait_seconds + rng.uniform(0, _LATE_SECONDS)
            occurred_at = now if rng.random() < 0.5 else at
        is_nameless = rng.random() < NAMELESS
        events = tuple(
            self._event(decision_id, kind, item_id, occurred_at, is_nameless=is_nameless) for kind, item_id in done
        )
        yield Sending(at, events)
        if not is_nameless and rng.random() < TWICE:
            yield Sending(at + rng.uniform(0, _SOON_SECONDS), events)

    def _event(
        self, decision_id: str, kind: str, item_id: str | None, occurred_at: float, *, is_nameless: bool
    ) -> FeedbackEvent:
        self._num += 1
        return FeedbackEvent(
            decision_id,
            kind,
            None if is_nameless else f"{decision_id}-{self._name}{self._num}",
            item_id,
            self._rng.choice((None, 1.0, 0.5, 2.0)),
            datetime.fromtimestamp(occurred_at, UTC),
        )
