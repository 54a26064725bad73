"""What the ranker refuses, as RFC 9457 problem documents (docs/architecture.md, "HTTP")."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import msgspec

from schemas.messages import MAX_ID_LENGTH, has_control_character

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1

Loc = tuple[str | int, ...]
T = TypeVar("T")

_MAX_SHOWN_BYTES = 1_000
_PLACE = re.compile(r"(?P<msg>.*?)(?: - at `(?P<path>\$.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>\d+)\]")
_NAMED_FIELD = re.compile(r"(?:unknown|missing required) field `(?P<name>.*)`", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong: where (`("body", 3, "kind")`, 0-based), why, and what was found there."""

    loc: Loc
    msg: str
    input: object = None


class ProblemError(Exception):
    """An answer other than success; the ASGI edge turns it into a problem document."""

    def __init__(
        self, status: int, detail: str, mistakes: Sequence[Mistake] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.mistakes = mistakes
        self.headers = headers or {}


def refused(loc: Loc, msg: str, given: object = None) -> ProblemError:
    """422: well-formed JSON that breaks a rule."""
    return broken_rules([Mistake(loc, msg, given)])


def broken_rules(mistakes: Sequence[Mistake]) -> ProblemError:
    first = mistakes[0]
    return ProblemError(422, f"{'.'.join(map(str, first.loc))}: {first.msg}", mistakes)


def unavailable(detail: str) -> ProblemError:
    """503: nothing was taken; trying again is right."""
    return ProblemError(503, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def problem_body(problem: ProblemError) -> bytes:
    """The problem document, UTF-8 JSON."""
    return msgspec.json.encode(
        {
            "type": "about:blank",
            "title": HTTPStatus(problem.status).phrase,
            "status": problem.status,
            "detail": problem.detail,
            "errors": [{"loc": m.loc, "msg": m.msg, "input": _shown(m.input)} for m in problem.mistakes],
        }
    )


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """`body` as the decoder's type.

    Raises:
        ProblemError: 400, this is not JSON in UTF-8; 422, it breaks a rule.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _validation_problem(error, body) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_json(error) from error


def check_id(text: str, loc: Loc) -> None:
    """Ids are 1–256 characters, none of them a control character.

    Raises:
        ProblemError: 422.
    """
    if not 1 <= len(text) <= MAX_ID_LENGTH:
        raise refused(loc, f"an id has 1 to {MAX_ID_LENGTH} characters, and this has {len(text)}", text)
    if has_control_character(text):
        raise refused(loc, "an id must not hold control characters", text)


def _not_json(error: Exception) -> ProblemError:
    detail = "too deeply nested" if isinstance(error, RecursionError) else str(error)
    return ProblemError(400, "the body is not JSON in UTF-8", [Mistake(("body",), detail)])


def _validation_problem(error: msgspec.ValidationError, body: bytes) -> ProblemError:
    try:
        given = msgspec.json.decode(body)
    except msgspec.ValidationError:  # a number that no double holds
        given = None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as not_json:
        return _not_json(not_json)
    match = _PLACE.fullmatch(str(error))
    assert match is not None  # the pattern takes any text
    path = (match["path"] or "").partition("[...]")[0]  # which stands for a key that msgspec does not name
    loc = [step["key"] or int(step["index"]) for step in _STEP.finditer(path)]
    if named := _NAMED_FIELD.search(match["msg"]):
        loc.append(named["name"])
    return refused(("body", *loc), match["msg"], _at(given, loc))


def _at(given: object, loc: Sequence[str | int]) -> object:
    try:
        for step in loc:
            given = given[step]  # type: ignore[index]  # TypeError, where it has no parts
    except (LookupError, TypeError):
        return None
    return given


def _shown(given: object) -> object:
    """What fits into an answer: a body of 16 MiB is not sent back, nor what is too deep to be written."""
    try:
        text = msgspec.json.encode(given, enc_hook=repr)
    except RecursionError:
        return None
    return given if len(text) <= _MAX_SHOWN_BYTES else text[:_MAX_SHOWN_BYTES].decode(errors="ignore") + "…"
