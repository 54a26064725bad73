"""What a dead letter becomes when it is replayed."""

from datetime import UTC, datetime

import msgspec

from schemas.messages import FeedbackEvent
from storage.event_log import DeadLetter, Partition
from trainer.ingest.replay_letters import revived

KINDS = {"click"}
NOW = 2_000_000.0
THEN = 1_000_000.0


def letter(value: bytes, **fields: str) -> DeadLetter:
    partition = Partition("decisions" if fields.get("topic") == "decisions" else "feedback", 3)
    return DeadLetter(partition, 42, 7, "unknown_kind", "was wrong", value, THEN)


def test_what_is_good_now_keeps_its_origin_as_its_id_and_its_time() -> None:
    value = revived(letter(b'{"decision_id": "d", "kind": "click"}'), KINDS, NOW)
    assert isinstance(value, bytes)
    event = msgspec.json.decode(value, type=FeedbackEvent)
    assert event.event_id == "feedback:3:42:7"
    assert event.occurred_at == datetime.fromtimestamp(THEN, UTC)


def test_what_it_said_itself_stays() -> None:
    sent = b'{"decision_id":"d","kind":"click","event_id":"e","occurred_at":"1970-01-01T00:00:05Z","value":3.0}'
    value = revived(letter(sent), KINDS, NOW)
    assert isinstance(value, bytes)
    assert msgspec.json.decode(value) == msgspec.json.decode(sent)


def test_what_is_still_bad_says_why_now() -> None:
    for value, reason in (
        (b"\xff{", "not_json"),
        (b'{"decision_id": "d", "kind": "nod"}', "unknown_kind"),
        (b"3", "wrong_shape"),
    ):
        found = revived(letter(value), KINDS, NOW)
        assert isinstance(found, DeadLetter)
        assert (found.reason, found.value, found.offset) == (reason, value, 42)
        assert found.detail != "was wrong"


def test_a_time_that_lay_ahead_of_its_record_may_lie_behind_now() -> None:
    ahead = b'{"decision_id":"d","kind":"click","occurred_at":"1970-01-13T00:00:00Z"}'  # 36,800 s after THEN
    assert isinstance(revived(letter(ahead), KINDS, THEN + 60), DeadLetter)
    assert isinstance(revived(letter(ahead), KINDS, NOW), bytes)


def test_a_decision_goes_as_it_was() -> None:
    found = revived(letter(b'{"decision_id": "d"}', topic="decisions"), KINDS, NOW)
    assert isinstance(found, DeadLetter)
    assert found.reason == "wrong_shape"
