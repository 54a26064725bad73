"""Several rankers as a careful product uses them: what one does not answer, another is asked, until one does."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Self

import aiohttp

ATTEMPT_SECONDS = 3.0
"""After which a ranker counts as frozen."""
MAX_CONNECTIONS = 500
_SUSPECT_SECONDS = 1.0
_PAUSE_SECONDS = 0.05
_MAX_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Answer:
    ranker: int
    """Which one gave it."""
    body: bytes


class Rankers:
    """A connection pool to all of them. `counts` gets each attempt: path, and status or what went wrong."""

    def __init__(self, urls: Sequence[str], counts: Counter[str], rng: Random) -> None:
        self._urls, self._counts, self._rng = urls, counts, rng
        self._suspect_until = [0.0] * len(urls)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=3),
            timeout=aiohttp.ClientTimeout(total=ATTEMPT_SECONDS),
            headers={"Content-Type": "application/json"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(self, path: str, body: bytes) -> Answer | None:
        """POSTs the same body until it is answered; None: it was refused as wrong, which the counts tell too."""
        pause_seconds, ranker = _PAUSE_SECONDS, self._rng.randrange(len(self._urls))
        while True:
            ranker = self._trusted(ranker)
            status, content = await self._attempt(ranker, path, body)
            if status is not None and status < 300:
                return Answer(ranker, content)
            if status is not None and status < 500:
                return None
            self._suspect_until[ranker] = asyncio.get_running_loop().time() + _SUSPECT_SECONDS
            ranker = (ranker + 1) % len(self._urls)
            await asyncio.sleep(pause_seconds * self._rng.uniform(0.5, 1))
            pause_seconds = min(2 * pause_seconds, _MAX_PAUSE_SECONDS)

    def _trusted(self, ranker: int) -> int:
        """The next one that answered when it was asked last, if there is one."""
        now, num = asyncio.get_running_loop().time(), len(self._urls)
        in_turn = ((ranker + step) % num for step in range(num))
        return next((each for each in in_turn if self._suspect_until[each] <= now), ranker)

    async def _attempt(self, ranker: int, path: str, body: bytes) -> tuple[int | None, bytes]:
        try:
            async with self._session.post(self._urls[ranker] + path, data=body) as response:
                content = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._counts[f"{path} {type(error).__name__}"] += 1
            return None, b""
        self._counts[f"{path} {response.status}"] += 1
        return response.status, content
