"""Records → decisions, events, dead letters. What a producer may write is anything; nothing of it may stop ingest."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.event_log import Partition, Record, Topic
from storage.open_decisions import StoredEvent
from trainer.ingest.parse import Parsed, parse

KINDS = frozenset({"click", "purchase"})
NOW = 1_800_000_000.0
EVENT = {"decision_id": "d1", "kind": "click"}
DECISION = {
    "decision_id": "d1",
    "decided_at": "2027-01-15T08:00:00Z",  # NOW
    "mode": "learned",
    "loop_hash": "abc",
    "seed": 7,
    "items": [
        {"item_id": "a", "position": 0, "score": 0.5, "propensity": 0.5},
        {"item_id": "b", "position": 1, "score": 0.1, "propensity": 1.0},
    ],
}


def record(value: bytes, topic: Topic = "feedback", offset: int = 5) -> Record:
    return Record(Partition(topic, 0), offset, NOW, value)


def parse_one(value: Any, topic: Topic = "feedback") -> Parsed:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parse([record(raw, topic)], KINDS)


def reasons(parsed: Parsed) -> list[str]:
    return [letter.reason for letter in parsed.dead_letters]


def test_an_event_gets_its_defaults_from_the_record() -> None:
    parsed = parse_one(EVENT)
    assert parsed.events == [StoredEvent("feedback:0:5:0", "d1", None, "click", 1.0, NOW, NOW)]
    assert not parsed.dead_letters


def test_null_is_the_same_as_absent() -> None:
    nulls = dict.fromkeys(("event_id", "item_id", "value", "occurred_at"))
    assert parse_one(EVENT | nulls) == parse_one(EVENT)


def test_an_event_keeps_what_it_says() -> None:
    full = EVENT | {"event_id": "e", "item_id": "a", "value": -2, "occurred_at": "2027-01-15T09:00:00.25+01:00"}
    assert parse_one(full).events == [StoredEvent("e", "d1", "a", "click", -2.0, NOW + 0.25, NOW)]


def test_ids_made_for_an_array_tell_its_elements_apart() -> None:
    assert [e.event_id for e in parse_one([EVENT, EVENT]).events] == ["feedback:0:5:0", "feedback:0:5:1"]


@pytest.mark.parametrize(("ahead", "accepted"), [("08:05:00Z", True), ("08:05:00.001Z", False)])
def test_five_minutes_ahead_of_the_record_is_the_limit(ahead: str, accepted: bool) -> None:
    assert len(parse_one(EVENT | {"occurred_at": "2027-01-15T" + ahead}).events) == accepted
    assert len(parse_one(DECISION | {"decided_at": "2027-01-15T" + ahead}, "decisions").decisions) == accepted


def test_what_a_time_zone_puts_before_the_year_1_occurred_as_it_began() -> None:
    """The ranker has accepted it; nobody could show the date."""
    (event,) = parse_one(EVENT | {"occurred_at": "0001-01-01T00:00:00+14:00"}).events
    assert datetime.fromtimestamp(event.occurred_at, UTC) == datetime.min.replace(tzinfo=UTC)
    assert parse_one(DECISION | {"decided_at": "0001-01-01T00:00:00Z"}, "decisions").decisions


def test_each_element_is_judged_by_itself() -> None:
    value = (
        b'[{"decision_id":"d1","kind":"click"}, {"kind":1} ,{"decision_id":"d2","kind":"view"},3,'
        b'{"decision_id":"d\xff","kind":"click"},{"decision_id":"d3","kind":"click"}]'
    )
    parsed = parse_one(value)
    assert [event.decision_id for event in parsed.events] == ["d1", "d3"]
    assert [event.event_id for event in parsed.events] == ["feedback:0:5:0", "feedback:0:5:5"]
    assert [(letter.index, letter.reason, letter.value) for letter in parsed.dead_letters] == [
        (1, "wrong_shape", b'{"kind":1}'),
        (2, "unknown_kind", b'{"decision_id":"d2","kind":"view"}'),
        (3, "wrong_shape", b"3"),
        (4, "not_json", b'{"decision_id":"d\xff","kind":"click"}'),
    ]
    letter = parsed.dead_letters[1]
    assert (letter.partition, letter.offset, letter.received_at) == (Partition("feedback", 0), 5, NOW)
    assert "'view'" in letter.detail
    assert "click, purchase" in letter.detail


@pytest.mark.parametrize(
    "bad",
    [
        b'{"decision_id":"d\\ud83d","kind":"click"}',
        b'{"decision_id":"d3","kind":"click","value":NaN}',
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"decision_id":"],[\\"{","kind":"\\udc00"}',
        b"undefined",
        b"{]",
    ],
)
def test_not_even_what_is_no_json_spoils_the_elements_beside_it(bad: bytes) -> None:
    good = json.dumps(EVENT).encode()
    parsed = parse_one(b" [" + good + b"," + bad + b" ,\n" + good + b"]\r\n")
    assert [event.event_id for event in parsed.events] == ["feedback:0:5:0", "feedback:0:5:2"]
    assert [(letter.index, letter.value) for letter in parsed.dead_letters] == [(1, bad)]


@pytest.mark.parametrize(
    "value",
    [b"[%s,]", b"[,%s]", b"[%s", b"[%s]]", b"[%s] x", b"[%s}", b"[%s}]", b'[%s,"]', b'[%s,"\\]', b'[%s][{"a":NaN}]'],
)
def test_what_has_not_even_the_outline_of_an_array_is_one_dead_letter(value: bytes) -> None:
    value = value.replace(b"%s", json.dumps(EVENT).encode())
    parsed = parse_one(value)
    assert not parsed.events
    assert [(letter.reason, letter.value) for letter in parsed.dead_letters] == [("not_json", value)]


@pytest.mark.parametrize(
    "value", [b'["' + b'\\"' * 200_000, b"[" * 200_000, b"[{]" * 100_000, b"[NaN" + b',"' * 200_000]
)
def test_garbage_is_judged_in_time_that_grows_with_its_length(value: bytes) -> None:
    started_at = time.thread_time()  # that of others in this process is not its own
    assert parse_one(value).dead_letters
    assert time.thread_time() - started_at < 3


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not_json"),
        (b"\x00", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b"\xef\xbb\xbf{}", "not_json"),
        (b"{", "not_json"),
        (b'[{"decision_id":"d1","kind":"click"}', "not_json"),
        (b'{"decision_id":"d1","kind":"click","value":NaN}', "not_json"),
        (b'{"decision_id":"d1","kind":"click","value":1e999}', "wrong_shape"),
        (b'{"decision_id":"d1","kind":"click","value":%s}' % (b"9" * 5_000), "wrong_shape"),
        (b'{"decision_id":"d\\ud800","kind":"click"}', "not_json"),
        (b"null", "wrong_shape"),
        (b"[[]]", "wrong_shape"),
        (b"[" * 100_000 + b"]" * 100_000, "wrong_shape"),
        (json.dumps(EVENT | {"value": 1_000_001}).encode(), "wrong_shape"),
        (json.dumps(EVENT | {"value": True}).encode(), "wrong_shape"),
        (json.dumps(EVENT | {"decision_id": ""}).encode(), "wrong_shape"),
        (json.dumps(EVENT | {"decision_id": "x" * 257}).encode(), "wrong_shape"),
        (json.dumps(EVENT | {"decision_id": "a\u0000"}).encode(), "bad_id"),
        (json.dumps(EVENT | {"item_id": "a\u0085"}).encode(), "bad_id"),
        (json.dumps(EVENT | {"event_id": "\n"}).encode(), "bad_id"),
        (json.dumps(EVENT | {"kind": "click\u0000"}).encode(), "unknown_kind"),
        (json.dumps(EVENT | {"occurred_at": "2027-01-15T08:00:00"}).encode(), "wrong_shape"),
        (json.dumps(EVENT | {"reward": 1}).encode(), "wrong_shape"),
        (json.dumps(EVENT | {"schema_version": 2}).encode(), "wrong_shape"),
    ],
)
def test_a_wrong_event_is_a_dead_letter_with_its_bytes(value: bytes, reason: str) -> None:
    parsed = parse_one(value)
    assert reasons(parsed) == [reason]
    assert not parsed.events
    letter = parsed.dead_letters[0]
    assert letter.value == (value[1:-1] if value.startswith(b"[[") else value)
    assert letter.detail


def item(**changes: object) -> dict[str, object]:
    return {"item_id": "a", "position": 0, "score": 0.5, **changes}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"session_id": "s\u0007"}, "bad_id"),
        ({"candidates": ["a", {"item_id": "\u0000"}]}, "bad_id"),
        ({"shortlist": ["\u009f"]}, "bad_id"),
        ({"items": [item(item_id="")]}, "bad_id"),
        ({"items": [item(item_id="x" * 257)]}, "bad_id"),
        ({"items": [item(), item(position=1)]}, "wrong_shape"),
        ({"items": [item(position=1)]}, "wrong_shape"),
        ({"seed": 2**63}, "wrong_shape"),
        ({"loop_hash": "x" * 65}, "wrong_shape"),
        ({"policy_version": "1\u0000"}, "wrong_shape"),
        ({"context": {"page": {"a": 1}}}, "wrong_shape"),
        ({"context": {"page": [[1]]}}, "wrong_shape"),
        ({"items": [item(features={"x": [{}]})]}, "wrong_shape"),
        ({"candidates": [{"item_id": "a", "features": {"x": {}}}]}, "wrong_shape"),
        ({"mode": "guessed"}, "wrong_shape"),
        ({"decided_at": "0001-01-01T00:00:00+00:01"}, "wrong_shape"),
    ],
)
def test_a_wrong_decision_is_a_dead_letter(changes: dict[str, object], reason: str) -> None:
    parsed = parse_one(DECISION | changes, "decisions")
    assert reasons(parsed) == [reason]
    assert not parsed.decisions


def test_a_decision_keeps_what_it_says_and_gets_the_record_time() -> None:
    ((decision, received_at),) = parse_one(
        DECISION | {"context": {"page": [1, 2], "x": "\u0000"}}, "decisions"
    ).decisions
    assert received_at == NOW
    assert decision.decided_at.timestamp() == NOW
    assert decision.context == {"page": [1, 2], "x": "\u0000"}
    assert [(i.item_id, i.propensity) for i in decision.items] == [("a", 0.5), ("b", 1.0)]


def test_topics_are_not_mixed_up() -> None:
    assert reasons(parse_one(EVENT, "decisions")) == ["wrong_shape"]
    assert reasons(parse_one(DECISION, "feedback")) == ["wrong_shape"]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_near = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("event_id", "item_id", "value", "occurred_at", "schema_version"), _json)
    | {"decision_id": _json | st.just("d"), "kind": _json | st.just("click")},
)


@given(st.binary() | (_json | st.lists(_near)).map(lambda value: json.dumps(value).encode()))
def test_every_element_is_either_an_event_or_a_dead_letter(value: bytes) -> None:
    parsed = parse([record(value), record(value, "decisions")], KINDS)
    letters = [letter for letter in parsed.dead_letters if letter.partition.topic == "feedback"]
    if [letter.value for letter in letters] == [value]:
        assert not parsed.events
        return
    try:
        content = json.loads(value)
    except ValueError:  # it has only the outline of an array
        assert letters
        return
    assert len(parsed.events) + len(letters) == (len(content) if isinstance(content, list) else 1)
    assert all(event.kind == "click" for event in parsed.events)
