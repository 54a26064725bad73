"""Bad input: each with a clear answer, and nothing lost."""

from typing import Any

import pytest

from service import ranking
from tests.integration.service.conftest import LocalRanker

JSON = {"content-type": "application/json"}


def assert_problem(answer: Any, status: int, loc: list[str | int] | None = None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert {"type", "title", "detail", "errors"} <= problem.keys()
    if loc is not None:
        assert problem["errors"][0]["loc"] == loc
        assert {"msg", "input"} <= problem["errors"][0].keys()


@pytest.mark.parametrize(
    ("request_", "loc"),
    [
        ({"context": {"colour": "red"}}, ["context", "colour"]),
        ({"context": {"page": "three"}}, ["context", "page"]),
        ({"context": {"page": True}}, ["context", "page"]),
        ({"context": {"page": [3]}}, ["context", "page"]),
        ({"context": {"age": 25}}, ["context", "age"]),
        ({"context": [1]}, ["context"]),
        ({"candidates": []}, ["candidates"]),
        ({"candidates": [f"i{i}" for i in range(10_001)]}, ["candidates"]),
        ({"candidates": ["i1", "i2", "i1"]}, ["candidates", 2]),
        ({"candidates": ["i1", ""]}, ["candidates", 1]),
        ({"candidates": ["i" * 257]}, ["candidates", 0]),
        ({"candidates": ["a\u0000b"]}, ["candidates", 0]),
        ({"candidates": [{"item_id": "i1", "price": 3}]}, ["candidates", 0, "price"]),
        ({"candidates": [{"item_id": "i1", "features": {"price": "x"}}]}, ["candidates", 0, "features", "price"]),
        ({"candidates": [{"item_id": "i1", "features": {"id": "i1"}}]}, ["candidates", 0, "features", "id"]),
        ({"candidates": "i1"}, ["candidates"]),
        ({"candidates": ["i1"], "exclude": ["i1"]}, ["exclude"]),
        ({"k": 0}, ["k"]),
        ({"k": 1_001}, ["k"]),
        ({"k": 2.5}, ["k"]),
        ({"user_id": ""}, ["user_id"]),
        ({"user_id": 5}, ["user_id"]),
        ({"session_id": "s" * 257}, ["session_id"]),
        ({"decision_id": "d\n"}, ["decision_id"]),
        ({"shop": "x"}, ["shop"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_broken_rule_is_422(ranker: LocalRanker, request_: dict[str, Any], loc: list[str | int]) -> None:
    assert_problem(ranker.post("/recommend", request_), 422, ["body", *loc])


@pytest.mark.parametrize("path", ["/recommend", "/feedback"])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b'\xef\xbb\xbf{"k": 1}', b'{"k": NaN}', b'{"value": -Infinity}', b"[" * 100_000, b"{} x"],
    ids=lambda body: str(body)[:20],
)
def test_what_is_not_json_is_400(ranker: LocalRanker, path: str, body: bytes) -> None:
    assert_problem(ranker.ask("POST", path, content=body, headers=JSON), 400, ["body"])


@pytest.mark.parametrize(
    ("method", "path", "max_bytes"),
    [("POST", "/recommend", 1 << 20), ("POST", "/feedback", 4 << 20), ("PUT", "/items", 16 << 20)],
)
def test_a_body_over_the_limit_is_413_however_it_is_sent(
    ranker: LocalRanker, method: str, path: str, max_bytes: int
) -> None:
    async def chunks() -> Any:
        for _ in range(20):
            yield b" " * (1 << 20)

    assert_problem(ranker.ask(method, path, content=b" " * (20 << 20), headers=JSON), 413)
    assert_problem(ranker.ask(method, path, content=chunks(), headers=JSON), 413)
    assert_problem(ranker.ask(method, path, content=b" " * (max_bytes + 1), headers=JSON), 413)
    assert_problem(ranker.ask(method, path, content=b" " * max_bytes, headers=JSON), 400)


@pytest.mark.parametrize(("method", "path"), [("POST", "/recommend"), ("POST", "/feedback"), ("PUT", "/items")])
def test_what_says_it_is_no_json_is_415(ranker: LocalRanker, method: str, path: str) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert_problem(ranker.ask(method, path, content=b"{}", headers={"content-type": kind}), 415)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json"])
def test_json_may_be_called_by_its_other_names(ranker: LocalRanker, kind: str) -> None:
    answer = ranker.ask("POST", "/recommend", content=b'{"candidates": ["a"]}', headers={"content-type": kind})
    assert answer.status_code == 200


def test_other_methods_and_paths_are_problems_too(ranker: LocalRanker) -> None:
    wrong_method = ranker.ask("GET", "/recommend")
    assert_problem(wrong_method, 405)
    assert wrong_method.headers["allow"] == "POST"
    assert_problem(ranker.ask("PATCH", "/items"), 405)
    assert_problem(ranker.ask("GET", "/recommend/"), 404)
    assert_problem(ranker.ask("GET", "/console/../app.py"), 404)
    assert_problem(ranker.ask("GET", "/console/VENDOR.md"), 404)
    assert_problem(ranker.ask("GET", "/console/data?seconds=soon"), 422, ["query", "seconds"])


@pytest.mark.parametrize(
    ("events", "loc"),
    [
        ({"kind": "click"}, ["decision_id"]),
        ({"decision_id": "d"}, ["kind"]),
        ({"decision_id": "d", "kind": "sneeze"}, ["kind"]),
        ([{"decision_id": "d", "kind": "click"}, {"decision_id": "d", "kind": "sneeze"}], [1, "kind"]),
        ([{"decision_id": "d", "kind": "click"}, {"decision_id": "d", "kind": "click", "value": 1e7}], [1, "value"]),
        ([{"decision_id": "d", "kind": "click"}] * 1_001, []),
        ({"decision_id": "d", "kind": "click", "occurred_at": "2026-11-23T10:00:00"}, ["occurred_at"]),
        ({"decision_id": "d", "kind": "click", "occurred_at": "2999-01-01T00:00:00Z"}, ["occurred_at"]),
        ({"decision_id": "d", "kind": "click", "reward": 1}, ["reward"]),
    ],
    ids=lambda value: str(value)[:60],
)
def test_wrong_feedback_is_refused_whole(ranker: LocalRanker, events: Any, loc: list[str | int]) -> None:
    assert_problem(ranker.post("/feedback", events), 422, ["body", *loc])
    assert ranker.post("/feedback", {"decision_id": "d", "kind": "click"}).status_code == 202
    assert len(ranker.logged()[1]) == 1


@pytest.mark.parametrize(
    ("items", "loc"),
    [
        ({"item_id": "a"}, []),
        ([{"item_id": "a"}, {"item_id": ""}], [1, "item_id"]),
        ([{"item_id": "a\u0001"}], [0, "item_id"]),
        ([{"item_id": "a", "features": {"colour": 1}}], [0, "features", "colour"]),
        ([{"item_id": "a", "features": {"price": "x"}}], [0, "features", "price"]),
        ([{"item_id": "a", "features": {"id": "a"}}], [0, "features", "id"]),
        ([{"features": {}}], [0, "item_id"]),
        ([{"item_id": f"i{i}"} for i in range(10_001)], []),
    ],
    ids=lambda value: str(value)[:60],
)
def test_wrong_items_refuse_all_of_them(ranker: LocalRanker, items: Any, loc: list[str | int]) -> None:
    assert_problem(ranker.ask("PUT", "/items", json=items), 422, ["body", *loc])
    assert ranker.ask("GET", "/items/a").status_code == 404


def test_an_unknown_item_is_ranked_on_what_is_given(ranker: LocalRanker) -> None:
    answer = ranker.recommend(candidates=["never-heard-of", {"item_id": "new", "features": {"price": 3.5}}])
    assert {item["item_id"] for item in answer["items"]} == {"never-heard-of", "new"}


def test_an_unforeseen_error_is_a_500_and_the_ranker_lives(
    ranker: LocalRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(ranking, "pool_of", fail)
        assert_problem(ranker.post("/recommend", {}), 500)
        patch.setattr(ranker.parts.store, "call", lambda *_: 1 / 0)
        assert_problem(ranker.ask("GET", "/decisions/d"), 500)
    assert ranker.recommend(candidates=["a"])["mode"] == "fallback"
    assert 'steadyrank_unexpected_errors_total{where="request"} 2.0' in ranker.ask("GET", "/metrics").text
