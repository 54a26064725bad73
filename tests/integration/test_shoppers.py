"""Shoppers against a server that fails at random: every event is accepted once, every count is right."""

import asyncio
import json
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from loadtest.parts.server import free_port
from schemas.messages import RecommendRequest
from simulators import shoppers
from simulators.product_client import ProductClient, ServerError
from simulators.shop import Dials, Shop
from simulators.shoppers import Habits, Pace, Tally, drive
from simulators.virtualtb import Mlp, Networks, VirtualTaobao
from simulators.world import World

ROOT = Path(__file__).parents[2]
HABITS = Habits(num_shoppers=10, seed=1)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class FakeServer:
    """Recommends the first candidate. A share of requests fails: by 503, or by a lost connection before or after it."""

    failing: float = 0.0
    stop_after: int = 1_000_000
    """Decisions, at which `stop` is set."""
    refusal: web.Response | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    items: dict[str, Any] = field(default_factory=dict)
    decisions: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    num_failed: int = 0
    num_repeated: int = 0
    rng: random.Random = field(default_factory=lambda: random.Random(5))

    async def livez(self, _: web.Request) -> web.Response:
        return web.json_response({})

    async def put_items(self, request: web.Request) -> web.StreamResponse:
        self.items |= {item["item_id"]: item["features"] for item in await request.json()}
        return web.json_response({"upserted": len(self.items)})

    async def recommend(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self.refusal is not None:
            return self.refusal
        decision_id = body["decision_id"]
        self.num_repeated += decision_id in self.decisions
        assert self.decisions.setdefault(decision_id, body) == body, "a retry said something else"
        if len(self.decisions) >= self.stop_after:
            self.stop.set()
        items = [{"item_id": body["candidates"][0], "score": 0.5, "propensity": 0.1}] if "candidates" in body else []
        answer: dict[str, Any] = {"decision_id": decision_id, "items": items, "mode": "learned", "policy": None}
        if len(self.decisions) % 2:
            answer["policy"] = {"version": f"{len(self.decisions) % 3:06}", "age_seconds": 0.5}
        return web.json_response(answer | {"action": [0.0] * 27, "log_density": -1.0})

    async def feedback(self, request: web.Request) -> web.StreamResponse:
        events = await request.json()
        for event in events:
            assert event["decision_id"] in self.decisions
            assert self.events.setdefault(event["event_id"], event) == event, "a retry said something else"
        return web.json_response({"accepted": len(events), "spooled": 0}, status=202)

    async def reaches(self, num_decisions: int) -> None:
        while len(self.decisions) < num_decisions:  # noqa: ASYNC110  a test may poll
            await asyncio.sleep(0.01)

    @web.middleware
    async def fail(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/livez" or self.rng.random() >= self.failing:
            return await handler(request)
        self.num_failed += 1
        kind = self.rng.choice(["503", "429", "lost before", "lost after"])
        if kind.isdecimal():
            return web.json_response({"title": "busy"}, status=int(kind), headers={"Retry-After": "0"})
        if kind == "lost after":
            await handler(request)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[str]:
        app = web.Application(middlewares=[self.fail])
        app.add_routes(
            [
                web.get("/livez", self.livez),
                web.put("/items", self.put_items),
                web.post("/recommend", self.recommend),
                web.post("/feedback", self.feedback),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a request that fails five times in a row waits longer than the two seconds of a real run."""
    monkeypatch.setattr(shoppers, "DRAIN_SECONDS", 60.0)


def shop_against(server: FakeServer, world: World, habits: Habits = HABITS) -> tuple[Tally, list[dict[str, Any]]]:
    lines: list[dict[str, Any]] = []

    async def main() -> Tally:
        async with server.running() as url:
            return await drive(world, url, server.stop, habits, clock=lambda: 1_800_000_000.0, report=lines.append)

    return asyncio.run(main()), lines


def virtual_taobao() -> VirtualTaobao:
    """Customers who click 3 items of each of their two pages."""

    def linear(num_in: int, *likely: int, num_out: int) -> Mlp:
        bias = np.where(np.isin(np.arange(num_out), likely), 1e4, 0.0).astype(np.float32)
        return Mlp({"0.weight": np.zeros((num_out, num_in), np.float32), "0.bias": bias})

    leave, action = linear(88, 2, num_out=101), linear(116, 3, 11, num_out=21)
    return VirtualTaobao(Networks(linear(128, num_out=88), leave, action))


# ------------------------------------------------------------------ all goes well


def test_shoppers_use_the_product_as_a_product_would() -> None:
    server = FakeServer(stop_after=700)
    tally, lines = shop_against(server, Shop(0), Habits(num_shoppers=10, seed=1))
    assert server.items == {item.item_id: item.features for item in Shop(0).catalogue()}
    assert tally.decisions == len(server.decisions)
    assert tally.feedback_accepted == len(server.events)
    assert tally.requests_failed == 0
    kinds = Counter(event["kind"] for event in server.events.values())
    assert kinds.keys() == {"click"}  # whose sessions are cut at 20 decisions leaves nothing behind that says so
    assert tally.reward == kinds["click"]
    lengths = Counter(body["session_id"] for body in server.decisions.values())
    assert tally.sessions == sum(length == 20 for length in lengths.values()) > 0
    assert tally.modes == {"learned": tally.decisions}
    assert tally.versions == {"000000", "000001", "000002"}
    assert lines[0] == {"event": "start", "world": "shop", "random": lines[0]["random"], "shoppers": 10}
    assert 0.19 < lines[0]["random"] < 0.22
    assert lines[-1] == {
        "event": "end",
        "at": 1_800_000_000.0,
        "decisions": tally.decisions,
        "reward": tally.reward,
        "sessions": tally.sessions,
        "requests_failed": 0,
        "feedback_accepted": tally.feedback_accepted,
        "versions": 3,
        "modes": {"learned": tally.decisions},
    }


def test_a_session_is_strung_together_and_left_at_its_end() -> None:
    server = FakeServer(stop_after=500)
    shop_against(server, Shop(0, Dials(leave=1.0)))
    last = {body["session_id"]: decision_id for decision_id, body in server.decisions.items()}
    left = [event["decision_id"] for event in server.events.values() if event["kind"] == "leave"]
    assert len(left) == len(set(left)) > 0
    assert {last[server.decisions[decision_id]["session_id"]] for decision_id in left} == set(left)
    assert max(Counter(body["session_id"] for body in server.decisions.values()).values()) <= 20


def test_virtual_taobao_counts_pages_and_clicks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shoppers, "_TICK_SECONDS", 0.02)
    server = FakeServer(stop_after=200)
    tally, lines = shop_against(server, virtual_taobao())
    assert {line["event"] for line in lines[1:-1]} == {"tick"}
    assert [line["pages"] for line in lines[1:]] == sorted(line["decisions"] for line in lines[1:])
    assert server.items == {}
    assert tally.reward == 3.0 * tally.decisions
    assert (lines[-1]["pages"], lines[-1]["clicks"]) == (tally.decisions, tally.reward)
    assert lines[0]["random"] == pytest.approx(3.0)
    clicks = [event for event in server.events.values() if event["kind"] == "clicks"]
    assert len(clicks) == tally.decisions
    assert {event["value"] for event in clicks} == {3.0}
    assert {event["kind"] for event in server.events.values()} == {"clicks", "leave"}


def test_a_second_run_does_not_repeat_the_ids_of_the_first() -> None:
    first, second = FakeServer(stop_after=30), FakeServer(stop_after=30)
    shop_against(first, Shop(0))
    shop_against(second, Shop(0))
    assert not first.decisions.keys() & second.decisions.keys()


# ------------------------------------------------------------------ things fail


def test_every_event_arrives_once_though_a_fifth_of_requests_fails() -> None:
    server = FakeServer(failing=0.2, stop_after=400)
    tally, _ = shop_against(server, Shop(0))
    assert server.num_failed > 50
    assert server.num_repeated > 0  # answers were lost, and asked for again under the same id
    assert tally.requests_failed == server.num_failed
    assert tally.decisions == len(server.decisions)
    assert tally.feedback_accepted == len(server.events)
    assert tally.reward == sum(event["value"] for event in server.events.values() if event["kind"] == "click")


def test_shoppers_wait_for_a_server_that_goes_away_and_comes_back() -> None:
    server = FakeServer()
    counts: list[int] = []

    async def main() -> Tally:
        async with server.running(port := free_port()) as url:
            driving = asyncio.create_task(drive(Shop(0), url, server.stop, HABITS, report=lambda _: None))
            await server.reaches(50)
        counts.append(len(server.decisions))
        await asyncio.sleep(0.2)
        async with server.running(port):
            await server.reaches(counts[0] + 50)
            server.stop.set()
            return await driving

    tally = asyncio.run(main())
    assert tally.requests_failed >= HABITS.num_shoppers
    assert tally.decisions == len(server.decisions)
    assert tally.feedback_accepted == len(server.events)


def test_a_request_that_is_refused_as_wrong_ends_the_run_with_the_servers_words() -> None:
    refusal = web.json_response({"title": "unknown context key 'sat'"}, status=422)
    with pytest.raises(ServerError, match=r"POST /recommend answered 422: .*unknown context key 'sat'"):
        shop_against(FakeServer(refusal=refusal), Shop(0), Habits(num_shoppers=1))


def test_nobody_there_is_said_with_the_address(unused_port: int) -> None:
    url = f"http://127.0.0.1:{unused_port}"

    async def main() -> None:
        async with ProductClient(url, 1, Tally(), np.random.default_rng(0)) as client:
            await client.wait_until_up(max_seconds=0.1)

    with pytest.raises(ServerError, match=f"no server at {url} after 0.1 s: .*Connect"):
        asyncio.run(main())


def test_a_server_may_come_up_late(unused_port: int) -> None:
    server = FakeServer(stop_after=20)

    async def main() -> Tally:
        url = f"http://127.0.0.1:{unused_port}"
        driving = asyncio.create_task(drive(Shop(0), url, server.stop, HABITS, report=lambda _: None))
        await asyncio.sleep(0.2)
        async with server.running(unused_port):
            return await driving

    tally = asyncio.run(main())
    assert tally.decisions == len(server.decisions) >= 20
    assert tally.requests_failed == 0  # waiting for the start is no failure


def test_a_stop_does_not_wait_for_a_server_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shoppers, "DRAIN_SECONDS", 0.2)
    server = FakeServer(failing=1.0)

    async def main() -> Tally:
        async with server.running() as url:
            asyncio.get_running_loop().call_later(0.2, server.stop.set)
            return await asyncio.wait_for(drive(Shop(0), url, server.stop, HABITS, report=lambda _: None), 60)

    assert asyncio.run(main()).decisions == 0


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("7", 7.0, 7.0), ("600", 10.0, 10.0), ("0", 0.025, 0.05), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.025, 0.05)],
)
def test_retry_after_is_heeded_within_reason(
    header: str, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeServer(refusal=web.Response(status=503, headers={"Retry-After": header}))
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        server.refusal = None

    async def main() -> None:
        async with server.running() as url, ProductClient(url, 1, Tally(), np.random.default_rng(0)) as client:
            with monkeypatch.context() as patch:
                patch.setattr(asyncio, "sleep", sleep)
                await client.recommend(RecommendRequest(candidates=["item-1"], decision_id="d"))

    asyncio.run(main())
    [seconds] = slept
    assert least <= seconds <= most


@pytest.fixture
def unused_port() -> int:
    return free_port()


# ------------------------------------------------------------------ pace


def test_the_pace_spaces_decisions_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = 100.0, list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def main() -> None:
        nonlocal now
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
        monkeypatch.setattr(asyncio, "sleep", sleep)
        pace = Pace(max_rate=4.0)
        for _ in range(3):
            await pace.wait()
        now = 101.0  # a pause is not made up for by a burst
        for _ in range(2):
            await pace.wait()

    with asyncio.Runner() as runner:
        runner.run(main())
        monkeypatch.undo()
    assert slept == pytest.approx([0.0, 0.25, 0.5, 0.0, 0.25])


# ------------------------------------------------------------------ as a process


def test_sigterm_ends_the_process_in_good_order() -> None:
    server = FakeServer()
    code = (
        "import sys; from simulators import shoppers; from simulators.worlds import parse_world;"
        "shoppers.DRAIN_SECONDS = 60.0;"
        "shoppers.run_shoppers(parse_world('shop'), sys.argv[1], num_shoppers=5)"
    )

    async def main() -> tuple[int, list[dict[str, Any]]]:
        async with server.running() as url:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, url, cwd=ROOT, stdout=subprocess.PIPE
            )
            await asyncio.wait_for(server.reaches(100), 60)
            process.send_signal(signal.SIGTERM)
            out, _ = await process.communicate()
            assert process.returncode is not None
            return process.returncode, [json.loads(line) for line in out.splitlines()]

    code_of_exit, lines = asyncio.run(main())
    assert code_of_exit == 0
    assert [lines[0]["event"], lines[-1]["event"]] == ["start", "end"]
    assert lines[-1]["decisions"] == len(server.decisions)
    assert lines[-1]["feedback_accepted"] == len(server.events)
