"""Feedback on its way in: decoded, checked, and acknowledged once the event log has it."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

from schemas.messages import (
    MAX_FEEDBACK_EVENTS,
    MAX_FUTURE_SECONDS,
    FeedbackAccepted,
    FeedbackEvent,
    has_control_character,
)
from service.metrics import ServiceMetrics
from service.problems import Loc, Mistake, broken_rules, decode, unavailable
from storage.event_log import EventLogWriter, LogUnavailableError

_MAX_RECORD_BYTES = 1 << 20  # of bodies that share a record; one alone may be larger
_MAX_WAITING_BYTES = 64 << 20

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
        latest = now + timedelta(seconds=MAX_FUTURE_SECONDS)
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


class _Record:
    """What becomes one record, and who waits for it."""

    def __init__(self) -> None:
        self.events: list[FeedbackEvent] = []
        self.num_bytes = 0
        self.waiters: list[asyncio.Future[None]] = []


class FeedbackIntake:
    """Packs what arrives in one turn of the event loop into one record, and waits until it is durable.

    Nothing is kept when the log is away: the client hears 503 and sends again.
    """

    def __init__(self, rules: FeedbackRules, writer: EventLogWriter, metrics: ServiceMetrics) -> None:
        self._rules = rules
        self._writer = writer
        self._metrics = metrics
        self._encoder = msgspec.json.Encoder()
        self._record: _Record | None = None
        self._waiting_bytes = 0

    async def accept(self, body: bytes) -> bytes:
        """The answer, a `FeedbackAccepted`, once every event of `body` is in the event log.

        Raises:
            ProblemError: 400, 422; 503, the log is away or too much waits for it, and none of the events was taken.
        """
        events, made = self._rules.complete(body)
        if events:
            await self._logged(events, len(body))
        self._metrics.feedback.inc(len(events))
        return self._encoder.encode(FeedbackAccepted(len(events), 0, made or None))

    async def _logged(self, events: list[FeedbackEvent], num_bytes: int) -> None:
        if self._waiting_bytes + num_bytes > _MAX_WAITING_BYTES:
            raise unavailable("too much feedback waits for the event log; none of this was taken")
        self._waiting_bytes += num_bytes
        try:
            await self._join_record(events, num_bytes)
        except LogUnavailableError as error:
            raise unavailable(f"the event log is away, and none of this was taken: {error}") from error
        finally:
            self._waiting_bytes -= num_bytes

    def _join_record(self, events: list[FeedbackEvent], num_bytes: int) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        if self._record is None:
            self._record = _Record()
            # After the callbacks that are ready now: those are the requests that arrived together.
            loop.call_soon(self._append, self._record)
        record, waiter = self._record, loop.create_future()
        record.events += events
        record.num_bytes += num_bytes
        record.waiters.append(waiter)
        if record.num_bytes >= _MAX_RECORD_BYTES:
            self._record = None
        return waiter

    def _append(self, record: _Record) -> None:
        if self._record is record:
            self._record = None
        future = asyncio.wrap_future(self._writer.append("feedback", self._encoder.encode(record.events)))
        future.add_done_callback(lambda done: self._settle(record.waiters, done.exception()))

    def _settle(self, waiters: list[asyncio.Future[None]], error: BaseException | None) -> None:
        if error is not None:
            self._metrics.log_failures.labels("feedback").inc()
        for waiter in waiters:
            if waiter.cancelled():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
