"""Servers under test: each a process of its own on a core of its own, in a folder of its own."""

import http.client
import os
import random
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import psutil  # type: ignore[import-untyped]  # it brings no types

from loadtest.parts.process import ProcessTree, wait_until
from loadtest.parts.server import PartFailedError, free_port
from policies.features import network_layouts
from policies.files import Golden, golden_outputs, write_policy
from policies.networks import ActorNetwork, SlateNetwork, Tensors
from schemas.loop_file import Loop, parse_loop
from schemas.settings import Settings
from storage.catalogue import Catalogue
from storage.database import migrate, open_store
from storage.registry import PolicyRegistry

ROOT = Path(__file__).parents[1]
NUM_BODIES = 300
STATE_DIM, ITEM_DIM = 91, 27
START_SECONDS = 60.0
_ITEMS_AT_ONCE = 10_000
_LOOP = """
name = "bench"
[state]
user = {{ kind = "vector", dim = {state_dim} }}
[item]
{item}
[network]
interaction = "{interaction}"
[action]
{action}
[reward]
click = 1.0
wait = "10s"
[learner]
agent = "{agent}"
[exploration]
{exploration}
"""
_SLATE = {
    "item": 'id = { kind = "category", buckets = 65536 }\nprice = { kind = "number" }',
    "action": 'kind = "slate"\nsize = 10',
    "exploration": 'kind = "softmax"\ntemperature = 0.1\nepsilon = 0.05',
    "agent": "dqn",
}
_WEIGHTS = {
    "item": f'taste = {{ kind = "vector", dim = {ITEM_DIM} }}',
    "action": f'kind = "weights"\ndim = {ITEM_DIM}',
    "exploration": 'kind = "gaussian"',
    "agent": "ddpg",
}


def server_core() -> int:
    return min(os.sched_getaffinity(0))


def load_core() -> int:
    """Another one than the servers', where there are two."""
    return max(os.sched_getaffinity(0))


# ------------------------------------------------------------------ the workload


@dataclass(frozen=True, slots=True)
class Workload:
    """What is ranked, by what, and what is asked."""

    action: Literal["slate", "weights"] = "slate"
    interaction: Literal["dot", "mlp"] = "dot"
    num_items: int = 1_000
    num_candidates: int | None = 100
    """Of a request; None: it names none, and the whole catalogue is ranked."""

    @property
    def loop_text(self) -> str:
        kind = _SLATE if self.action == "slate" else _WEIGHTS
        return _LOOP.format(state_dim=STATE_DIM, interaction=self.interaction, **kind)

    @property
    def loop(self) -> Loop:
        return parse_loop(self.loop_text)

    def features(self, number: int) -> dict[str, object]:
        """Those of an item."""
        if self.action == "slate":
            return {"price": round(number % 997 / 997, 3)}
        chance = random.Random(number)
        return {"taste": [round(chance.gauss(0, 1), 3) for _ in range(ITEM_DIM)]}

    def bodies(self, num: int = NUM_BODIES) -> list[bytes]:
        """Different requests, of about 1.3 kB where they name 100 candidates."""
        return [msgspec.json.encode(request(random.Random(number), self)) for number in range(num)]


def request(chance: random.Random, workload: Workload) -> dict[str, object]:
    """One of `POST /recommend`."""
    user = [chance.choice((0, 0, 0, 1, 1, 0.25, 0.5)) for _ in range(STATE_DIM)]
    asked: dict[str, object] = {"user_id": f"u{chance.randrange(100_000)}", "context": {"user": user}}
    if workload.num_candidates is not None:
        items = chance.sample(range(workload.num_items), workload.num_candidates)
        asked["candidates"] = [f"i{number}" for number in items]
    return asked


# ------------------------------------------------------------------ what a ranker finds


