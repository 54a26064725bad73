"""Where a request goes. The two hot routes and the probes are answered on bare ASGI; FastAPI has the rest
(`service.routes`), once it is asked for.

There is no middleware, and no access log: both cost more than a recommendation.
"""

import asyncio
import hmac
import logging
import math
import time

from service.asgi import (
    ASGIApp,
    ClientGoneError,
    Receive,
    Scope,
    Send,
    read_post,
    send_json,
    send_problem,
)
from service.parts import Parts
from service.probes import Probes
from service.problems import ProblemError
from service.room import Room

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
        probes = Probes(parts)
        self._own: dict[str, ASGIApp] = {
            "/recommend": self._recommend,
            "/feedback": self._feedback,
            "/livez": probes.livez,
            "/readyz": probes.readyz,
            "/metrics": probes.metrics,
        }
        self._is_durable = parts.settings.durable_decisions
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
        own = self._own.get(scope["path"])
        try:
            if self._keys:
                self._check_key(scope)
            await (self._routes if own is None else own)(scope, receive, send)
        except ProblemError as problem:
            self._parts.metrics.refused.labels(problem.status).inc()
            await send_problem(send, problem)
        except ClientGoneError:
            pass
        except Exception:  # noqa: BLE001 (the ASGI edge: one bad request must not end the process)
            _log.exception("%s %s failed", scope["method"], scope["path"])
            self._parts.metrics.errors.labels("request").inc()
            if own is not None:  # FastAPI has answered the others
                await send_problem(send, ProblemError(500, "the ranker failed; its log says why"))

    async def _recommend(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        body = await read_post(scope, receive, MAX_RECOMMEND_BYTES)
        recommender = self._parts.recommender
        with self._recommend_room:
            answer = await (recommender.durable_answer(body) if self._is_durable else recommender.answer(body))
        await send_json(send, 200, answer)
        seconds = time.perf_counter() - started
        self._parts.metrics.recommend_seconds.observe(seconds)
        self._parts.live.answered(self._parts.clock(), seconds)

    async def _feedback(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_post(scope, receive, MAX_FEEDBACK_BYTES)
        with self._feedback_room:
            answer = await self._parts.feedback.accept(body)
        await send_json(send, 202, answer)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._parts.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    def _check_key(self, scope: Scope) -> None:
        path = scope["path"]
        if path in _OPEN_PATHS or (path.startswith(_OPEN_PREFIX) and path != _DATA_PATH):
            return
        given = next((value for name, value in scope["headers"] if name == b"x-api-key"), b"")
        if sum(hmac.compare_digest(given, key) for key in self._keys) == 0:  # every key is compared, in the same time
            raise ProblemError(401, "send a key of this ranker as X-API-Key", headers={"WWW-Authenticate": "X-API-Key"})


class _LateRoutes:
    """FastAPI's routes, made when one is first asked for: 7 MB and a third of a second that a ranker does not need to
    recommend. In a thread, so that recommending goes on meanwhile.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._routes: ASGIApp | None = None
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._making:
            if self._routes is None:
                self._routes = await asyncio.to_thread(_made_routes, self._parts)
        await self._routes(scope, receive, send)


def _made_routes(parts: Parts) -> ASGIApp:
    from service.routes import make_routes  # noqa: PLC0415 (as `_LateRoutes` says)

    return make_routes(parts)


def create_app(parts: Parts) -> App:
    return App(parts, _LateRoutes(parts))
