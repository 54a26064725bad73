"""Where a request goes. The two hot routes are answered here; FastAPI has the rest (`service.routes`).

There is no middleware, and no access log: both cost more than a recommendation.
"""

import hmac
import logging
import math
import time
from collections.abc import Iterable, Sequence
from functools import partial

from service.asgi import (
    ASGIApp,
    ClientGoneError,
    Header,
    Receive,
    Reply,
    Scope,
    Send,
    check_headers,
    problem_reply,
    read_post,
    send_reply,
)
from service.hot_http import HotRoute, Respond
from service.parts import Parts
from service.problems import ProblemError
from service.room import Room
from service.routes import make_routes
from service.together import settled

MAX_RECOMMEND_BYTES = 1 << 20
MAX_FEEDBACK_BYTES = 4 << 20

# Without a key: probes, and pages that are the same for everyone, which a browser opens before it can send one.
_OPEN_PATHS = frozenset(("/livez", "/readyz", "/docs", "/openapi.json", "/console"))
_OPEN_PREFIX = "/console/"
_DATA_PATH = "/console/data"

_log = logging.getLogger(__name__)


class App:
    """The ranker as an ASGI application."""

    def __init__(self, parts: Parts, routes: ASGIApp) -> None:
        self._parts = parts
        self._routes = routes
        self._by_asgi: dict[str, ASGIApp] = {
            "/recommend": self._recommend_durably if parts.settings.durable_decisions else self._recommend_by_asgi,
            "/feedback": self._feedback,
        }
        self.hot_routes: dict[bytes, HotRoute] = (
            {} if parts.settings.durable_decisions else {b"/recommend": self.recommend}
        )
        """Those that need no ASGI (`service.hot_http`)."""
        settings, refused, recommender = parts.settings, parts.metrics.overloaded, parts.recommender
        self._recommend_room = Room(
            settings.max_recommends,
            refused.labels("/recommend"),
            settings.max_wait_seconds,
            lambda: recommender.seconds_each,
        )
        # Events are checked in microseconds; what they wait for is the event log.
        self._feedback_room = Room(settings.max_feedbacks, refused.labels("/feedback"), math.inf, lambda: 0.0)
        self._keys = [key.strip().encode() for key in parts.settings.api_keys.split(",") if key.strip()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        own = self._by_asgi.get(scope["path"])
        try:
            if self._keys:
                self._check_key(scope["path"], scope["headers"])
            await (self._routes if own is None else own)(scope, receive, send)
        except ProblemError as problem:
            await send_reply(send, self._refusal(problem))
        except ClientGoneError:
            pass
        except Exception as error:  # noqa: BLE001 (the ASGI edge: one bad request must not end the process)
            failure = self._failure(f"{scope['method']} {scope['path']}", error)
            if own is not None:  # FastAPI has answered the others
                await send_reply(send, failure)

    def recommend(self, headers: Sequence[Header], body: bytes, respond: Respond) -> None:
        """`POST /recommend`."""
        started = time.perf_counter()
        try:
            if self._keys:
                self._check_key("/recommend", headers)
            check_headers(headers, MAX_RECOMMEND_BYTES)
            self._recommend_room.__enter__()
        except ProblemError as problem:
            respond(self._refusal(problem))
        else:
            self._parts.recommender.answer(body, partial(self._recommended, started, respond))

    def _recommended(self, started: float, respond: Respond, outcome: bytes | Exception) -> None:
        self._recommend_room.__exit__()
        if isinstance(outcome, bytes):
            respond(Reply(200, outcome))
            self._took(started)
        elif isinstance(outcome, ProblemError):
            respond(self._refusal(outcome))
        else:
            respond(self._failure("POST /recommend", outcome))

    async def _recommend_by_asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_post(scope, receive, MAX_RECOMMEND_BYTES)
        await send_reply(send, await settled(partial(self.recommend, scope["headers"], body)))

    async def _recommend_durably(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        body = await read_post(scope, receive, MAX_RECOMMEND_BYTES)
        with self._recommend_room:
            answer = await self._parts.recommender.durable_answer(body)
        await send_reply(send, Reply(200, answer))
        self._took(started)

    def _took(self, started: float) -> None:
        seconds = time.perf_counter() - started
        self._parts.metrics.recommend_seconds.observe(seconds)
        self._parts.live.answered(self._parts.clock(), seconds)

    def _refusal(self, problem: ProblemError) -> Reply:
        self._parts.metrics.refused.labels(problem.status).inc()
        return problem_reply(problem)

    def _failure(self, request: str, error: Exception) -> Reply:
        _log.error("%s failed", request, exc_info=error)
        self._parts.metrics.errors.labels("request").inc()
        return problem_reply(ProblemError(500, "the ranker failed; its log says why"))

    async def _feedback(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_post(scope, receive, MAX_FEEDBACK_BYTES)
        with self._feedback_room:
            answer = await self._parts.feedback.accept(body)
        await send_reply(send, Reply(202, answer))

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._parts.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    def _check_key(self, path: str, headers: Iterable[Header]) -> None:
        if path in _OPEN_PATHS or (path.startswith(_OPEN_PREFIX) and path != _DATA_PATH):
            return
        given = next((value for name, value in headers if name == b"x-api-key"), b"")
        if sum(hmac.compare_digest(given, key) for key in self._keys) == 0:  # every key is compared, in the same time
            raise ProblemError(401, "send a key of this ranker as X-API-Key", headers={"WWW-Authenticate": "X-API-Key"})


def create_app(parts: Parts) -> App:
    return App(parts, make_routes(parts))
