"""`python -m bench.serving`: /recommend beside the bare server, beside FastAPI with torch, and beside a learner."""

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from bench.learning import learner
from bench.paced import Paced, paced
from bench.rankers import Server, Workload, ask, module, prepare, ranker, served
from bench.tables import Section, print_report, section, table
from bench.wrk import Load, wrk
from schemas.settings import Settings

GORSE_SHARE, GORSE_P99_MS = 0.017, 28.0
"""Of bare ASGI at 16 connections, in a run of its own on such a machine: Gorse needs downloads to run."""
STANDARD, CATALOGUE = Workload(), Workload(num_candidates=None)
LARGE = Workload(num_items=10_000, num_candidates=None)
WEIGHTS = Workload(action="weights")
WEIGHTS_CATALOGUE = Workload(action="weights", num_candidates=None)
MLP = Workload(interaction="mlp")
MAX_REFUSED = 0.05
"""A ranker that is at its limit refuses some (503); but a server that refuses more is not measured by its answers."""
_PATH = "/recommend"
_ABOUT = """
Server on one core, wrk on another, {rounds} interleaved rounds of {seconds:g} s, medians; decision log on (SQLite). p50
and p99 are those of a saturated server. CPU is the server process's, all its threads. Share is of the bare ASGI
application (uvicorn, uvloop, httptools; it reads the body, and its reply is as long as the ranker's) with as many
connections, in the same round; by CPU, it is the ratio of CPU a request, which what else the machine does touches
less. A request is {body:,} bytes long, a reply {reply:,}; requests for a whole catalogue name no candidates and are
shorter. "No log" is the ranker with a log that acknowledges at once and keeps nothing. FastAPI + torch has the same
network and the same draws, item vectors made once, one thread, pydantic in, a response model out, and no log.
MLServer, LitServe, BentoML, TorchServe and Ray Serve, where installed, are measured by `python -m bench.peers`. Gorse
is not measured: its share of bare ASGI, {gorse:g}, and its p99, {gorse_p99:g} ms, are of another run. Of {asked:,}
requests {refused:,} were refused with 503, as the ranker does past its bound; they count as no answer.
""".strip()
_ABOUT_LEARNER = """
p99 of /recommend, 1,000 items, 100 candidates, at half of what 16 connections got above ({rate:,.0f} requests a
second, open loop, latency from the intended time to send), {rounds} rounds each of {seconds:g} s in turn.
`steadyrank train` ran on the ranker's data folder without end, not pinned to a core: it took {share:.0%} of one
while it was not paused and made {updates:,} updates; its policies were swapped in.
""".strip()


class BadAnswersError(Exception):
    """A server under test did not do its work: its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is asked of which server."""

    title: str
    server: str
    workload: Workload
    connections: int = 16


@dataclass(frozen=True, slots=True)
class Round:
    load: Load
    cpu_seconds: float

    @property
    def cpu_us(self) -> float:
        """Of the server, a good answer."""
        return 1e6 * self.cpu_seconds / self.load.num_good


ROWS = (
    Row("bare ASGI", "echo", STANDARD),
    Row("bare ASGI", "echo", STANDARD, 64),
    Row("FastAPI + torch", "plain", STANDARD),
    Row("FastAPI + torch", "plain", STANDARD, 64),
    Row("100 candidates", "standard", STANDARD),
    Row("100 candidates", "standard", STANDARD, 64),
    Row("100 candidates, no log", "no log", STANDARD),
    Row("100 candidates, mlp", "mlp", MLP),
    Row("catalogue of 1k", "standard", CATALOGUE),
    Row("catalogue of 10k", "large", LARGE),
    Row("weights, 100 candidates", "weights", WEIGHTS),
    Row("weights, catalogue of 1k", "weights", WEIGHTS_CATALOGUE),
)
_BARE, _TORCH, _OURS = ROWS[0], ROWS[2], ROWS[4]
_RANKERS = {"standard": STANDARD, "large": LARGE, "weights": WEIGHTS, "mlp": MLP}
Rounds = Mapping[Row, Sequence[Round]]


def report(*, quick: bool) -> str:
    """One section of markdown."""
    return measure(quick=quick).text


def measure(*, quick: bool) -> Section:
    """The section, and the figures of its targets."""
    rows = [_BARE, _TORCH, _OURS] if quick else [*ROWS]
    num_rounds, seconds = (1, 1.0) if quick else (5, 2.0)
    with tempfile.TemporaryDirectory() as name, ExitStack() as started:
        servers, settings, reply = _start(Path(name), started, {row.server for row in rows})
        rounds = _interleaved(rows, servers, num_rounds, seconds)
        rate = _median(each.load.a_second for each in rounds[_OURS]) / 2
        beside = Section("") if quick else _beside_learner(servers["standard"], settings, rate)
    about = _ABOUT.format(
        rounds=num_rounds,
        seconds=seconds,
        body=len(STANDARD.bodies(1)[0]),
        reply=reply,
        asked=sum(each.load.num_requests for some in rounds.values() for each in some),
        refused=sum(each.load.num_bad for some in rounds.values() for each in some),
        gorse=GORSE_SHARE,
        gorse_p99=GORSE_P99_MS,
    )
    share = _ratio(rounds[_OURS], rounds[_BARE])
    p99_ms = 1e3 * _median(each.load.p99 for each in rounds[_OURS])
    figures = beside.figures | {
        "share": share,
        "torch": _ratio(rounds[_OURS], rounds[_TORCH]),
        "gorse": share / GORSE_SHARE,
        "gorse p99": p99_ms / GORSE_P99_MS,
    }
    return Section(section("/recommend", _table(rounds), about, _peers(figures), beside.text), figures)


