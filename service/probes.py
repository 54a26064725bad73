"""What orchestrators ask every few seconds: `/livez`, `/readyz`, `/metrics`. On bare ASGI, so that a ranker which is
asked nothing else needs no FastAPI.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST

from service.asgi import ASGIApp, Receive, Reply, Scope, Send, check_get, send_reply
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


def probes(parts: Parts) -> dict[str, ASGIApp]:
    """The three routes by path. Each raises `ProblemError`: 405, the request is no GET; and what its answer raises."""

    async def livez() -> Reply:
        return Reply(200, msgspec.json.encode(Alive()))

    async def readyz() -> Reply:
        return Reply(200, msgspec.json.encode(_ready(parts)))

    async def metrics() -> Reply:
        if parts.loop.exploration.control:
            stored = await asyncio.to_thread(read_stored, parts, parts.clock() - LIFT_SECONDS)
            for bound, value in (lift(stored.totals) or {}).items():
                parts.metrics.lift.labels(bound).set(value)
        text = await asyncio.to_thread(parts.worker_metrics.text)
        return Reply(200, text, [(b"content-type", CONTENT_TYPE_LATEST.encode())])

    return {"/livez": _get(livez), "/readyz": _get(readyz), "/metrics": _get(metrics)}


def _get(answer: Callable[[], Awaitable[Reply]]) -> ASGIApp:
    async def route(scope: Scope, _: Receive, send: Send) -> None:
        check_get(scope)
        await send_reply(send, await answer())

    return route


def _ready(parts: Parts) -> Ready:
    """By the uniform fallback, if need be; raises `ProblemError` 503 until what the store has was looked at."""
    if not parts.is_ready:
        raise unavailable("the catalogue and the policy are being loaded")
    policy, reason = parts.handle.current().policy, parts.handle.current().reason
    log_trouble = parts.log.trouble and f"the event log is away: {parts.log.trouble}"
    trouble = "; ".join(filter(None, (parts.health.trouble, log_trouble)))
    return Ready(None if policy is None else policy.version, reason or None, trouble or None)
