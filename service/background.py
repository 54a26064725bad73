"""What a ranker does between requests, again and again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from service.metrics import ServiceMetrics

_log = logging.getLogger(__name__)


class Poller:
    """Takes a step every so often, or as soon as it is poked."""

    def __init__(
        self, name: str, step: Callable[[], Awaitable[None]], every_seconds: float, metrics: ServiceMetrics
    ) -> None:
        self._name = name
        self._step = step
        self._every_seconds = every_seconds
        self._metrics = metrics
        self._wake = asyncio.Event()

    def poke(self) -> None:
        """Look now; safe on the event loop only."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self._step()
            except Exception:  # noqa: BLE001 (as at the ASGI edge: nothing unforeseen may end the swapping of policies)
                _log.exception("%s failed", self._name)
                self._metrics.errors.labels(self._name).inc()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_seconds):
                    await self._wake.wait()