def _peers(figures: Mapping[str, float]) -> str:
    return (
        f"100 candidates, 16 connections: {figures['torch']:.2f} × FastAPI + torch (in the same rounds); "
        f"{figures['gorse']:.1f} × Gorse's share of bare ASGI and {figures['gorse p99']:.2f} × its p99 (external)."
    )


# ------------------------------------------------------------------ servers


def _start(folder: Path, started: ExitStack, names: set[str]) -> tuple[dict[str, Server], Settings, int]:
    """All servers that are asked for, the settings of the standard ranker, and the bytes of its reply."""
    settings = {name: prepare(folder / name, _RANKERS[name]) for name in _RANKERS if name in names}
    servers = {name: started.enter_context(ranker(folder / name, _RANKERS[name])) for name in settings}
    body = STANDARD.bodies(1)[0]
    reply = len(ask(servers["standard"].port, body))
    others = {
        "echo": module("bench.echo", "PORT", str(reply)),
        "plain": module("bench.plain", "PORT", f"{folder}/standard"),
        "no log": module("bench.acknowledging", "PORT", f"{folder}/standard"),
    }
    for name, command in others.items():
        if name in names:
            (folder / name).mkdir()
            servers[name] = started.enter_context(served(command, folder / name, body))
    return servers, settings["standard"], reply


def _interleaved(rows: Sequence[Row], servers: Mapping[str, Server], num: int, seconds: float) -> Rounds:
    rounds: dict[Row, list[Round]] = defaultdict(list)
    bodies = {row.workload: row.workload.bodies() for row in rows}
    for number in range(num):
        for row in rows:
            if not number:
                _round(row, servers[row.server], bodies[row.workload], 1.0)  # warms up
            rounds[row].append(_round(row, servers[row.server], bodies[row.workload], seconds))
    return rounds


def _round(row: Row, server: Server, bodies: Sequence[bytes], seconds: float) -> Round:
    before = server.cpu_seconds()
    load = wrk(server.url + _PATH, bodies, connections=row.connections, seconds=seconds)
    if load.num_bad > MAX_REFUSED * load.num_requests:
        raise BadAnswersError(f"{row.title}: {load.num_bad} of {load.num_requests} answers were bad")
    return Round(load, server.cpu_seconds() - before)


def _table(rounds: Rounds) -> str:
    header = ("", "connections", "requests/s", "share of bare", "by CPU", "CPU µs a request", "p50 ms", "p99 ms")
    return table(header, [_line(row, rounds) for row in rounds])


def _line(row: Row, rounds: Rounds) -> Sequence[str]:
    mine = rounds[row]
    bare = rounds.get(replace(_BARE, connections=row.connections), rounds[_BARE])
    return (
        row.title,
        str(row.connections),
        f"{_median(each.load.a_second for each in mine):,.0f}",
        f"{_ratio(mine, bare):.3f}",
        f"{_median(b.cpu_us / a.cpu_us for a, b in zip(mine, bare, strict=True)):.3f}",
        f"{_median(each.cpu_us for each in mine):.0f}",
        f"{1e3 * _median(each.load.p50 for each in mine):.2f}",
        f"{1e3 * _median(each.load.p99 for each in mine):.2f}",
    )


def _ratio(mine: Sequence[Round], others: Sequence[Round]) -> float:
    """Of the requests a second: the median of those of each round."""
    return _median(a.load.a_second / b.load.a_second for a, b in zip(mine, others, strict=True))


def _median(values: Iterable[float]) -> float:
    return float(median(values))


# ------------------------------------------------------------------ beside a learner


def _beside_learner(
    server: Server, settings: Settings, rate: float, num_rounds: int = 6, seconds: float = 8.0
) -> Section:
    """Rounds without it and with it, in turn."""
    bodies, used, latencies = STANDARD.bodies(), 0.0, defaultdict[str, list[Paced]](list)
    with learner(settings, STANDARD) as beside:
        for _ in range(num_rounds):
            beside.pause()
            latencies["without"].append(paced(server.url + _PATH, bodies, rate=rate, seconds=seconds))
            beside.resume()
            before = beside.cpu_seconds
            latencies["with"].append(paced(server.url + _PATH, bodies, rate=rate, seconds=seconds))
            used += beside.cpu_seconds - before
        num_updates = beside.num_updates
    p99 = {name: [each.percentile(99) for each in rounds] for name, rounds in latencies.items()}
    ratio = _median(a / b for a, b in zip(p99["with"], p99["without"], strict=True))
    about = _ABOUT_LEARNER.format(
        rate=rate, rounds=num_rounds, seconds=seconds, share=used / (num_rounds * seconds), updates=num_updates
    )
    lines = [_paced_line(name, rounds) for name, rounds in latencies.items()]
    text = table(("learner", "p50 ms", "p99 ms", "worst ms", "answers that were not 200"), lines)
    return Section(f"{text}\n\nRatio of the p99: {ratio:.2f}. {about}", {"beside the learner": ratio})


def _paced_line(name: str, rounds: Sequence[Paced]) -> Sequence[str]:
    times = (_median(each.percentile(q) for each in rounds) for q in (50, 99, 100))
    num_bad = sum(int((each.status != 200).sum()) for each in rounds)
    return (name, *(f"{1e3 * each:.2f}" for each in times), str(num_bad))


if __name__ == "__main__":
    print_report(report, __doc__)
