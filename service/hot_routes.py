"""The two routes that are asked thousands of times a second: one way through for each, with or without ASGI."""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial

from service.asgi import Header, Receive, Reply, Scope, Send, check_headers, read_post, send_reply
from service.edge import Edge
from service.hot_http import Respond
from service.parts import Parts
from service.problems import ProblemError
from service.room import Room
from service.together import Settle, settled

MAX_RECOMMEND_BYTES = 1 << 20
MAX_FEEDBACK_BYTES = 4 << 20


class HotRoute:
    """From headers and body of a POST to the reply."""

    def __init__(
        self,
        path: str,
        answer: Callable[[bytes, Settle[bytes]], None],
        status: int,
        *,
        max_bytes: int,
        room: Room,
        edge: Edge,
        took: Callable[[float], None],
    ) -> None:
        """`answer` takes a body and calls back with that of the reply, or with what is in the way; `took` is told how
        many seconds it took, from the request's arrival to its reply being handed to the socket.
        """
        self._path, self._answer, self._status, self._max_bytes = path, answer, status, max_bytes
        self._room, self._edge, self._took = room, edge, took

    def __call__(self, headers: Sequence[Header], body: bytes, respond: Respond) -> None:
        started = time.perf_counter()
        try:
            self._edge.check_key(self._path, headers)
            check_headers(headers, self._max_bytes)
        except ProblemError as problem:
            respond(self._edge.reply_to(problem, self._path))
            return
        if self._room.enter():
            self._answer(body, partial(self._settle, started, respond))
        else:
            respond(self._edge.no_room())

    async def by_asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises `ProblemError` 405, 413, 415, and `ClientGoneError`."""
        body = await read_post(scope, receive, self._max_bytes)
        await send_reply(send, await settled(partial(self, scope["headers"], body)))

    def _settle(self, started: float, respond: Respond, outcome: bytes | Exception) -> None:
        self._room.leave()
        if isinstance(outcome, Exception):
            respond(self._edge.reply_to(outcome, self._path))
        else:
            respond(Reply(self._status, outcome))
            self._took(time.perf_counter() - started)


def hot_routes(parts: Parts, edge: Edge) -> dict[str, HotRoute]:
    """By path."""
    settings, overloaded, recommender = parts.settings, parts.metrics.overloaded, parts.recommender
    recommend_room = Room(
        settings.max_recommends,
        overloaded.labels("/recommend"),
        settings.max_wait_seconds,
        lambda: recommender.wait_seconds,
    )
    # Events are checked in microseconds; what they wait for is the event log.
    feedback_room = Room(settings.max_feedbacks, overloaded.labels("/feedback"), math.inf, lambda: 0.0)

    def recommended(seconds: float) -> None:
        parts.metrics.recommend_seconds.observe(seconds)
        parts.live.answered(parts.clock(), seconds)

    return {
        "/recommend": HotRoute(
            "/recommend",
            recommender.durable_answer if settings.durable_decisions else recommender.answer,
            200,
            max_bytes=MAX_RECOMMEND_BYTES,
            room=recommend_room,
            edge=edge,
            took=recommended,
        ),
        "/feedback": HotRoute(
            "/feedback",
            parts.feedback.accept,
            202,
            max_bytes=MAX_FEEDBACK_BYTES,
            room=feedback_room,
            edge=edge,
            took=lambda _: None,
        ),
    }
