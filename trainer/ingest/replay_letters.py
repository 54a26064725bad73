"""Dead letters → records that are good now, since the loop file has changed. Pure."""

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from storage.event_log import DeadLetter, Record
from trainer.ingest.parse import origin_id, parse


def revived(letter: DeadLetter, kinds: Collection[str], now: float) -> bytes | DeadLetter:
    """The record to append again, or the letter with what is wrong with it now.

    What it got from its first record it keeps: the id that was made of its origin, and the time when it occurred.
    """
    value = _completed(letter) if letter.partition.topic == "feedback" else letter.value
    parsed = parse([Record(letter.partition, letter.offset, now, value)], kinds)
    if not parsed.dead_letters:
        return value
    wrong = parsed.dead_letters[0]
    return replace(letter, reason=wrong.reason, detail=wrong.detail)


def _completed(letter: DeadLetter) -> bytes:
    try:
        event: Any = msgspec.json.decode(letter.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return letter.value
    if not isinstance(event, dict):
        return letter.value
    if event.get("event_id") is None:
        event["event_id"] = origin_id(letter.partition, letter.offset, letter.index)
    if event.get("occurred_at") is None:
        event["occurred_at"] = datetime.fromtimestamp(letter.received_at, UTC)
    return msgspec.json.encode(event)
