"""Records of the event log → decisions, feedback events, dead letters (DESIGN §6).

Pure; never raises, whatever the records hold.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

import msgspec

from schemas.messages import (
    MAX_FUTURE_SECONDS,
    MAX_ID_LENGTH,
    Decision,
    Features,
    FeedbackEvent,
    has_control_character,
)
from storage.event_log import DeadLetter, Partition, Record
from storage.open_decisions import StoredEvent

_Message = TypeVar("_Message", Decision, FeedbackEvent)
_Row = TypeVar("_Row")

_SEED_END = 2**63
_FIRST_SECOND = -62_135_596_800.0
"""Of the year 1, in UTC: a time zone may lead further back, where no date is that could be shown."""
_MAX_NAME_LENGTH = 64  # of the store's columns for loop hashes and policy versions
_CONTAINERS = frozenset((dict, list))
# Invalid UTF-8 and too deep a nesting leave msgspec as Python's own errors.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(slots=True)
class Parsed:
    """What was found in some records, in the order given."""

    decisions: list[tuple[Decision, float]] = field(default_factory=list)
    """Each with its `received_at`: the record's time."""
    events: list[StoredEvent] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    judged: list[tuple[int, int]] = field(default_factory=list)
    """How many elements of each record were good, and how many bad."""


class _BrokenRuleError(ValueError):
    """An element of the right shape that breaks a rule; the text is the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _Decoders(Generic[_Message]):
    """One topic's: an element alone, and a whole array at once, which is many times faster."""

    def __init__(self, message: type[_Message]) -> None:
        self.one: msgspec.json.Decoder[_Message] = msgspec.json.Decoder(message)
        self._array = msgspec.json.Decoder(list[message])  # type: ignore[valid-type]  # made at run time

    def whole(self, value: bytes) -> list[_Message]:
        return self._array.decode(value) if _is_array(value) else [self.one.decode(value)]


_DECISIONS = _Decoders(Decision)
_FEEDBACK = _Decoders(FeedbackEvent)
_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
# Of a string that does not end all the rest is part: so that nothing is looked at twice.
_OUTLINE = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)


def parse(records: Iterable[Record], kinds: Collection[str]) -> Parsed:
    """Judges each element of each record by itself; `kinds` are the feedback kinds that the loop names."""
    parsed = Parsed()
    to_event = partial(_stored_event, kinds=kinds)
    for record in records:
        num_bad_before = len(parsed.dead_letters)
        good: Sequence[object]
        if record.partition.topic == "decisions":
            parsed.decisions += (good := _rows(record, _DECISIONS, _received_decision, parsed.dead_letters))
        else:
            parsed.events += (good := _rows(record, _FEEDBACK, to_event, parsed.dead_letters))
        parsed.judged.append((len(good), len(parsed.dead_letters) - num_bad_before))
    return parsed


def _rows(
    record: Record,
    decoders: _Decoders[_Message],
    to_row: Callable[[_Message, Record, int], _Row],
    dead_letters: list[DeadLetter],
) -> list[_Row]:
    """The rows of the record's good elements; the others go to `dead_letters`."""
    try:
        return [to_row(message, record, index) for index, message in enumerate(decoders.whole(record.value))]
    except (_BrokenRuleError, *_UNREADABLE):
        return list(_rows_one_by_one(record, decoders, to_row, dead_letters))


def _rows_one_by_one(
    record: Record,
    decoders: _Decoders[_Message],
    to_row: Callable[[_Message, Record, int], _Row],
    dead_letters: list[DeadLetter],
) -> Iterator[_Row]:
    try:
        elements = _split(record.value)
    except _UNREADABLE as error:
        dead_letters.append(_dead_letter(record, 0, "not_json", error, record.value))
        return
    for index, element in enumerate(elements):
        try:
            yield to_row(decoders.one.decode(element), record, index)
        except _BrokenRuleError as error:
            dead_letters.append(_dead_letter(record, index, error.reason, error, element))
        except msgspec.ValidationError as error:
            dead_letters.append(_dead_letter(record, index, "wrong_shape", error, element))
        except _UNREADABLE as error:
            dead_letters.append(_dead_letter(record, index, "not_json", error, element))


def _is_array(value: bytes) -> bool:
    return value.lstrip(b" \t\r\n")[:1] == b"["


def _split(value: bytes) -> list[bytes]:
    """The JSON of each element of an array, as it was written; anything else is its own only element."""
    if not _is_array(value):
        return [value]
    try:
        return [bytes(raw) for raw in _ELEMENTS.decode(value)]
    except _UNREADABLE:
        # Half a surrogate pair, as JavaScript writes of a text that it cut, or NaN: that element alone is bad.
        elements = _split_by_outline(value)
        if elements is None:
            raise
        return elements


def _split_by_outline(value: bytes) -> list[bytes] | None:
    """The elements of what looks like an array by its strings, brackets and commas; None if it does not."""
    elements, depth, start = [], 0, 1 + value.index(b"[")
    for found in _OUTLINE.finditer(value):
        at = found.start()
        mark = value[at : at + 1]
        if mark in b",]}" and depth == 1:
            elements.append(value[start:at].strip())
            start = at + 1
        depth += (mark in b"[{") - (mark in b"]}")
        if depth == 0:
            is_array = mark == b"]" and all(elements) and not value[start:].strip()
            return elements if is_array else None
    return None


