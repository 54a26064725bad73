import asyncio
from collections.abc import Iterable

import pytest

from service.asgi import ClientGoneError, Message, Receive, read_json_body, read_post
from service.problems import ProblemError

JSON = (b"content-type", b"application/json")
DISCONNECT: Message = {"type": "http.disconnect"}


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def client(*messages: Message) -> Receive:
    waiting = iter(messages)

    async def receive() -> Message:
        return next(waiting)

    return receive


def read(messages: Iterable[Message], *headers: tuple[bytes, bytes], max_bytes: int = 10) -> bytes:
    return asyncio.run(read_json_body({"headers": [JSON, *headers]}, client(*messages), max_bytes))


def test_a_body_in_parts_is_put_together() -> None:
    assert read([part(b"ab", more=False)]) == b"ab"
    assert read([part(b"ab"), part(b""), part(b"cd", more=False)]) == b"abcd"
    assert read([part(b"")] * 3 + [{"type": "http.request"}]) == b""


def test_a_body_is_not_read_when_it_says_that_it_is_too_long() -> None:
    with pytest.raises(ProblemError) as caught:
        read([], (b"content-length", b"11"))
    assert caught.value.status == 413


def test_reading_stops_as_soon_as_there_is_too_much() -> None:
    with pytest.raises(ProblemError) as caught:
        read([part(b"x" * 6), part(b"x" * 6)])
    assert caught.value.status == 413


@pytest.mark.parametrize("messages", [[DISCONNECT], [part(b"{"), DISCONNECT]])
def test_one_who_hangs_up_gets_no_answer(messages: list[Message]) -> None:
    with pytest.raises(ClientGoneError):
        read(messages)


def test_without_a_content_type_json_is_taken_for_granted() -> None:
    assert asyncio.run(read_json_body({"headers": []}, client(part(b"{}", more=False)), 10)) == b"{}"


def test_only_a_post_is_read() -> None:
    with pytest.raises(ProblemError) as caught:
        asyncio.run(read_post({"method": "GET", "path": "/recommend", "headers": []}, client(), 10))
    assert (caught.value.status, caught.value.headers) == (405, {"Allow": "POST"})
