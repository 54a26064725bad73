"""Feedback on its way in: decoded, checked, and acknowledged once it is durable."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

import msgspec

from schemas.messages import (
    MAX_FEEDBACK_EVENTS,
    MAX_FUTURE_SECONDS,
    FeedbackAccepted,
    FeedbackEvent,
    has_control_character,
)
from service.durable_log import Kept
from service.metrics import ServiceMetrics
from service.packing import Packer
from service.problems import Loc, Mistake, ProblemError, broken_rules, decode, unavailable
from service.together import Settle
from storage.event_log import LogUnavailableError, RecordTooLargeError

_MAX_AHEAD = timedelta(seconds=MAX_FUTURE_SECONDS)
_Body = FeedbackEvent | Annotated[list[FeedbackEvent], msgspec.Meta(max_length=MAX_FEEDBACK_EVENTS)]


class FeedbackRules:
    """What an event must be beyond its types, and what it gets where it says nothing."""

    def __init__(self, kinds: frozenset[str], clock: Callable[[], float], new_id: Callable[[], str]) -> None:
        self._kinds = kinds
        self._clock = clock
        self._new_id = new_id
        self._decoder: msgspec.json.Decoder[FeedbackEvent | list[FeedbackEvent]] = msgspec.json.Decoder(_Body)

    def complete(self, body: bytes) -> tuple[list[FeedbackEvent], list[str]]:
        """The events with nothing left out, and the ids that were made for them.

        Raises:
            ProblemError: 400 or 422; one wrong event refuses all.
        """
        decoded = decode(self._decoder, body)
        events = decoded if isinstance(decoded, list) else [decoded]
        now = datetime.fromtimestamp(self._clock(), UTC)
        latest = now + _MAX_AHEAD
        made: list[str] = []
        for event in events:
            if not self._is_good(event, latest):
                raise broken_rules(self._mistakes(events, latest, is_list=decoded is events))
            if event.event_id is None:
                event.event_id = self._new_id()
                made.append(event.event_id)
            if event.value is None:
                event.value = 1.0
            if event.occurred_at is None:
                event.occurred_at = now
        return events, made

    def _is_good(self, event: FeedbackEvent, latest: datetime) -> bool:
        """Cheap, as it is asked of every event; what is wrong is found out by `_mistakes`."""
        return (
            event.kind in self._kinds
            and event.decision_id.isprintable()
            and (event.event_id is None or event.event_id.isprintable())
            and (event.item_id is None or event.item_id.isprintable())
            and (event.occurred_at is None or event.occurred_at <= latest)
        ) or not self._mistakes([event], latest, is_list=False)

    def _mistakes(self, events: Sequence[FeedbackEvent], latest: datetime, *, is_list: bool) -> list[Mistake]:
        return [
            Mistake(("body", *((i,) if is_list else ()), *loc), msg, given)
            for i, event in enumerate(events)
            for loc, msg, given in self._mistakes_of(event, latest)
        ]

    def _mistakes_of(self, event: FeedbackEvent, latest: datetime) -> list[tuple[Loc, str, object]]:
        found: list[tuple[Loc, str, object]] = []
        if event.kind not in self._kinds:
            found.append((("kind",), f"the loop file names {', '.join(sorted(self._kinds))}", event.kind))
        for name in ("decision_id", "event_id", "item_id"):
            text = getattr(event, name)
            if text is not None and has_control_character(text):
                found.append(((name,), "an id must not hold control characters", text))
        if event.occurred_at is not None and event.occurred_at > latest:
            msg = f"lies more than {MAX_FUTURE_SECONDS:.0f} s ahead of the clock here"
            found.append((("occurred_at",), msg, event.occurred_at))
        return found


class FeedbackIntake:
    """Answers once all events of a body are durable. Where neither log nor spool takes them, nothing is kept: the
    client hears 503 and sends again.
    """

    def __init__(self, rules: FeedbackRules, packer: Packer, metrics: ServiceMetrics) -> None:
        self._rules = rules
        self._packer = packer
        self._metrics = metrics
        self._encode = msgspec.json.Encoder().encode

    def accept(self, body: bytes, settle: Settle[bytes]) -> None:
        """`settle` gets the answer, a `FeedbackAccepted`, once every event of `body` is in the event log or in the
        spool; or what is in the way: `ProblemError` 400, 422; 413, the log takes no record of this size; 503, neither
        has room. None of the events was taken then.
        """
        try:
            events, made = self._rules.complete(body)
            elements = self._encode(events)[1:-1]
        except Exception as error:  # noqa: BLE001 (it is the request's, and the edge answers it)
            settle(error)
            return
        answered = partial(self._accepted, len(events), made, settle)
        if events:
            self._packer.append(elements, answered)
        else:
            answered("log")

    def _accepted(self, num_events: int, made: list[str], settle: Settle[bytes], kept: Kept | Exception) -> None:
        if isinstance(kept, Exception):
            settle(_problem(kept))
            return
        self._metrics.feedback.inc(num_events)
        num_spooled = num_events if kept == "spool" else 0
        if num_spooled:
            self._metrics.feedback_spooled.inc(num_spooled)
        settle(self._encode(FeedbackAccepted(num_events, num_spooled, made or None)))


def _problem(error: Exception) -> Exception:
    if isinstance(error, RecordTooLargeError):
        return ProblemError(413, f"send fewer events at once: {error}")
    return unavailable(f"none of this was taken: {error}") if isinstance(error, LogUnavailableError) else error
