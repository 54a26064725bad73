"""`python -m bench.swaps`: a hundred swaps of the policy while requests come in."""

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from bench.large import clustered, index_of, policy_of, queries_of, table_of
from bench.machine import Spans, Stalls, seconds_within
from bench.paced import Paced, paced
from bench.rankers import Server, Workload, _golden, ask, policy_tensors, prepare, ranker
from bench.tables import Section, print_report, section, table
from loadtest.parts.process import wait_until
from loadtest.parts.server import PartFailedError
from policies.files import write_policy
from policies.index import INDEX_THRESHOLD
from policies.networks import Tensors
from schemas.manifest import MANIFEST_FILE, PolicyManifest
from schemas.settings import Settings
from service.catalogue import ItemTable
from storage.database import open_store
from storage.registry import PolicyRegistry

RATE = 200.0
_NUM_QUERIES = 256
_POLL_SECONDS = 0.05
_SAMPLE_SECONDS = 0.005
_SWAP_SECONDS = 60.0
_SETTLED_SECONDS = 0.3
_ROUND_SECONDS = 5.0
_SWAPS_IN_A_ROW = 10
_HEADER = (
    "items",
    "p50 ms",
    "p99",
    f"longest, each {_ROUND_SECONDS:g} s",
    "longest of all",
    "less the machine's",
    "a swap takes s",
    "memory ÷ policy",
    "failed",
)
_ABOUT = """
`steadyrank serve` on one core, {rate:g} requests a second at a steady pace from the other, half of them with 100
candidates, half for the whole catalogue. Two policies take turns. Latency is from when a request was to be sent to
its answer. "No swaps" is the same load on the same server for as long, in turns with {row} swaps. "Less the machine's"
is the longest without the time that the machine itself stood still meanwhile, as told by a real-time process on each
core that is due every half millisecond: {stalls}. A virtual
machine can also be slow without standing still. "Each {seconds:g} s": the longest in so long, the median of such times.
Memory: how far the resident set rose at most above where it was before, as a part of one policy's files, and one for
the policy that serves.
""".strip()


@dataclass(frozen=True, slots=True)
class _Measured:
    calm: list[Paced]
    load: list[Paced]
    stalls: Spans
    swap_seconds: list[float]
    memory_ratio: float


def report(*, quick: bool) -> str:
    """One section of markdown."""
    return measure(quick=quick).text


def measure(*, quick: bool) -> Section:
    """The section, and the figures of its targets."""
    sizes, num_swaps = ((1_000, 30_000), 5) if quick else ((1_000, 1_000_000), 100)
    measured = {size: _run(Workload(num_items=size), num_swaps) for size in sizes}
    rows = [row for size, each in measured.items() for row in _rows(size, each)]
    stalls = _of_machine([each.stalls for each in measured.values()])
    about = _ABOUT.format(rate=RATE, row=_SWAPS_IN_A_ROW, stalls=stalls, seconds=_ROUND_SECONDS)
    text = section(f"{num_swaps} swaps", table(_HEADER, rows), about)
    last = measured[sizes[-1]]
    figures = {
        "swaps failed": float(sum(_failed(each) for each in measured.values())),
        "swaps stall": 1e3 * _longest(_joined(last.load), last.stalls),
        "swaps memory": last.memory_ratio,
    }
    return Section(text, {} if quick else figures)


def _failed(measured: _Measured) -> int:
    return int((_joined(measured.load).status != 200).sum())


def _rows(size: int, measured: _Measured) -> Iterator[tuple[str, ...]]:
    swap_seconds = f"{median(measured.swap_seconds):.2f}"
    yield f"{size:,}, no swaps", *_times(measured.calm, measured.stalls), "", "", ""
    swaps = (swap_seconds, f"{measured.memory_ratio:.2f}", str(_failed(measured)))
    yield f"{size:,}, swaps", *_times(measured.load, measured.stalls), *swaps


def _times(rounds: Sequence[Paced], stalls: Spans) -> Iterator[str]:
    part, usual = _joined(rounds), median(float(each.latency.max()) for each in rounds)
    latencies = (part.percentile(50), part.percentile(99), usual, float(part.latency.max()), _longest(part, stalls))
    return (f"{1e3 * seconds:.2f}" for seconds in latencies)


def _longest(part: Paced, stalls: Spans) -> float:
    """Latency in seconds, without what the machine held up."""
    return float((part.latency - seconds_within(stalls, part.due, part.due + part.latency)).max())


def _of_machine(spans: Sequence[Spans]) -> str:
    seconds = np.concatenate([each[:, 1] - each[:, 0] for each in spans])
    if not len(seconds):
        return "it saw none, or this user may not run one"
    return f"it did {len(seconds)} times, for {1e3 * seconds.max():.1f} ms at the longest"


def _run(workload: Workload, num_swaps: int) -> _Measured:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = prepare(folder, workload)
        versions = _written(settings, workload, num_swaps + 1)
        whole = replace(workload, num_candidates=None).bodies(100)
        bodies = [body for pair in zip(workload.bodies(100), whole, strict=True) for body in pair]
        with ranker(folder, workload, {"champion_poll_seconds": str(_POLL_SECONDS)}) as server:
            _swap(settings, server, versions[0], bodies[0])  # from now on both have an index
            time.sleep(_SETTLED_SECONDS)
            return _measured(settings, server, versions, bodies)


