"""What may come through the event log: good records, and everything that a broken producer may write beside them.

The same for the same seed and number. Each sample says itself what must become of it.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

from storage.event_log import Topic

GOOD_EVERY = 11
"""One record of so many is good, the others are garbage."""
BIG_EVERY = 25_000
BIG_BYTES = 5_000_000
UNNAMED = "-"
"""In place of the id of an event that says none: it gets one by where it lies."""
NUM_DECISIONS = 5_000
"""That good events speak of."""

SLATE = ("i0", "i1")
"""Of good decisions."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One record, and what its elements are, by their index: an array may hold both kinds."""

    kind: str
    topic: Topic
    value: bytes | None
    good: tuple[tuple[int, str], ...] = ()
    """Each with its id."""
    bad: tuple[tuple[int, bytes], ...] = ()
    """Each with the bytes that its dead letter must have."""


def sample(seed: int, number: int) -> Sample:
    """The record of this number."""
    chance = random.Random(f"{seed}:{number}")
    if number % GOOD_EVERY == 0:
        return _GOOD[number // GOOD_EVERY % len(_GOOD)](number)
    if number % BIG_EVERY == 1:
        return _garbage(chance.choice(tuple(_BIG)), _BIG, chance, number)
    kind = chance.choice(_SMALL)
    if kind == _MIXED:
        return _mixed(chance, number)
    return _year_1(number) if kind == _YEAR_1 else _garbage(kind, _KINDS, chance, number)


def event(number: int, name: str | None = None) -> dict[str, object]:
    """A good one; `content_of` tells what must be stored of it."""
    named: dict[str, object] = {} if name is None else {"event_id": name}
    return named | {
        "decision_id": f"d{number % NUM_DECISIONS}",
        "item_id": f"i{number % 7}",
        "kind": "click",
        "value": number % 1_000 / 4,
    }


def decision(number: int) -> dict[str, object]:
    """A good one, of two items."""
    return {
        "decision_id": f"d{number}",
        "decided_at": "2020-01-02T03:04:05Z",
        "mode": "learned",
        "loop_hash": "garbage",
        "seed": number,
        "items": [{"item_id": each, "position": k, "score": 0.5, "propensity": 0.5} for k, each in enumerate(SLATE)],
        "context": {"page": number, "note": "a\u0000b\U0001f600"},
    }


# ------------------------------------------------------------------ good ones


def _good_event(number: int) -> Sample:
    return Sample("good event", "feedback", _json(event(number, f"e{number}")), ((0, f"e{number}"),))


def _good_unnamed_event(number: int) -> Sample:
    return Sample("good event without an id", "feedback", _json(event(number)), ((0, UNNAMED),))


def _good_array(number: int) -> Sample:
    names = [f"e{number}.{index}" for index in range(3)]
    value = _json([event(number, name) for name in names])
    return Sample("good array", "feedback", b" \r\n" + value, tuple(enumerate(names)))


def _good_decision(number: int) -> Sample:
    return Sample("good decision", "decisions", _json(decision(number)), ((0, f"d{number}"),))


_GOOD = (_good_event, _good_unnamed_event, _good_event, _good_array, _good_event, _good_decision)


# ------------------------------------------------------------------ garbage


def _garbage(kind: str, kinds: "dict[str, _Maker]", chance: random.Random, number: int) -> Sample:
    value = kinds[kind](chance, number)
    topic: Topic = "decisions" if kind in _OF_DECISIONS or chance.random() < 0.1 else "feedback"
    return Sample(kind, topic, value, bad=((0, value or b""),))


def _year_1(number: int) -> Sample:
    """Within the rules: what came before its decision counts as at it."""
    value = _json(event(number, f"e{number}") | {"occurred_at": "0001-01-01T00:00:00+14:00"})
    return Sample(_YEAR_1, "feedback", value, ((0, f"e{number}"),))


def _mixed(chance: random.Random, number: int) -> Sample:
    """Of any length, with what is bad at any place."""
    elements: list[bytes] = []
    good, bad = [], []
    for index in range(chance.randrange(2, 9)):
        if chance.random() < 0.5:
            good.append((index, f"e{number}.{index}"))
            elements.append(_json(event(number, f"e{number}.{index}")))
        else:
            element = _KINDS[chance.choice(_IN_ARRAYS)](chance, number) or b""
            bad.append((index, element))
            elements.append(element)
    value = b"[" + b" , ".join(elements) + b"]"
    return Sample(_MIXED, "feedback", value, tuple(good), tuple(bad))


_Maker = Callable[[random.Random, int], bytes | None]


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _changed(**changes: object) -> _Maker:
    """A good event but for these."""
    return lambda _, number: _json(event(number, f"bad{number}") | changes)


def _raw(name: str, *texts: bytes) -> _Maker:
    """A good event but for the JSON of one field."""

    def make(chance: random.Random, number: int) -> bytes:
        return _json(event(number, f"bad{number}") | {name: "@"}).replace(b'"@"', chance.choice(texts))

    return make


def _without(name: str) -> _Maker:
    return lambda _, number: _json({key: value for key, value in event(number).items() if key != name})


def _constant(*values: bytes | None) -> _Maker:
    return lambda chance, _: chance.choice(values)


def _of_decision(**changes: object) -> _Maker:
    """A good decision but for these."""
    return lambda _, number: _json(decision(number) | {"decision_id": f"bad{number}"} | changes)


def _raw_decision(name: str, *texts: bytes) -> _Maker:
    """A good decision but for the JSON of one field."""

    def make(chance: random.Random, number: int) -> bytes:
        value = _json(decision(number) | {"decision_id": f"bad{number}", name: "@"})
        return value.replace(b'"@"', chance.choice(texts))

    return make


def _random_bytes(chance: random.Random, _: int) -> bytes:
    value = chance.randbytes(chance.randrange(1, 200))
    return b"\xff" + value if value.lstrip().startswith(b"[") else value  # `[]` would be nothing bad


def _truncated(chance: random.Random, number: int) -> bytes:
    value = _json(event(number, f"bad{number}") if chance.random() < 0.7 else [event(number), decision(number)])
    return value[: chance.randrange(1, len(value))]


def _wrong_type(chance: random.Random, number: int) -> bytes:
    name = chance.choice(("event_id", "decision_id", "item_id", "kind", "value", "occurred_at", "schema_version"))
    wrong = chance.choice((True, [], {}, [1], {"a": 1}, "", "x" * 300, -1.5))
    if name == "value" and wrong == -1.5:
        wrong = "1"
    return _json(event(number, f"bad{number}") | {name: wrong})


def _nested(chance: random.Random, _: int) -> bytes:
    depth = 100_000 if chance.random() < 0.01 else chance.choice((2, 50, 2_000))
    return chance.choice((b'{"a":', b'{"decision_id":')) * depth + b"1" + b"}" * depth


def _encoded(chance: random.Random, number: int) -> bytes:
    text = json.dumps(event(number, f"bad{number}"))
    return chance.choice((b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16"), text.encode("utf-32-be")))


def _twice(chance: random.Random, number: int) -> bytes:
    value = _json(event(number, f"bad{number}"))
    return value + chance.choice((b"", b"\n", b",")) + value


def _big_bytes(chance: random.Random, _: int) -> bytes:
    return b"\xff" + chance.randbytes(BIG_BYTES)


def _big_text(_: random.Random, number: int) -> bytes:
    return _json(event(number, f"bad{number}") | {"decision_id": "x" * BIG_BYTES})


def _big_truncated(_: random.Random, number: int) -> bytes:
    return b"[" + b",".join([_json(event(number))] * (BIG_BYTES // 100))


_HUGE = (b"9" * 30, b"-" + b"9" * 400, b"9" * 5_000, b"18446744073709551616", b"1e400", b"1000001", b"-1e7")

_KINDS: dict[str, _Maker] = {
    "random bytes": _random_bytes,
    "truncated JSON": _truncated,
    "a field of the wrong type": _wrong_type,
    "null": _constant(None),
    "empty": _constant(b"", b" ", b"\r\n\t "),
    "JSON, but no object": _constant(b"null", b"true", b"7", b'"click"', b"-0.5", b"{}"),
    "a wrong schema_version": _raw("schema_version", b"0", b"2", b"null", b"true", b'"1"', b"1.5", b"1e3", b"[]"),
    "NaN or Infinity": _raw("value", b"NaN", b"Infinity", b"-Infinity", b"nan", b"inf"),
    "a huge number": _raw("value", *_HUGE),
    "bad UTF-8": _raw("decision_id", b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf5\x80\x80\x80"', b'"\xe2\x82"'),
    "a control character": _raw("event_id", b'"\x01"', b'"a\nb"', b'"\\u0007"', b'"\\u0085"', b'"\\u007f"', b'"\\n"'),
    "a NUL in an id": _raw("item_id", b'"\\u0000"', b'"a\\u0000b"', b'"\x00"'),
    "a NUL in a key": lambda _, number: _json(event(number) | {"a\u0000": 1}),
    "a lone surrogate": _raw("decision_id", b'"\\ud800"', b'"\\udc00\\ud800"', b'"a\\udfffb"'),
    "deep nesting": _nested,
    "an id that is too long": _raw("decision_id", b'"%s"' % (b"x" * 257), b'"%s"' % ("\U0001f600".encode() * 257)),
    "a date of year 9999": _changed(occurred_at="9999-12-31T23:59:59-14:00"),
    "no date": _raw("occurred_at", b'"2026-01-01"', b'"2026-01-01T00:00:00"', b'"now"', b"1767225600", b'"0000-00-00"'),
    "a number as a string": _changed(value="1.0"),
    "a kind that is unknown": _changed(kind="gaze"),
    "an unknown field": _changed(reward=1.0),
    "no decision_id": _without("decision_id"),
    "no kind": _without("kind"),
    "another encoding": _encoded,
    "two objects": _twice,
    "not JSON, but nearly": _constant(b"{'kind': 'click'}", b"{kind: 1}", b'{"a":1,}', b"[1,]", b"// {}", b"undefined"),
    "a decision: huge seed": _raw_decision("seed", b"9" * 30, b"9223372036854775808", b"1.5", b"-1e30"),
    "a decision: no such mode": _of_decision(mode="guessed"),
    "a decision: nested context": _of_decision(context={"page": {"a": [1]}}),
    "a decision: items wrong": _raw_decision(
        "items",
        b'[{"item_id":"a","position":1,"score":1}]',
        b'[{"item_id":"a","position":0,"score":NaN}]',
        b'[{"item_id":"a","position":0,"score":1e999}]',
        b'[{"item_id":"a","position":0,"score":1},{"item_id":"a","position":1,"score":1}]',
        b'[{"item_id":"","position":0,"score":1}]',
        b"null",
    ),
    "a decision: bad ids": _of_decision(session_id="s\u0000"),
    "a decision: long hash": _of_decision(loop_hash="x" * 65),
    "a decision: year 0": _of_decision(decided_at="0001-01-01T00:00:00+14:00"),
    "a decision: year 9999": _of_decision(decided_at="9999-12-31T23:59:59Z"),
}
_BIG: dict[str, _Maker] = {
    "5 MB of bytes": _big_bytes,
    "5 MB of text": _big_text,
    "5 MB, truncated": _big_truncated,
}
_MIXED, _YEAR_1 = "good and bad in an array", "a date of year 1"
_SMALL = (*_KINDS, _MIXED, _YEAR_1)
_OF_DECISIONS = frozenset(kind for kind in _KINDS if kind.startswith("a decision"))
_IN_ARRAYS = (
    "NaN or Infinity",
    "deep nesting",
    "a field of the wrong type",
    "a wrong schema_version",
    "a huge number",
    "bad UTF-8",
    "a NUL in a key",
    "a lone surrogate",
    "an id that is too long",
    "a date of year 9999",
    "a number as a string",
    "a kind that is unknown",
    "no kind",
)
