"""Bodies in and answers out, on bare ASGI: what FastAPI does in 60–120 µs a request, in 5."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from service.problems import MEDIA_TYPE, ProblemError, problem_body

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class ClientGoneError(Exception):
    """The client hung up before its request was complete."""


async def read_post(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    """The body of a POST.

    Raises:
        ProblemError: 405, it is none; 413 and 415 as `read_json_body`.
        ClientGoneError: it never came.
    """
    if scope["method"] != "POST":
        raise ProblemError(405, f"{scope['path']} takes POST", headers={"Allow": "POST"})
    return await read_json_body(scope, receive, max_bytes)


def check_get(scope: Scope) -> None:
    """Raises `ProblemError` 405 where it is none."""
    if scope["method"] != "GET":
        raise ProblemError(405, f"{scope['path']} takes GET", headers={"Allow": "GET"})


async def read_json_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    """The whole body.

    Raises:
        ProblemError: 413, it is longer than `max_bytes` (by its own word without reading it); 415, it is not JSON.
        ClientGoneError: it never came.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > max_bytes:
            raise _too_large(max_bytes)
        if name == b"content-type" and not _is_json(value):
            raise ProblemError(415, f"send application/json, not {value.decode('latin-1')}")
    message = await receive()
    if not message.get("more_body", False) and message["type"] == "http.request":
        body: bytes = message.get("body", b"")
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        return body
    return await _read_parts(message, receive, max_bytes)


async def _read_parts(message: Message, receive: Receive, max_bytes: int) -> bytes:
    body = bytearray()
    while message["type"] == "http.request":
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return bytes(body)
        message = await receive()
    raise ClientGoneError


async def send_json(send: Send, status: int, body: bytes) -> None:
    await send_body(send, status, body, b"application/json")


async def send_problem(send: Send, problem: ProblemError) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    await send_body(send, problem.status, problem_body(problem), MEDIA_TYPE.encode(), headers)


async def send_body(send: Send, status: int, body: bytes, media_type: bytes, headers: Iterable[Header] = ()) -> None:
    fixed = [(b"content-type", media_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})


def _is_json(content_type: bytes) -> bool:
    kind = content_type.split(b";", 1)[0].strip().lower()
    return kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))


def _too_large(max_bytes: int) -> ProblemError:
    return ProblemError(413, f"the body is larger than {max_bytes:,} bytes")