def _measured(settings: Settings, server: Server, versions: Sequence[str], bodies: list[bytes]) -> _Measured:
    """Of swaps to all versions but the first, which serves."""
    size = sum(path.stat().st_size for path in (settings.policies_folder / versions[0]).iterdir())
    memory, swap_seconds = _Memory(server.pid), list[float]()
    before = memory.now()
    calm: list[Paced] = []
    load: list[Paced] = []
    with memory, Stalls() as stalls, ThreadPoolExecutor(1) as apart:
        for start in range(1, len(versions), _SWAPS_IN_A_ROW):
            row = versions[start : start + _SWAPS_IN_A_ROW]
            swapping = apart.submit(_swap_all, settings, server, row, bodies[0])
            num_before = len(load)
            while not swapping.done():
                load.append(_round(server, bodies))
            swap_seconds += swapping.result()
            calm += [_round(server, bodies) for _ in load[num_before:]]
    return _Measured(calm, load, stalls.spans, swap_seconds, 1 + (memory.peak - before) / size)


def _round(server: Server, bodies: list[bytes]) -> Paced:
    return paced(f"{server.url}/recommend", bodies, rate=RATE, seconds=_ROUND_SECONDS, goes_first=True)


def _joined(rounds: Sequence[Paced]) -> Paced:
    """With times since the clock's own start."""
    return Paced(
        np.concatenate([each.start + each.due for each in rounds]),
        np.concatenate([each.latency for each in rounds]),
        np.concatenate([each.status for each in rounds]),
    )


def _swap_all(settings: Settings, server: Server, versions: Sequence[str], body: bytes) -> list[float]:
    """How long each took."""
    seconds = []
    for version in versions:
        started = time.perf_counter()
        _swap(settings, server, version, body)
        seconds.append(time.perf_counter() - started)
        time.sleep(_SETTLED_SECONDS)
    return seconds


class _Memory(threading.Thread):
    """The peak of a process's resident set, in bytes."""

    def __init__(self, pid: int) -> None:
        super().__init__()
        self._pid = pid
        self._stopped = threading.Event()
        self.peak = 0

    def now(self) -> int:
        return int(Path(f"/proc/{self._pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")

    def run(self) -> None:
        while not self._stopped.wait(_SAMPLE_SECONDS):
            self.peak = max(self.peak, self.now())

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.join()


def _swap(settings: Settings, server: Server, version: str, body: bytes) -> None:
    """Promotes it, and waits until it answers."""
    engine = open_store(settings.store_url)
    try:
        PolicyRegistry(engine, time.time).promote(version, pinned=True)
    finally:
        engine.dispose()
    if not wait_until(lambda: _acting(server, body) == version, _SWAP_SECONDS, _POLL_SECONDS):
        raise PartFailedError(f"{version} is not swapped in: {server.log.read_text()[-2_000:]}")


def _acting(server: Server, body: bytes) -> str:
    answer = ask(server.port, body)
    policy = msgspec.json.decode(answer)["policy"] if answer else None
    return "" if policy is None else str(policy["version"])


# ------------------------------------------------------------------ policies


def _written(settings: Settings, workload: Workload, num: int) -> list[str]:
    """Published versions: two policies in turn, whose large files are the same files under many names."""
    engine = open_store(settings.store_url)
    registry = PolicyRegistry(engine, time.time)
    items, versions = table_of(workload), list[str]()
    try:
        for number in range(num):
            version = registry.next_version()
            folder = settings.policies_folder / version
            if number < 2:
                tensors = clustered(policy_tensors(workload.loop, number), number)
                manifest = _write(folder, workload, tensors, items)
            else:
                manifest = _linked(folder, settings.policies_folder / versions[number - 2])
            registry.publish(manifest, "published")
            versions.append(version)
    finally:
        engine.dispose()
    return versions


def _write(folder: Path, workload: Workload, tensors: Tensors, items: ItemTable) -> PolicyManifest:
    policy, index = policy_of(workload, tensors), None
    if workload.num_items >= INDEX_THRESHOLD:
        index = index_of(policy, items, queries_of(workload, policy, _NUM_QUERIES))
    return write_policy(
        folder,
        tensors,
        _golden(workload.loop, tensors),
        version=folder.name,
        parent=None,
        loop_hash=workload.loop.hash,
        created_at=time.time(),
        metrics={},
        revision=0,
        final_at=[],
        index=index,
    )


def _linked(folder: Path, other: Path) -> PolicyManifest:
    """The same policy under another version; only the manifest is a new file."""
    folder.mkdir()
    for path in other.iterdir():
        if path.name != MANIFEST_FILE:
            os.link(path, folder / path.name)
    text = (other / MANIFEST_FILE).read_text(encoding="utf-8").replace(other.name, folder.name)
    digest = PolicyManifest.model_validate_json(text).sha256[MANIFEST_FILE]
    nothing = "0" * len(digest)
    unsigned = text.replace(digest, nothing)
    text = unsigned.replace(nothing, hashlib.sha256(unsigned.encode()).hexdigest())
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")
    return PolicyManifest.model_validate_json(text)


if __name__ == "__main__":
    print_report(report, __doc__)
