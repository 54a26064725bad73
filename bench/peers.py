"""`python -m bench.peers`: /recommend beside the model servers that are installed, with the same policy.

They need much, and not the same versions of it, so they live in environments of their own, which need torch too:
`STEADYRANK_BENCH_PEERS=/path/to/bin/python` names the interpreter of one, or several with ":" between them.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it brings no types

from bench.peer_servers import SETTING
from bench.peer_table import CONNECTIONS, PLAIN, RANKER, Compared, rows
from bench.rankers import ROOT, Server, Workload, ask, module, prepare, ranker, served
from bench.serving import MAX_REFUSED, BadAnswersError, Round
from bench.tables import print_report, section
from bench.wrk import wrk
from loadtest.parts.server import PartFailedError

STANDARD = Workload()
PATIENCE_SECONDS = 240.0
"""Until the first answer: on one busy core, Ray Serve's processes take over a minute to start."""
_WARM_SECONDS = 3.0
_FIND = """
import importlib.metadata as found, json, sys
versions = {}
for name in sys.argv[1:]:
    try:
        versions[name] = found.version(name)
    except found.PackageNotFoundError:
        pass
print(json.dumps(versions))
"""
_HOW = """
Not measured: `{setting}` names no Python interpreter. In an environment that is not this project's, install torch and
some of {packages} (MLServer is better off in one of its own), then set it to that environment's `bin/python`; to
several with ":" between them.
""".strip()
_ABOUT = """
1,000 items, 100 candidates, the requests of the section /recommend. Server on one core, wrk on another; beside each
model server the ranker and FastAPI + torch, {rounds} interleaved rounds of {seconds:g} s, only these three running;
medians. "÷ it" is a ratio of requests a second, and of CPU a request (of all the server's processes), of the same
rounds. The ranker logs its decisions (SQLite); nobody else logs any. All but the ranker have the network and the draws
of FastAPI + torch, one worker, one thread, no access log, and answer the ranker's bodies with the ranker's replies, by
a handler of their own where their protocol is another (MLServer); but BentoML's batching takes lists, here of one
request, and TorchServe has a path of its own. FastAPI + torch validates the fields of a body, they only that it is
JSON. Batching, of so many, is on where it was the better: {batched}. Not installed: {missing}.{failed}
""".strip()


@dataclass(frozen=True, slots=True)
class Peer:
    """A model server."""

    title: str
    package: str
    server: str
    """Its module in `bench.peer_servers`."""
    path: str = "/recommend"
    batch: int = 1
    """Requests ranked at once, at most."""
    envelope: tuple[bytes, bytes] = (b"", b"")
    """Around each request."""

    @property
    def bodies(self) -> list[bytes]:
        before, after = self.envelope
        return [before + body + after for body in STANDARD.bodies()]

    def command(self, python: str, folder: Path) -> list[str]:
        """It runs in the folder and writes there."""
        environment = [f"--chdir={folder}", f"PYTHONPATH={ROOT}", "OMP_NUM_THREADS=1"]
        name = f"bench.peer_servers.{self.server}"
        return ["env", *environment, python, "-m", name, "PORT", str(folder), str(self.batch)]


PEERS = (
    Peer("MLServer", "mlserver", "ml"),
    Peer("LitServe", "litserve", "lit", batch=16),
    Peer("BentoML", "bentoml", "bento", batch=16, envelope=(b'{"questions":[', b"]}")),
    Peer("TorchServe", "torchserve", "torch_serve", "/predictions/recommend", batch=16),
    Peer("Ray Serve", "ray", "ray_serve"),
)


@dataclass(frozen=True, slots=True)
class Installed:
    """A model server that can be measured."""

    peer: Peer
    python: str
    version: str

    @property
    def title(self) -> str:
        return f"{self.peer.title} {self.version}"


def report(*, quick: bool) -> str:
    """One section of markdown."""
    pythons = [str(Path(each).absolute()) for each in os.environ.get(SETTING, "").split(os.pathsep) if each]
    if not pythons:
        packages = ", ".join(peer.package for peer in PEERS)
        return section("Model servers", _HOW.format(setting=SETTING, packages=packages))
    found = installed(pythons)
    num_rounds, seconds = (1, 1.0) if quick else (5, 2.0)
    with tempfile.TemporaryDirectory() as name, ExitStack() as started:
        folder = Path(name)
        servers = _ours(folder, started)
        tried = {each.title: _tried(each, folder, servers, num_rounds, seconds) for each in found}
    missing = {peer.title for peer in PEERS} - {each.peer.title for each in found}
    about = _ABOUT.format(
        rounds=num_rounds,
        seconds=seconds,
        batched=_listed({f"{peer.title} ({peer.batch})" for peer in PEERS if peer.batch > 1}),
        missing=_listed(missing),
        failed="".join(f" {title} failed: {what}." for title, what in tried.items() if isinstance(what, str)),
    )
    return section("Model servers", rows([each for each in tried.values() if isinstance(each, Compared)]), about)