def prepare(folder: Path, workload: Workload) -> Settings:
    """The loop file, the store with its items, and a promoted policy, as a ranker finds them when it starts."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "loop.toml").write_text(workload.loop_text)
    settings = Settings(data=folder / "data", loop=folder / "loop.toml")
    settings.data.mkdir(exist_ok=True)
    migrate(settings.store_url)
    engine = open_store(settings.store_url)
    try:
        catalogue = Catalogue(engine, time.time)
        for start in range(0, workload.num_items, _ITEMS_AT_ONCE):
            numbers = range(start, min(start + _ITEMS_AT_ONCE, workload.num_items))
            catalogue.upsert([(f"i{number}", workload.features(number)) for number in numbers])
    finally:
        engine.dispose()
    promote(settings, workload.loop, policy_tensors(workload.loop))
    return settings


def policy_tensors(loop: Loop, seed: int = 0) -> Tensors:
    """Of the trainer's own agent before it learned; but its last layers, which start at 0, are drawn, so that scores
    differ by about the temperature.
    """
    import torch  # noqa: PLC0415 (whoever only drives a server needs none)

    from trainer.rewards.stabilizers import stabilized_agent  # noqa: PLC0415 (the same)

    torch.manual_seed(seed)
    rng, tensors = np.random.default_rng(seed), stabilized_agent(loop).policy_tensors()
    for name, tensor in tensors.items():
        if name.startswith("head.") and name.endswith(".weight") and not tensor.any():
            tensors[name] = rng.normal(0, 0.25, tensor.shape).astype(np.float32)
    return tensors


def promote(settings: Settings, loop: Loop, tensors: Tensors) -> str:
    """Writes a policy and makes it the champion, pinned; returns its version. A ranker that runs takes it over."""
    engine = open_store(settings.store_url)
    try:
        registry = PolicyRegistry(engine, time.time)
        version = registry.next_version()
        manifest = write_policy(
            settings.policies_folder / version,
            tensors,
            _golden(loop, tensors),
            version=version,
            parent=None,
            loop_hash=loop.hash,
            created_at=time.time(),
            metrics={},
            revision=0,
            final_at=[],
        )
        registry.publish(manifest, "published")
        registry.promote(version, pinned=True)
    finally:
        engine.dispose()
    return version


def champion(settings: Settings) -> str:
    """The version of the policy that serves."""
    engine = open_store(settings.store_url)
    try:
        found = PolicyRegistry(engine, time.time).champion()
    finally:
        engine.dispose()
    assert found is not None, "prepare promoted one"
    return found.version


def _golden(loop: Loop, tensors: Tensors) -> Golden:
    network = SlateNetwork(loop, tensors) if loop.action.kind == "slate" else ActorNetwork(loop, tensors)
    state, item = network_layouts(loop)
    n = 4 if loop.action.kind == "slate" else 0
    slots, numbers = (item.num_slots, item.num_numbers) if n else (0, 0)
    golden = Golden(
        np.zeros((2, state.num_slots), np.int64),
        np.ones((2, state.num_numbers), np.float32),
        np.zeros((2, n, slots), np.int64),
        np.ones((2, n, numbers), np.float32),
        np.zeros((2, 0), np.float32),
    )
    return replace(golden, outputs=golden_outputs(network, golden))


# ------------------------------------------------------------------ processes


@dataclass(frozen=True, slots=True)
class Server:
    """A process that answers at `url`."""

    process: ProcessTree
    port: int
    log: Path
    ready_seconds: float
    """From its start to its first answer."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    def cpu_seconds(self) -> float:
        """Of the process and its children."""
        times = [each.cpu_times() for each in _tree(self.pid)]
        return float(sum(each.user + each.system for each in times))

    def pss_bytes(self) -> int:
        """Memory, that which is shared counted by its share, of the process and its children."""
        return sum(int(each.memory_full_info().pss) for each in _tree(self.pid))

    def metrics(self) -> dict[str, float]:
        """Those of a ranker that have no labels, by name."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as answer:  # noqa: S310 (our own server's)
            lines = [line.split() for line in answer.read().decode().splitlines() if not line.startswith("#")]
        return {line[0]: float(line[1]) for line in lines if "{" not in line[0]}


def _tree(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


@contextmanager
def served(
    command: Sequence[str],
    folder: Path,
    probe: bytes,
    *,
    path: str = "/recommend",
    core: int | None = None,
    patience: float = START_SECONDS,
) -> Iterator[Server]:
    """A server while it runs, pinned to its core; every "PORT" in the command becomes its port.

    Raises:
        PartFailedError: it did not answer the probe with 200 in `patience` seconds.
    """
    port, log = free_port(), folder / "server.log"
    pinned = ["taskset", "-c", str(server_core() if core is None else core)]
    started = time.perf_counter()
    process = ProcessTree([*pinned, *(word.replace("PORT", str(port)) for word in command)], log)
    try:
        if not wait_until(lambda: _answers(port, path, probe) or not process.is_running, patience, 0.005):
            raise PartFailedError(f"no answer in {patience:g} s: {log.read_text()[-2_000:]}")
        if not process.is_running:
            raise PartFailedError(f"it ended: {log.read_text()[-2_000:]}")
        yield Server(process, port, log, time.perf_counter() - started)
    finally:
        process.kill()


def module(name: str, *words: str) -> list[str]:
    """The command that runs a module of this repository."""
    return ["env", f"PYTHONPATH={ROOT}", "OMP_NUM_THREADS=1", sys.executable, "-m", name, *words]


@contextmanager
def ranker(
    folder: Path, workload: Workload, options: Mapping[str, str] | None = None, *, core: int | None = None
) -> Iterator[Server]:
    """`steadyrank serve` on a folder made by `prepare`, once it answers by the policy that was promoted.

    Args:
        folder: what `prepare` was given.
        workload: the same.
        options: settings by name, as {"durable_decisions": "1"}.
        core: to pin it to; None: the servers'.
    """
    environment = [f"STEADYRANK_{name.upper()}={value}" for name, value in (options or {}).items()]
    serve = [sys.executable, str(ROOT / "steadyrank.py"), "serve", "--port", "PORT"]
    command = ["env", *environment, *serve, "--data", str(folder / "data"), "--loop", str(folder / "loop.toml")]
    body = workload.bodies(1)[0]
    with served(command, folder, body, core=core) as server:
        if not wait_until(lambda: b'"learned"' in ask(server.port, body) or b'"explore"' in ask(server.port, body), 30):
            raise PartFailedError(f"it answers without a policy: {server.log.read_text()[-2_000:]}")
        yield server


def ask(port: int, body: bytes, path: str = "/recommend") -> bytes:
    """The body of one answer; empty: there was none, or it was not a good one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException):
        return b""
    finally:
        connection.close()
    return content if answer.status in {200, 202} else b""


def _answers(port: int, path: str, probe: bytes) -> bool:
    return ask(port, probe, path) != b""
