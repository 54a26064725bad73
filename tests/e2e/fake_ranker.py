"""A ranker as the console sees it: the real page over HTTP, and answers to `/console/data` that a test decides.

`python -m tests.e2e.fake_ranker` serves a lively one, to look at while working on the page.
"""

import json
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

CONSOLE = Path(__file__).parents[2] / "service" / "console"
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
PUBLISH_SECONDS = 6

Data = dict[str, Any]


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def noise(at: float, name: str) -> float:
    """Standard normal, and the same for the same time."""
    return random.Random(f"{at:.0f} {name}").gauss(0, 1)


def policy(version: int, created_at: float, state: str = "published", metrics: dict[str, float] | None = None) -> Data:
    parent = f"{version - 1:06}" if version > 1 else None
    return {
        "version": f"{version:06}",
        "state": state,
        "created_at": iso(created_at),
        "parent": parent,
        "metrics": metrics or noisy_metrics(version),
    }


def noisy_metrics(version: int) -> dict[str, float]:
    return {
        "estimator_loss": 0.41 + 0.01 * noise(version, "loss"),
        "agent_loss": 0.30,
        "reward_mean": 0.42 - 0.22 * math.exp(-version / 15),
        "reward_correlation": 0.26,
        "noise_share": 0.93 + 0.002 * noise(version, "share"),
        "updates": 60.0 * version,
    }


def newborn(now: float) -> Data:
    """What a ranker says that has just started: nothing yet."""
    return {
        "now": now,
        "loop": {"name": "storefront", "agent": "dqn", "estimator": "mlp", "stabilizer": "srs2", "wait_seconds": 10.0},
        "ready": True,
        "trouble": None,
        "reward": [],
        "swaps": [],
        "latency": [],
        "freshness": [],
        "freshness_total": {"p50": None, "p95": None, "count": 0},
        "policy": None,
        "policies": {"champion": None, "pinned": False, "policies": []},
        "learner": {},
        "totals": {"decisions": 0, "feedback_accepted": 0, "swaps": 0, "failed_loads": 0, "clipped": 0, "unknown": 0},
        "modes": {"learned": 0, "explore": 0, "fallback": 0, "control": 0},
        "decisions_per_second": 0.0,
        "lift": None,
    }


def lively(now: float, *, elapsed: float = 420.0) -> Data:
    """What a ranker says `elapsed` seconds after its start: the fallback for 30 s, then ever better policies."""
    started = now - elapsed
    first = started + 30
    ticks = [started - started % 2 + 2 * i for i in range(int(elapsed / 2))]
    swaps = [first + PUBLISH_SECONDS * i for i in range(1 + int((now - first) / PUBLISH_SECONDS))]
    versions = [policy(i + 1, at - 0.9) for i, at in enumerate(swaps)][::-1]
    versions[0]["state"] = "champion"
    for bad in versions[7:8]:
        bad |= {"state": "rejected", "metrics": {"max_abs_score": 41230.0, "agent_loss": 212.0}}
    num = 412 * int(elapsed)
    return newborn(now) | {
        "reward": [reward_row(at, started) for at in ticks],
        "swaps": [{"at": at, "version": f"{i + 1:06}"} for i, at in enumerate(swaps)],
        "latency": [latency_row(at) for at in ticks],
        "freshness": [freshness_row(at) for at in swaps[1:]],
        "freshness_total": {"p50": 1.62, "p95": 3.41, "count": 182_000},
        "policy": {
            "version": versions[0]["version"],
            "age_seconds": now - swaps[-1],
            "created_at": iso(swaps[-1] - 0.9),
        },
        "policies": {"champion": versions[0]["version"], "pinned": False, "policies": versions},
        "learner": {"noise_share": 0.931, "reward_variance": 0.244, "estimate_variance": 0.0168},
        "totals": {
            "decisions": num,
            "feedback_accepted": int(num * 0.31),
            "swaps": len(swaps),
            "failed_loads": 0,
            "clipped": 12,
            "unknown": 3,
        },
        "modes": {"learned": num * 80, "explore": num * 8, "fallback": num * 7, "control": num * 5},
        "decisions_per_second": 412.3,
        "lift": {"mean": 0.231, "low": 0.214, "high": 0.248},
    }


def reward_row(at: float, started: float) -> Data:
    learning = at - started - 30
    learned = 0.42 - 0.22 * math.exp(-learning / 90) + 0.012 * noise(at, "learned")
    return {
        "at": at,
        "decisions": 824,
        "learned": learned if learning >= 0 else None,
        "fallback": 0.19 + 0.012 * noise(at, "fallback") if learning < 0 else None,
        "control": 0.19 + 0.03 * noise(at, "control"),
    }


def latency_row(at: float) -> Data:
    p50 = 1.4 + 0.04 * noise(at, "p50")
    return {
        "at": at,
        "requests": 824,
        "p50_ms": p50,
        "p95_ms": p50 + 1.8 + 0.2 * noise(at, "p95"),
        "p99_ms": p50 + 4 * math.exp(0.3 * noise(at, "p99")),
    }


def freshness_row(at: float) -> Data:
    return {"at": at, "p50_seconds": 1.6 + 0.15 * noise(at, "p50"), "p95_seconds": 3.3 + 0.25 * noise(at, "p95")}


class FakeRanker:
    """`answer(now)` makes `/console/data`; `refusal` is the detail of a refused POST; `posts` the paths of them all."""

    def __init__(self) -> None:
        self.answer: Callable[[float], Data] = lively
        self.refusal: str | None = None
        self.key: str | None = None
        self.posts: list[str] = []
        self.url = ""

    @contextmanager
    def serving(self, port: int = 0) -> Iterator["FakeRanker"]:
        ranker = self

        class Handler(_Handler):
            fake = ranker

        with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            self.url = f"http://127.0.0.1:{server.server_port}"
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeRanker

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == "/console/data":
            self._data()
        else:
            self._file("index.html" if path == "/console" else path.removeprefix("/console/"))

    def do_POST(self) -> None:
        if self.fake.refusal is not None:
            self._problem(409, self.fake.refusal)
        else:
            self.fake.posts.append(self.path)
            self._json(200, {})

    def _data(self) -> None:
        if self.fake.key is not None and self.headers["X-API-Key"] != self.fake.key:
            self._problem(401, "X-API-Key is missing or unknown.")
        else:
            self._json(200, self.fake.answer(time.time()))

    def _file(self, name: str) -> None:
        file = CONSOLE / name
        if "/" in name or not file.is_file():
            self._problem(404, f"{self.path} is not here.")
        else:
            self._send(200, CONTENT_TYPES[file.suffix], file.read_bytes())

    def _problem(self, status: int, detail: str) -> None:
        self._json(status, {"type": "about:blank", "title": "Refused", "status": status, "detail": detail})

    def _json(self, status: int, body: Data) -> None:
        self._send(status, "application/json", json.dumps(body, allow_nan=False).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class names it so
        """Silence."""


if __name__ == "__main__":
    with FakeRanker().serving(8099) as fake:
        print(f"{fake.url}/console")  # noqa: T201 it is for whoever started it
        time.sleep(3600)