def installed(pythons: Sequence[str]) -> list[Installed]:
    """Each peer that is found, where it is found first."""
    packages = [peer.package for peer in PEERS]
    versions = [(python, json.loads(_said([python, "-c", _FIND, *packages]))) for python in pythons]
    having = ((peer, [each for each in versions if peer.package in each[1]]) for peer in PEERS)
    return [Installed(peer, has[0][0], has[0][1][peer.package]) for peer, has in having if has]


def _said(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 (the user's own)


# ------------------------------------------------------------------ servers


def _ours(folder: Path, started: ExitStack) -> dict[str, Server]:
    """The ranker and FastAPI + torch; leaves the policy in the folder."""
    from bench.plain import torch_policy  # noqa: PLC0415 (whoever measures nothing needs no torch)

    torch_policy(prepare(folder, STANDARD)).write(folder)
    plain = module("bench.plain", "PORT", str(folder))
    return {
        RANKER: started.enter_context(ranker(folder, STANDARD)),
        PLAIN: started.enter_context(served(plain, folder, STANDARD.bodies(1)[0])),
    }


@contextmanager
def _running(each: Installed, policy: Path) -> Iterator[Server]:
    """A peer in a folder of its own, once it answers as it should."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, _none_left(Path(name)):
        folder, peer, body = Path(name), each.peer, each.peer.bodies[0]
        (folder / policy.name).write_bytes(policy.read_bytes())
        command = peer.command(each.python, folder)
        with served(command, folder, body, path=peer.path, patience=PATIENCE_SECONDS) as server:
            check(ask(server.port, body, peer.path), STANDARD.bodies(1)[0])
            yield server


@contextmanager
def _none_left(folder: Path) -> Iterator[None]:
    """Kills whatever runs in the folder at the end: some servers have children that outlive them."""
    try:
        yield
    finally:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if Path(process.cwd()).is_relative_to(folder):
                    process.kill()


def check(reply: bytes, body: bytes) -> None:
    """Whether it is an answer to this request, or a list of one.

    Raises:
        BadAnswersError: it has not ten different candidates, each with a propensity.
    """
    answer, candidates = json.loads(reply), json.loads(body)["candidates"]
    items = (answer[0] if isinstance(answer, list) else answer)["items"]
    drawn = {item["item_id"] for item in items}
    if not (len(items) == len(drawn) == 10 and drawn <= {*candidates} and all(0 < i["propensity"] <= 1 for i in items)):
        raise BadAnswersError(f"not a slate of its candidates: {reply.decode()[:500]}")


# ------------------------------------------------------------------ rounds


@dataclass(frozen=True, slots=True)
class Asked:
    """A server, and what it is sent."""

    title: str
    server: Server
    path: str
    bodies: Sequence[bytes]

    def round(self, connections: int, seconds: float) -> Round:
        before = self.server.cpu_seconds()
        load = wrk(self.server.url + self.path, self.bodies, connections=connections, seconds=seconds)
        if load.num_bad > MAX_REFUSED * load.num_requests:
            raise BadAnswersError(f"{self.title}: {load.num_bad} of {load.num_requests} answers were bad")
        return Round(load, self.server.cpu_seconds() - before)


def _tried(each: Installed, folder: Path, ours: Mapping[str, Server], num: int, seconds: float) -> Compared | str:
    """The reason, where a peer does not do its work: what the others did is not lost."""
    try:
        return _compared(each, folder, ours, num, seconds)
    except (PartFailedError, BadAnswersError) as error:
        sys.stderr.write(f"{each.title}: {error}\n")
        return str(error).strip().splitlines()[-1][:120]


def _compared(each: Installed, folder: Path, ours: Mapping[str, Server], num: int, seconds: float) -> Compared:
    from bench.torch_slates import FILE  # noqa: PLC0415 (as above)

    with _running(each, folder / FILE) as peer:
        asked = [Asked(title, server, "/recommend", STANDARD.bodies()) for title, server in ours.items()]
        asked.append(Asked(each.title, peer, each.peer.path, each.peer.bodies))
        rounds: dict[tuple[str, int], list[Round]] = defaultdict(list)
        for one in asked:
            one.round(CONNECTIONS[-1], _WARM_SECONDS)
        for _ in range(num):
            for connections in CONNECTIONS:
                for one in asked:
                    rounds[one.title, connections].append(one.round(connections, seconds))
    return Compared(each.title, rounds)


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


if __name__ == "__main__":
    print_report(report, __doc__)
