"""The recommender over HTTP as a careful product uses it: what fails is asked again, with the same ids."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

import aiohttp
import msgspec
import numpy as np

from schemas.messages import (
    MAX_ITEMS_PER_PUT,
    Candidate,
    FeedbackAccepted,
    FeedbackEvent,
    Recommendation,
    RecommendRequest,
)

START_SECONDS = 30.0
"""How long a server may take to come up."""

_TIMEOUT_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.05
_MAX_PAUSE_SECONDS = 2.0
_MAX_RETRY_AFTER_SECONDS = 10.0
# Below the 5 s after which common servers close an idle connection, so that no request meets one being closed.
_KEEP_ALIVE_SECONDS = 3.0
_TRANSIENT = frozenset((408, 425, 429))
_HEADERS = {"Content-Type": "application/json"}


class ServerError(Exception):
    """A server that does not answer in time, or refuses a request as wrong; the text has its words."""


class CountsFailures(Protocol):
    """Where each failed attempt is counted."""

    requests_failed: int


class ProductClient:
    """`/recommend`, `/feedback` and `/items`, each asked until answered; back-off doubles up to 2 s, with jitter.

    Failures are refused or reset connections, timeouts, 5xx and 429, which may name their own Retry-After. Any other
    4xx is a mistake that asking again does not mend: `ServerError`.
    """

    def __init__(self, url: str, num_connections: int, failures: CountsFailures, rng: np.random.Generator) -> None:
        self._url, self._num_connections, self._failures, self._rng = url.rstrip("/"), num_connections, failures, rng
        self._encoder = msgspec.json.Encoder()
        self._recommendations = msgspec.json.Decoder(Recommendation)
        self._accepted = msgspec.json.Decoder(FeedbackAccepted)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._num_connections, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def wait_until_up(self, max_seconds: float = START_SECONDS) -> None:
        """Returns once `/livez` answers; raises `ServerError` after `max_seconds`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + max_seconds
        while (problem := (await self._attempt("GET", "/livez", b"")).problem) is not None:
            if loop.time() >= end:
                raise ServerError(f"no server at {self._url} after {max_seconds:g} s: {problem}")
            await asyncio.sleep(_FIRST_PAUSE_SECONDS)

    async def put_items(self, items: Sequence[Candidate]) -> None:
        for first in range(0, len(items), MAX_ITEMS_PER_PUT):
            await self._ask("PUT", "/items", self._encoder.encode(items[first : first + MAX_ITEMS_PER_PUT]))

    async def recommend(self, request: RecommendRequest) -> Recommendation:
        return self._recommendations.decode(await self._ask("POST", "/recommend", self._encoder.encode(request)))

    async def feedback(self, events: Sequence[FeedbackEvent]) -> int:
        """Sends events that have ids, in one request; returns how many were accepted."""
        return self._accepted.decode(await self._ask("POST", "/feedback", self._encoder.encode(events))).accepted

    async def _ask(self, method: str, path: str, body: bytes) -> bytes:
        pause_seconds = _FIRST_PAUSE_SECONDS
        while (answer := await self._attempt(method, path, body)).problem is not None:
            self._failures.requests_failed += 1
            await asyncio.sleep(max(answer.retry_after_seconds, pause_seconds * self._rng.uniform(0.5, 1.0)))
            pause_seconds = min(2 * pause_seconds, _MAX_PAUSE_SECONDS)
        return answer.body

    async def _attempt(self, method: str, path: str, body: bytes) -> "_Answer":
        try:
            async with self._session.request(method, self._url + path, data=body) as response:
                content = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return _Answer(problem=f"{type(error).__name__}: {error}")
        if response.status < 300:
            return _Answer(content)
        problem = f"{method} {path} answered {response.status}: {content[:500].decode(errors='replace')}"
        if response.status < 500 and response.status not in _TRANSIENT:
            raise ServerError(problem)
        return _Answer(problem=problem, retry_after_seconds=_retry_after_seconds(response))


class _Answer(msgspec.Struct, frozen=True):
    body: bytes = b""
    problem: str | None = None
    """Why to ask again; None: the answer is good."""
    retry_after_seconds: float = 0.0


def _retry_after_seconds(response: aiohttp.ClientResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return min(float(text), _MAX_RETRY_AFTER_SECONDS) if text.isdecimal() else 0.0  # a date: our own pauses will do
