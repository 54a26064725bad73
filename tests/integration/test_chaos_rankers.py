"""The kill test's client: the same body again, at the other ranker, until one answers."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random

import pytest
from aiohttp import web

from loadtest.chaos import rankers
from loadtest.chaos.rankers import Answer, Rankers
from loadtest.parts.server import free_port

Handler = Callable[[web.Request], Awaitable[web.Response]]


def answering(*statuses: int) -> tuple[Handler, list[bytes]]:
    """A ranker that answers with these in turn, then with the last; and the bodies that it got."""
    bodies: list[bytes] = []

    async def handle(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.Response(status=statuses[min(len(bodies), len(statuses)) - 1], body=b"said")

    return handle, bodies


async def frozen(_: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


def ask(*handlers: Handler | None) -> tuple[Answer | None, Counter[str]]:
    """Of rankers with these handlers, where None is down."""

    async def run() -> tuple[Answer | None, Counter[str]]:
        counts: Counter[str] = Counter()
        async with AsyncExitStack() as running:
            urls = [await start(running, handler) for handler in handlers]
            client = await running.enter_async_context(Rankers(urls, counts, Random(1)))
            return await client.ask("/recommend", b"asked"), counts

    return asyncio.run(run())


async def start(running: AsyncExitStack, handler: Handler | None) -> str:
    port = free_port()
    if handler is not None:
        app = web.Application()
        app.router.add_post("/recommend", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        running.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", port).start()
    return f"http://127.0.0.1:{port}"


def test_it_asks_until_it_is_answered_with_the_same_body() -> None:
    handler, bodies = answering(503, 500, 200)
    answer, counts = ask(handler)
    assert answer == Answer(0, b"said")
    assert bodies == [b"asked"] * 3
    assert counts == {"/recommend 503": 1, "/recommend 500": 1, "/recommend 200": 1}


@pytest.mark.parametrize("place", [0, 1])
def test_where_one_is_down_the_other_answers(place: int) -> None:
    handler, _ = answering(200)
    handlers: list[Handler | None] = [handler, handler]
    handlers[place] = None
    for _ in range(3):
        answer, counts = ask(*handlers)
        assert answer == Answer(1 - place, b"said")
        assert counts["/recommend 200"] == 1


def test_where_one_is_frozen_the_other_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rankers, "ATTEMPT_SECONDS", 2.0)  # enough for the other one on a busy machine
    handler, _ = answering(200)
    for handlers in ((frozen, handler), (handler, frozen)):
        answer, counts = ask(*handlers)
        assert answer == Answer(handlers.index(handler), b"said")
        assert counts["/recommend TimeoutError"] <= 1


def test_what_is_refused_as_wrong_is_not_asked_again() -> None:
    handler, bodies = answering(422)
    answer, counts = ask(handler)
    assert (answer, len(bodies), counts) == (None, 1, {"/recommend 422": 1})
