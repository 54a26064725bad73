"""`python -m bench.overload`: what becomes of the accepted, and of the refused, when twice the capacity is offered."""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from bench.paced import NO_ANSWER, Paced, paced
from bench.rankers import ROOT, Server, Workload, prepare, ranker, served
from bench.tables import Section, print_report, section, table
from bench.wrk import wrk

WORKLOAD = Workload(num_items=10_000, num_candidates=None)
"""Its answers cost the client, in Python, much less than the ranker: it must be able to offer twice the capacity."""
CONNECTIONS = 64
ONSET_SECONDS = 0.5
"""In which a ranker finds out that this is no burst."""
_ACCEPTED, _REFUSED = 200, 503
_PATH = "/recommend"
_ABOUT = """
A whole catalogue of 10,000 items, the default settings. The capacity is what wrk gets at {connections} connections
({capacity:,.0f} answers a second); then it, and twice it, are offered open loop on up to 500 connections, {rounds}
rounds of {seconds:g} s in turn, server and client on a core each. Latency counts from the intended time to send, so a
client that lags makes it longer; rates are over the time from the first request due to the last answer. Medians of the
rounds. p99 of the accepted is {p99_ratio:.2f} × that at capacity, p50 {p50_ratio:.2f} ×. Latencies leave out what was
due in the first {onset:g} s of a round, until a full room tells the ranker that this is no burst: there p99 of the
accepted was {onset_p99:.0f} ms at twice the capacity.
""".strip()
_TOO_FEW = """
**Twice the capacity was not offered**: {sent:,.0f} requests a second were sent. Either all connections waited for
answers, as where nothing is refused, or the client had too little of its core, as on a busy machine. There is no figure
for the target.
""".strip()
_ENOUGH = 1.8
"""Times the capacity that must really have been sent."""
_ABOUT_WORKERS = """
Two workers on one port get {ratio:.2f} × the answers of one, wrk at {connections} connections, in turn,
{rounds} rounds. Both have {cores} cores, of which wrk takes one: it is no measure of how workers scale.
""".strip()


@dataclass(frozen=True, slots=True)
class Offered:
    """What became of one round; rates a second, latencies in ms, of the onset apart, NaN where there was nothing."""

    sent: float
    accepted: float
    refused: float
    unanswered: int
    p50: float
    p99: float
    refusal_p50: float
    refusal_p99: float
    onset_p99: float


def report(*, quick: bool) -> str:
    """One section of markdown."""
    return measure(quick=quick).text


def measure(*, quick: bool) -> Section:
    """The section, and the figure of its target."""
    num_rounds, seconds = (1, 1.0) if quick else (3, 5.0)
    bodies = WORKLOAD.bodies()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, WORKLOAD)
        with ranker(folder, WORKLOAD) as server:
            capacity = _a_second(server, bodies, seconds)
            rounds = [
                tuple(_offered(server, bodies, times * capacity, seconds) for times in (1, 2))
                for _ in range(num_rounds)
            ]
        ratio = _workers_ratio(folder, bodies, num_rounds, seconds)
    at, twice = (_medians([pair[i] for pair in rounds]) for i in (0, 1))
    about = _ABOUT.format(
        onset=ONSET_SECONDS,
        onset_p99=twice.onset_p99,
        connections=CONNECTIONS,
        capacity=capacity,
        rounds=num_rounds,
        seconds=seconds,
        p99_ratio=twice.p99 / at.p99,
        p50_ratio=twice.p50 / at.p50,
    )
    cores = len(os.sched_getaffinity(0))
    workers = _ABOUT_WORKERS.format(ratio=ratio, connections=CONNECTIONS, rounds=num_rounds, cores=cores)
    rows = [_row("the capacity", at), _row("twice the capacity", twice)]
    is_offered = twice.sent >= _ENOUGH * capacity
    warning = "" if is_offered else _TOO_FEW.format(sent=twice.sent)
    figures = {"overload": twice.p99 / at.p99} if is_offered else {}
    return Section(section("Overload", table(_HEADER, rows), warning, about, workers), figures)


# ------------------------------------------------------------------ one ranker


def _a_second(server: Server, bodies: Sequence[bytes], seconds: float) -> float:
    return wrk(server.url + _PATH, bodies, connections=CONNECTIONS, seconds=seconds).a_second


def _offered(server: Server, bodies: Sequence[bytes], rate: float, seconds: float) -> Offered:
    return summary(paced(server.url + _PATH, bodies, rate=rate, seconds=seconds), seconds)


def summary(answers: Paced, seconds: float) -> Offered:
    """Of requests that were to be sent within `seconds`; rates are of the time that it took in the end."""
    took = max(seconds, float(np.max(answers.due + answers.latency)))
    num, settled = answers.statuses, answers.due_within(ONSET_SECONDS)
    return Offered(
        sent=len(answers.status) / took,
        accepted=num[_ACCEPTED] / took,
        refused=num[_REFUSED] / took,
        unanswered=num[NO_ANSWER],
        p50=1e3 * settled.percentile(50),
        p99=1e3 * settled.percentile(99),
        refusal_p50=1e3 * settled.percentile(50, _REFUSED),
        refusal_p99=1e3 * settled.percentile(99, _REFUSED),
        onset_p99=1e3 * answers.due_within(0.0, ONSET_SECONDS).percentile(99),
    )


def _medians(rounds: Sequence[Offered]) -> Offered:
    return Offered(*(median(getattr(each, name) for each in rounds) for name in Offered.__slots__))


# ------------------------------------------------------------------ several workers


def _workers_ratio(folder: Path, bodies: Sequence[bytes], num_rounds: int, seconds: float) -> float:
    """Answers a second of two workers ÷ of one, neither pinned; the median of the rounds."""
    with _workers(folder, 1, bodies[0]) as one, _workers(folder, 2, bodies[0]) as two:
        return median(_a_second(two, bodies, seconds) / _a_second(one, bodies, seconds) for _ in range(num_rounds))


@contextmanager
def _workers(folder: Path, num: int, probe: bytes) -> Iterator[Server]:
    serve = [sys.executable, str(ROOT / "steadyrank.py"), "serve", "--port", "PORT", "--workers", str(num)]
    command = [*serve, "--data", str(folder / "data"), "--loop", str(folder / "loop.toml")]
    log_folder = folder / f"workers-{num}"
    log_folder.mkdir()
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    with served(["taskset", "-c", cores, *command], log_folder, probe) as server:
        yield server


# ------------------------------------------------------------------ words

_HEADER = (
    "offered",
    "sent/s",
    "accepted/s",
    "p50 ms",
    "p99 ms",
    "refused/s",
    "to refuse, p50 ms",
    "p99 ms",
    "no answer",
)


def _row(title: str, offered: Offered) -> tuple[str, ...]:
    rates = (f"{offered.sent:,.0f}", f"{offered.accepted:,.0f}", f"{offered.p50:.1f}", f"{offered.p99:.1f}")
    refusals = (f"{offered.refused:,.0f}", _ms(offered.refusal_p50), _ms(offered.refusal_p99))
    return (title, *rates, *refusals, f"{offered.unanswered:g}")


def _ms(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.1f}"


if __name__ == "__main__":
    print_report(report, __doc__)
