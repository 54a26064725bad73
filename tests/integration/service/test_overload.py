"""More than there is room for: refused at once, in a form that says when to come again, and nothing else suffers."""

import asyncio
from typing import Any

import msgspec
import pytest

from schemas.settings import Settings
from service.app import App, create_app
from tests.integration.service.conftest import LocalRanker

ROOM = 3


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_recommends": ROOM})


async def post(app: App, body: bytes) -> list[dict[str, Any]]:
    """What the application sends."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": "/recommend", "headers": []}, receive, send)
    return sent


def test_of_requests_that_arrive_together_those_beyond_the_room_hear_503_at_once(ranker: LocalRanker) -> None:
    app, body = create_app(ranker.parts), msgspec.json.encode({"candidates": ["a", "b"]})

    async def all_at_once() -> list[list[dict[str, Any]]]:
        return list(await asyncio.gather(*(post(app, body) for _ in range(8))))

    answers = ranker._runner.run(all_at_once())
    assert [start["status"] for start, _ in answers] == [200] * ROOM + [503] * (8 - ROOM)
    start, end = answers[-1]
    assert (b"retry-after", b"1") in start["headers"]
    assert msgspec.json.decode(end["body"])["title"] == "Service Unavailable"
    metrics = ranker.ask("GET", "/metrics").text
    assert 'steadyrank_overloaded_requests_total{path="/recommend"} 5.0' in metrics
    assert 'steadyrank_refused_requests_total{status="503"} 5.0' in metrics
    assert ranker.recommend(candidates=["a"])["items"]
    assert ranker.ask("GET", "/livez").status_code == 200
