"""The hot protocol on real sockets: the usual request, and all that is unusual, get what they get by ASGI."""

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse

import pytest
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.asgi import Header, Message, Receive, Reply, Scope, Send, send_reply
from service.hot_http import HotProtocol, Respond, hot_protocol

BODY = b'{"k": 3}'


class Echo:
    """An application that tells which way a request took: `hot` (answered in a later turn of the loop) or `asgi`."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.is_held = False
        self.asked = asyncio.Event()

    def hot(self, headers: Sequence[Header], body: bytes, respond: Respond) -> None:
        reply = Reply(200, b"hot " + body, ((b"x-user", dict(headers).get(b"x-user", b"nobody")),))
        if self.is_held:
            self.waiting.append(lambda: respond(reply))
            self.asked.set()
        else:
            asyncio.get_running_loop().call_soon(respond, reply)

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message: Message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        await send_reply(send, Reply(200, b"asgi " + body))


async def served(
    echo: Echo, ask: Callable[[int], Awaitable[None]], *, at_end: Callable[[], None] = lambda: None
) -> None:
    """Calls `at_end` once the server has been told to end."""
    protocol = hot_protocol({b"/echo": echo.hot})
    config = uvicorn.Config(echo, loop="none", http=protocol, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await ask(listener.getsockname()[1])
        finally:
            server.should_exit = True
            while listener.fileno() != -1 and not serving.done():  # noqa: ASYNC110 (a socket tells nobody)
                await asyncio.sleep(0.01)
            at_end()
            await serving


def run(echo: Echo, ask: Callable[[int], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(served(echo, ask))


def by_http_client(echo: Echo, ask: Callable[[HTTPConnection], None]) -> None:
    async def in_thread(port: int) -> None:
        with connected(port) as connection:
            await asyncio.to_thread(ask, connection)

    run(echo, in_thread)


@contextmanager
def connected(port: int) -> Iterator[HTTPConnection]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        yield connection
    finally:
        connection.close()


def post(connection: HTTPConnection, path: str = "/echo", **how: object) -> tuple[HTTPResponse, bytes]:
    connection.request("POST", path, **{"body": BODY, **how})  # type: ignore[arg-type]  # as http.client takes them
    response = connection.getresponse()
    return response, response.read()


def test_the_usual_request_is_answered_on_a_connection_that_stays() -> None:
    def ask(connection: HTTPConnection) -> None:
        for user in ("ann", "bob"):
            response, body = post(connection, headers={"X-User": user})
            assert (response.status, body, response.headers["x-user"]) == (200, b"hot " + BODY, user)
            assert response.headers["date"]
            assert not response.will_close

    by_http_client(Echo(), ask)


@pytest.mark.parametrize(
    ("path", "how"),
    [
        ("/other", {}),
        ("/echo?x=1", {}),
        ("/echo", {"headers": {"Expect": "100-continue"}}),
        ("/echo", {"body": b"x" * 70_000}),  # uvicorn pauses reading, until an application asks for more
        (
            "/echo",
            {"body": iter([b'{"k"', b": 3}"]), "encode_chunked": True, "headers": {"Transfer-Encoding": "chunked"}},
        ),
    ],
    ids=["path", "query", "expect", "long", "chunked"],
)
def test_the_unusual_goes_to_the_application(path: str, how: dict[str, object]) -> None:
    def ask(connection: HTTPConnection) -> None:
        _, body = post(connection, path, **how)
        expected = how.get("body", BODY)
        assert body == b"asgi " + (expected if isinstance(expected, bytes) else BODY)
        _, body = post(connection)  # and the next is a usual one again
        assert body == b"hot " + BODY

    by_http_client(Echo(), ask)


def test_a_get_goes_to_the_application() -> None:
    def ask(connection: HTTPConnection) -> None:
        connection.request("GET", "/echo")
        assert connection.getresponse().read() == b"asgi "

    by_http_client(Echo(), ask)


async def exchanged(port: int, sent: bytes) -> bytes:
    """All that comes back until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    received = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return received


def request(*headers: str, body: bytes = BODY, version: str = "1.1", path: str = "/echo") -> bytes:
    head = [f"POST {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def test_pipelined_requests_are_answered_in_their_order() -> None:
    async def ask(port: int) -> None:
        bodies = [f'{{"k": {k}}}'.encode() for k in range(1, 5)]
        sent = b"".join(request(body=body) for body in bodies[:-1]) + request("Connection: close", body=bodies[-1])
        received = await exchanged(port, sent)
        assert received.count(b"HTTP/1.1 200") == 4
        places = [received.index(body) for body in bodies]
        assert places == sorted(places)
        assert received.index(b"hot " + bodies[0]) < received.index(b"asgi " + bodies[1])

    run(Echo(), ask)


@pytest.mark.parametrize(("sent", "way"), [(request("Connection: close"), b"hot"), (request(version="1.0"), b"asgi")])
def test_who_wants_the_connection_closed_gets_that(sent: bytes, way: bytes) -> None:
    async def ask(port: int) -> None:
        received = await exchanged(port, sent)
        assert received.endswith(way + b" " + BODY)
        assert b"\r\nconnection: close\r\n" in received

    run(Echo(), ask)


def test_who_hangs_up_before_the_answer_gets_none_and_harms_nobody() -> None:
    echo = Echo()

    async def ask(port: int) -> None:
        echo.is_held = True
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request())
        await echo.asked.wait()
        writer.close()
        await asyncio.sleep(0.05)
        echo.waiting.pop()()
        echo.is_held = False
        assert (await exchanged(port, request("Connection: close"))).endswith(b"hot " + BODY)

    run(echo, ask)


def test_at_the_end_what_was_asked_is_answered_and_the_connection_closed() -> None:
    echo = Echo()
    echo.is_held = True
    received: list[asyncio.Task[bytes]] = []

    async def ask(port: int) -> None:
        received.append(asyncio.create_task(exchanged(port, request())))
        await echo.asked.wait()

    def answer_at_last() -> None:
        echo.waiting.pop()()

    async def main() -> None:
        await served(echo, ask, at_end=answer_at_last)
        answer = await received[0]
        assert answer.endswith(b"hot " + BODY)
        assert b"\r\nconnection: close\r\n" in answer

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_request_that_was_answered_leaves_no_garbage() -> None:
    def left() -> int:
        return sum(type(each).__name__ == "_Cycle" for each in gc.get_objects())

    def ask(connection: HTTPConnection) -> None:
        before = left()
        gc.disable()
        try:
            for _ in range(5):
                connection.request("POST", "/echo", BODY)
                assert connection.getresponse().read() == b"hot " + BODY
            assert left() <= before + 1  # that of the last request
        finally:
            gc.enable()

    by_http_client(Echo(), ask)


@pytest.mark.parametrize("path", ["/echo", "/other"])
def test_a_connection_that_was_closed_leaves_no_garbage(path: str) -> None:
    def left() -> int:
        return sum(isinstance(each, HotProtocol | RequestResponseCycle) for each in gc.get_objects())

    async def ask(port: int) -> None:
        gc.collect()
        before = left()  # of other tests
        gc.disable()
        try:
            for _ in range(5):
                await exchanged(port, request("Connection: close", path=path))
            async with asyncio.timeout(60):
                while left() > before:  # noqa: ASYNC110 (an object that goes tells nobody)
                    await asyncio.sleep(0.01)
        finally:
            gc.enable()

    run(Echo(), ask)