def _dead_letter(record: Record, index: int, reason: str, error: Exception, value: bytes) -> DeadLetter:
    # A text that somebody sent may be part of the detail, and PostgreSQL stores no NUL.
    detail = str(error).replace("\x00", "\\x00")
    return DeadLetter(record.partition, record.offset, index, reason, detail, value, record.appended_at)


def origin_id(partition: Partition, offset: int, index: int) -> str:
    """The `event_id` of an event whose producer gave it none: the same whenever the record is read."""
    return f"{partition.topic}:{partition.number}:{offset}:{index}"


def _stored_event(event: FeedbackEvent, record: Record, index: int, kinds: Collection[str]) -> StoredEvent:
    """The event with its defaults filled in from the record."""
    if event.kind not in kinds:
        raise _BrokenRuleError("unknown_kind", f"kind {event.kind!r} is none of the loop's: {', '.join(sorted(kinds))}")
    _check_ids((event.decision_id, event.event_id or "", event.item_id or ""))
    occurred_at = record.appended_at if event.occurred_at is None else event.occurred_at.timestamp()
    occurred_at = max(occurred_at, _FIRST_SECOND)
    _check_time("occurred_at", occurred_at, record)
    return StoredEvent(
        event_id=event.event_id or origin_id(record.partition, record.offset, index),
        decision_id=event.decision_id,
        item_id=event.item_id,
        kind=event.kind,
        value=1.0 if event.value is None else event.value,
        occurred_at=occurred_at,
        received_at=record.appended_at,
    )


def _received_decision(decision: Decision, record: Record, index: int) -> tuple[Decision, float]:  # noqa: ARG001 a row's shape
    _check_ids(_ids_of(decision))
    _check_time("decided_at", decision.decided_at.timestamp(), record)
    _check_slate(decision)
    _check_storable(decision)
    return decision, record.appended_at


def _ids_of(decision: Decision) -> list[str]:
    return [
        decision.decision_id,
        decision.user_id or "",
        decision.session_id or "",
        *(item.item_id for item in decision.items),
        *(each if isinstance(each, str) else each.item_id for each in decision.candidates or ()),
        *(decision.exclude or ()),
        *(decision.shortlist or ()),
    ]


def _check_ids(ids: Iterable[str]) -> None:
    # Joined, because one look at one text is what a busy log can pay for.
    if has_control_character("".join(ids)):
        wrong = next(each for each in ids if has_control_character(each))
        raise _BrokenRuleError("bad_id", f"{wrong!r} holds a control character, which ids may not")


def _check_time(name: str, at: float, record: Record) -> None:
    ahead_seconds = at - record.appended_at
    if ahead_seconds > MAX_FUTURE_SECONDS:
        raise _BrokenRuleError(
            "too_far_ahead",
            f"{name} is {ahead_seconds:.0f} s ahead of the record's time; at most {MAX_FUTURE_SECONDS:.0f} s may be",
        )


def _check_slate(decision: Decision) -> None:
    ids = [item.item_id for item in decision.items]
    if not all(1 <= len(each) <= MAX_ID_LENGTH for each in ids):
        raise _BrokenRuleError("bad_id", f"an item's id in `items` does not have 1 to {MAX_ID_LENGTH} characters")
    if len(set(ids)) < len(ids):
        raise _BrokenRuleError("wrong_shape", "`items` has an item twice")
    if [item.position for item in decision.items] != list(range(len(ids))):
        raise _BrokenRuleError("wrong_shape", "the positions of `items` must be 0, 1, 2, … in this order")


def _check_storable(decision: Decision) -> None:
    """What would fail in the store would fail at every new attempt, and hold up all that comes after it."""
    if decision.decided_at.timestamp() < _FIRST_SECOND:
        raise _BrokenRuleError("wrong_shape", f"decided_at {decision.decided_at} lies before the year 1, in UTC")
    if not -_SEED_END <= decision.seed < _SEED_END:
        raise _BrokenRuleError("wrong_shape", f"seed {decision.seed} does not fit into 64 bits")
    for name, text in (("loop_hash", decision.loop_hash), ("policy_version", decision.policy_version or "")):
        if len(text) > _MAX_NAME_LENGTH or has_control_character(text):
            raise _BrokenRuleError(
                "wrong_shape", f"{name} must be at most {_MAX_NAME_LENGTH} characters without control characters"
            )
    requested = [each.features for each in decision.candidates or () if not isinstance(each, str)]
    for features in (decision.context, decision.exploration, *requested, *(item.features for item in decision.items)):
        _check_flat(features)


def _check_flat(features: Features) -> None:
    """A feature is a scalar or a list of scalars; deeper nesting might be read, and then be too deep to write."""
    if _CONTAINERS.isdisjoint(map(type, features.values())):
        return
    for name, value in features.items():
        if isinstance(value, dict) or (isinstance(value, list) and not _CONTAINERS.isdisjoint(map(type, value))):
            raise _BrokenRuleError("wrong_shape", f"{name!r} nests; a feature is a text, a number or a list of them")
