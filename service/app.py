"""Where a request goes. The two hot routes are in `service.hot_routes`, what orchestrators ask in `service.probes`;
FastAPI has the rest (`service.routes`), and is loaded by the first request that wants it.

There is no middleware, and no access log: both cost more than a recommendation.
"""

import asyncio

from service.asgi import ASGIApp, ClientGoneError, Receive, Scope, Send, send_reply
from service.edge import Edge
from service.hot_routes import hot_routes
from service.parts import Parts
from service.probes import probes
from service.problems import ProblemError


class App:
    """The ranker as an ASGI application."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._routes = _LateRoutes(parts)
        self._edge = Edge(parts.settings, parts.metrics)
        hot = hot_routes(parts, self._edge)
        self._own: dict[str, ASGIApp] = {path: route.by_asgi for path, route in hot.items()} | probes(parts)
        self.hot_routes = {path.encode(): route for path, route in hot.items()}
        """Those that need no ASGI (`service.hot_http`)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        own = self._own.get(scope["path"])
        try:
            self._edge.check_key(scope["path"], scope["headers"])
            await (self._routes if own is None else own)(scope, receive, send)
        except ClientGoneError:
            pass
        except Exception as error:  # noqa: BLE001 (the ASGI edge: one bad request must not end the process)
            reply = self._edge.reply_to(error, f"{scope['method']} {scope['path']}")
            if own is not None or isinstance(error, ProblemError):  # FastAPI has answered its own failures
                await send_reply(send, reply)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._parts.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


class _LateRoutes:
    """FastAPI's routes. A ranker that only recommends and takes feedback never makes them: they take a third of a
    second, 12 MB, and hold up requests for a tenth of a second, once.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._made: ASGIApp | None = None
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        routes = self._made or await self._make()
        await routes(scope, receive, send)

    async def _make(self) -> ASGIApp:
        async with self._making:
            if self._made is None:
                self._made = await asyncio.to_thread(_made_routes, self._parts)
            return self._made


def _made_routes(parts: Parts) -> ASGIApp:
    from service.routes import make_routes  # noqa: PLC0415 (as `_LateRoutes` says)

    return make_routes(parts)


def create_app(parts: Parts) -> App:
    return App(parts)
