"""A hundred swaps under load, through a real server: no request fails, and no answer mixes two policies."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest

from policies.policy import SlatePolicy
from schemas.loop_file import Loop
from schemas.settings import Settings
from service import serve
from storage.catalogue import Catalogue
from storage.database import migrate, open_store
from storage.registry import PolicyRegistry
from tests.unit.service import made

NUM_SWAPS = 100
NUM_CLIENTS = 8
ITEMS = [(f"i{i}", {"price": float(i % 10)}) for i in range(40)]


@contextmanager
def serving(settings: Settings, loop: Loop) -> Iterator[str]:
    """The server in a thread, on a port of its own; yields its URL."""
    stop = threading.Event()
    listener = serve.listen(settings.model_copy(update={"port": 0}))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread = threading.Thread(target=serve.run_serve, args=(settings, loop, stop, listener))
    thread.start()
    try:
        yield url
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


class Policies:
    """What each version must answer: its scores are unlike those of any other."""

    def __init__(self, settings: Settings, loop: Loop) -> None:
        self.settings, self.loop = settings, loop
        self.engine = open_store(settings.store_url)
        self.registry = PolicyRegistry(self.engine, time.time)
        self.scores: dict[str, dict[str, float]] = {}

    def promote(self, version: str) -> None:
        tensors = made.random_tensors(self.loop, seed=int(version))
        manifest = made.write(
            self.settings.policies_folder, self.loop, tensors, version=version, created_at=time.time()
        )
        policy = made.policy(self.loop, tensors)
        assert isinstance(policy, SlatePolicy)
        state = policy.state_vectors([policy.state_encoder.encode({"page": 3})])[0]
        encoded = [policy.item_encoder.encode(item_id, features) for item_id, features in ITEMS]
        scores = policy.scores(state, policy.item_vectors(encoded)).tolist()
        self.scores[version] = dict(zip((item_id for item_id, _ in ITEMS), scores, strict=True))
        self.registry.publish(manifest, "published")
        self.registry.promote(version, pinned=False)


async def ask_until(stopped: asyncio.Event, url: str, answers: list[dict[str, Any]]) -> None:
    """Half of the requests name candidates, half rank the catalogue."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        while not stopped.is_set():
            i = len(answers)
            candidates = [item_id for item_id, _ in ITEMS[i % 20 : i % 20 + 12]] if i % 2 else None
            answer = await client.post("/recommend", json={"context": {"page": 3}, "candidates": candidates, "k": 5})
            assert answer.status_code == 200, answer.text
            answers.append(answer.json())


async def swap_under_load(url: str, policies: Policies) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    stopped = asyncio.Event()
    clients = [asyncio.create_task(ask_until(stopped, url, answers)) for _ in range(NUM_CLIENTS)]
    try:
        for number in range(1, NUM_SWAPS + 1):
            version = f"{number:06d}"
            await asyncio.to_thread(policies.promote, version)
            await until(partial(has_acted, version, answers), clients)
    finally:
        stopped.set()
        await asyncio.gather(*clients)
    return answers


def has_acted(version: str, answers: list[dict[str, Any]]) -> bool:
    return any(acted(answer) == version for answer in answers[-50:])


async def until(happened: Callable[[], bool], clients: list[asyncio.Task[None]]) -> None:
    async with asyncio.timeout(60):
        while not happened():
            assert not any(client.done() for client in clients), "a client failed"
            await asyncio.sleep(0.002)


def acted(answer: dict[str, Any]) -> str | None:
    return None if answer["policy"] is None else str(answer["policy"]["version"])


@pytest.mark.slow
def test_a_hundred_swaps_lose_no_request_and_mix_no_two_policies(settings: Settings, loop: Loop) -> None:
    migrate(settings.store_url)
    policies = Policies(settings, loop)
    Catalogue(policies.engine, time.time).upsert(ITEMS)
    quick = settings.model_copy(update={"champion_poll_seconds": 0.005})
    with serving(quick, loop) as url:
        answers = asyncio.run(swap_under_load(url, policies))
    policies.engine.dispose()
    assert {f"{number:06d}" for number in range(1, NUM_SWAPS + 1)} <= {acted(answer) or "" for answer in answers}
    for answer in answers:
        version = acted(answer)
        if version is None:
            assert {item["score"] for item in answer["items"]} <= {0.0}
        else:
            expected = [policies.scores[version][item["item_id"]] for item in answer["items"]]
            np.testing.assert_allclose([item["score"] for item in answer["items"]], expected, atol=1e-5)
