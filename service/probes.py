"""What orchestrators ask every few seconds: `/livez`, `/readyz`, `/metrics`. On bare ASGI, so that a ranker which is
asked nothing else needs no FastAPI.
"""

import asyncio

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST

from service.asgi import Receive, Scope, Send, check_get, send_body, send_json
from service.console_data import lift, read_stored
from service.parts import Parts
from service.problems import unavailable

LIFT_SECONDS = 3_600


class Alive(msgspec.Struct):
    status: str = "alive"


class Ready(msgspec.Struct):
    """`fallback` says why the uniform policy answers, where it does; `trouble` what ails store or event log."""

    policy: str | None
    fallback: str | None
    trouble: str | None
    status: str = "ready"


class Probes:
    """The three routes. Each raises `ProblemError` 405 where the request is no GET."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def livez(self, scope: Scope, _: Receive, send: Send) -> None:
        check_get(scope)
        await send_json(send, 200, msgspec.json.encode(Alive()))

    async def readyz(self, scope: Scope, _: Receive, send: Send) -> None:
        """503 until what the store has was looked at; then ready, if need be by the uniform fallback."""
        check_get(scope)
        await send_json(send, 200, msgspec.json.encode(self._ready()))

    async def metrics(self, scope: Scope, _: Receive, send: Send) -> None:
        """In Prometheus' text format."""
        check_get(scope)
        parts = self._parts
        if parts.loop.exploration.control:
            stored = await asyncio.to_thread(read_stored, parts, parts.clock() - LIFT_SECONDS)
            for bound, value in (lift(stored.totals) or {}).items():
                parts.metrics.lift.labels(bound).set(value)
        text = await asyncio.to_thread(parts.worker_metrics.text)
        await send_body(send, 200, text, CONTENT_TYPE_LATEST.encode())

    def _ready(self) -> Ready:
        parts = self._parts
        if not parts.is_ready:
            raise unavailable("the catalogue and the policy are being loaded")
        policy, reason = parts.handle.current().policy, parts.handle.current().reason
        log_trouble = parts.log.trouble and f"the event log is away: {parts.log.trouble}"
        trouble = "; ".join(filter(None, (parts.health.trouble, log_trouble)))
        return Ready(None if policy is None else policy.version, reason or None, trouble or None)
