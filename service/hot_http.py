"""The hot routes below ASGI: uvicorn's own protocol, but that the usual request there gets no task, no scope, and no
channels, which together cost as much as its ranking.
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.asgi import Header, Reply

Respond = Callable[[Reply], None]
Route = Callable[[Sequence[Header], bytes, Respond], None]
"""Takes headers, with names in lower case, and body of a POST, and calls back with the reply once, now or later."""

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


def hot_protocol(routes: Mapping[bytes, Route]) -> type[HttpToolsProtocol]:
    """For uvicorn's setting `http`."""
    return type("HotProtocol", (HotProtocol,), {"hot_routes": routes})


class HotProtocol(HttpToolsProtocol):
    """What is unusual goes on to the application, which has the same routes: another method or version of HTTP, a body
    that is long or of unknown length, a client that asks before it was answered or does not read its answers.

    Built on what uvicorn's protocol calls when (0.30 to 0.54): `on_headers_complete` makes a cycle, `on_body` adds to
    it, `on_message_complete` ends it; until its response is complete other requests of the connection wait, and the
    server does not end.
    """

    hot_routes: ClassVar[Mapping[bytes, Route]] = {}
    """By path."""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # The last request refers to its connection: of thousands that only the garbage collector finds, it frees all at
        # once, and requests wait for a tenth of a second.
        self.cycle = None  # type: ignore[assignment]  # as before the first request

    def on_headers_complete(self) -> None:
        route = self.hot_routes.get(self.url)
        if route is None or not self._is_usual():
            super().on_headers_complete()
        else:
            self.cycle = _Cycle(self, route, is_kept_alive=self.parser.should_keep_alive())  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        if isinstance(self.cycle, _Cycle):
            self.cycle.start()
        else:
            super().on_message_complete()

    def _is_usual(self) -> bool:
        return (
            self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and not self.parser.should_upgrade()
            and not self.expect_100_continue
            and not self.flow.write_paused
            and not self._is_busy()
            and _has_short_body(self.headers)
        )

    def _is_busy(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete


class _NobodyWaits:
    """For parts of the body. One for all: a cycle that referred to itself would keep its body until the garbage
    collector looked, tens of thousands of requests later.
    """

    def set(self) -> None: ...


_NOBODY_WAITS = _NobodyWaits()


class _Cycle:
    """One request and its reply, with what uvicorn's protocol reads and writes of it."""

    def __init__(self, protocol: HotProtocol, route: Route, *, is_kept_alive: bool) -> None:
        self._protocol, self._route = protocol, route
        self.body = bytearray()
        self.keep_alive = is_kept_alive  # False as well once the server is to end
        self.disconnected = False
        self.response_complete = False
        self.message_event = _NOBODY_WAITS

    def start(self) -> None:
        self._route(self._protocol.headers, bytes(self.body), self.respond)

    def respond(self, reply: Reply) -> None:
        protocol = self._protocol
        if self.disconnected or protocol.transport.is_closing():
            return
        parts = [_STATUS_LINES[reply.status]]
        for name, value in (*protocol.server_state.default_headers, *reply.headers):
            parts += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += (b"content-length: %d\r\n\r\n" % len(reply.body), reply.body)
        protocol.transport.write(b"".join(parts))
        self.response_complete = True
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()


def _has_short_body(headers: Sequence[Header]) -> bool:
    """One that the protocol takes without pausing: only an application's `receive` would let it go on."""
    return any(name == b"content-length" and int(value) <= HIGH_WATER_LIMIT for name, value in headers)
