import msgspec
import pytest

from schemas.messages import RecommendRequest
from service.problems import Loc, ProblemError, broken_rules, decode, problem_body, refused, unavailable

DECODER = msgspec.json.Decoder(RecommendRequest)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"k": NaN}',
        b'{"context": {"page": Infinity}}',
        b'{"context": {"page": -Infinity}}',
        b'{"user_id": "\xff"}',
        b'{"user_id": "\\ud800"}',
        b'\xef\xbb\xbf{"k": 1}',
        b"{} {}",
        b'{"k": 0, "user_id": ',  # breaks a rule before it breaks off
        b'{"k": 0, "user_id": "\xff"}',
        b'{"context": {"a": ' + b"[" * 100_000,
        b'{"k": 0, "context": {"a": ' + b"[" * 100_000,
    ],
    ids=range(13),
)
def test_what_is_not_json_in_utf8_is_400(body: bytes) -> None:
    with pytest.raises(ProblemError) as caught:
        decode(DECODER, body)
    assert caught.value.status == 400
    assert caught.value.mistakes[0].loc == ("body",)


@pytest.mark.parametrize(
    ("body", "loc", "given"),
    [
        (b"[]", ("body",), []),
        (b'{"k": 0}', ("body", "k"), 0),
        (b'{"k": 1001}', ("body", "k"), 1001),
        (b'{"k": "5"}', ("body", "k"), "5"),
        (b'{"k": true}', ("body", "k"), True),
        (b'{"colour": 5}', ("body", "colour"), 5),
        (b'{"user_id": ""}', ("body", "user_id"), ""),
        (b'{"candidates": []}', ("body", "candidates"), []),
        (b'{"candidates": ["a", 7]}', ("body", "candidates", 1), 7),
        (b'{"candidates": ["a", {"item_id": ""}]}', ("body", "candidates", 1, "item_id"), ""),
        (b'{"candidates": ["a", {"price": 1}]}', ("body", "candidates", 1, "price"), 1),
        (b'{"candidates": ["a", {}]}', ("body", "candidates", 1, "item_id"), None),
        (b'{"context": 3}', ("body", "context"), 3),
        (b'{"context": {"page": 1e400}}', ("body", "context"), None),
    ],
)
def test_what_breaks_a_rule_is_422_and_names_the_place(body: bytes, loc: Loc, given: object) -> None:
    with pytest.raises(ProblemError) as caught:
        decode(DECODER, body)
    (mistake,) = caught.value.mistakes
    assert (caught.value.status, mistake.loc, mistake.input) == (422, loc, given)


def test_a_problem_document_has_what_rfc_9457_asks_for_and_the_errors() -> None:
    problem = refused(("body", 3, "kind"), "is not known", "clock")
    assert msgspec.json.decode(problem_body(problem)) == {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "body.3.kind: is not known",
        "errors": [{"loc": ["body", 3, "kind"], "msg": "is not known", "input": "clock"}],
    }


def test_a_large_input_is_shown_in_part() -> None:
    document = msgspec.json.decode(problem_body(refused(("body",), "is too long", ["item"] * 10_000)))
    assert document["errors"][0]["input"].startswith('["item","item"')
    assert len(document["errors"][0]["input"]) <= 1_001


def test_an_input_too_deep_to_be_written_is_left_out() -> None:
    deep: list[object] = []
    for _ in range(5_000):
        deep = [deep]
    assert msgspec.json.decode(problem_body(refused(("body",), "is wrong", deep)))["errors"][0]["input"] is None


def test_unavailable_says_when_to_come_back() -> None:
    assert (unavailable("away").status, unavailable("away").headers) == (503, {"Retry-After": "1"})


def test_all_mistakes_are_told() -> None:
    mistakes = [*refused(("body", 0), "a").mistakes, *refused(("body", 1), "b").mistakes]
    document = msgspec.json.decode(problem_body(broken_rules(mistakes)))
    assert [error["loc"] for error in document["errors"]] == [["body", 0], ["body", 1]]
