"""`python -m bench.feedback`: /feedback beside the same ranker that keeps nothing, one event and 100 a request."""

import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from bench.rankers import Server, Workload, module, prepare, ranker, served
from bench.tables import Section, print_report, section, table
from bench.wrk import Load, wrk

BATCH = 100
_NUM_BODIES = 200
_WORKLOAD = Workload()
_ABOUT = """
{rounds} interleaved rounds of {seconds:g} s, medians; server on one core, wrk on another with {connections}
connections. Validate only is the same ranker whose packer acknowledges at once and writes nothing. Events are accepted
when they are committed to the SQL event log (SQLite, synchronous=FULL, on this machine's disk). After the last round
the log held {stored:,} events of {accepted:,} that were acknowledged. An event has an id, a decision's id, an
item's and a kind, {bytes} bytes.
""".strip()
CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Round:
    load: Load
    cpu_seconds: float
    batch: int

    @property
    def events_a_second(self) -> float:
        return self.load.a_second * self.batch

    @property
    def cpu_us(self) -> float:
        """Of the server, an event."""
        return 1e6 * self.cpu_seconds / (self.load.num_requests * self.batch)


class LostFeedbackError(Exception):
    """Events were acknowledged that are not in the log."""


def report(*, quick: bool) -> str:
    """One section of markdown."""
    return measure(quick=quick).text


def measure(*, quick: bool) -> Section:
    """The section, and the figures of its targets."""
    num_rounds, seconds = (1, 1.0) if quick else (7, 3.0)
    with tempfile.TemporaryDirectory() as name, ExitStack() as started:
        folder = Path(name)
        servers = _start(folder, started)
        rounds = _interleaved(servers, num_rounds, seconds)
        accepted = _accepted(servers["ranker"])
        stored = _stored(folder / "ranker" / "data" / "events.db")
    if stored < accepted:
        raise LostFeedbackError(f"{accepted:,} events were acknowledged, {stored:,} are in the log")
    about = _ABOUT.format(
        rounds=num_rounds,
        seconds=seconds,
        connections=CONNECTIONS,
        stored=stored,
        accepted=accepted,
        bytes=len(bodies(1)[0]),
    )
    header = (
        "",
        "events a request",
        "requests/s",
        "events/s",
        "÷ validate only",
        "by CPU",
        "CPU µs an event",
        "p99 ms",
    )
    text = section("/feedback", table(header, [_line(key, rounds) for key in rounds]), about)
    figures = {
        "feedback": _ratio(rounds["ranker", 1], rounds["validate only", 1]),
        "events": _median(each.events_a_second for each in rounds["ranker", BATCH]),
    }
    return Section(text, figures)


def bodies(batch: int) -> list[bytes]:
    """Of requests, each with so many events; ids repeat from one turn to the next, which costs the ranker the same."""
    return [_body([_event(number * batch + i) for i in range(batch)]) for number in range(_NUM_BODIES)]


def _body(events: Sequence[dict[str, str]]) -> bytes:
    return msgspec.json.encode(events[0] if len(events) == 1 else events)


def _event(number: int) -> dict[str, str]:
    return {
        "decision_id": f"0123456789abcdef01234567-{number // 4:08x}",
        "event_id": f"event-{number:012x}",
        "item_id": f"i{number % 1_000}",
        "kind": "click",
    }


_Key = tuple[str, int]
_Rounds = Mapping[_Key, Sequence[Round]]


def _start(folder: Path, started: ExitStack) -> dict[str, Server]:
    for name in ("ranker", "validate only"):
        prepare(folder / name, _WORKLOAD)
    command = module("bench.acknowledging", "PORT", str(folder / "validate only"))
    return {
        "validate only": started.enter_context(served(command, folder / "validate only", _WORKLOAD.bodies(1)[0])),
        "ranker": started.enter_context(ranker(folder / "ranker", _WORKLOAD)),
    }


def _interleaved(servers: Mapping[str, Server], num: int, seconds: float) -> _Rounds:
    rounds: dict[_Key, list[Round]] = defaultdict(list)
    for number in range(num + 1):
        for batch in (1, BATCH):
            for name, server in servers.items():
                made = _round(server, batch, seconds if number else 1.0)
                if number:  # the first warms up
                    rounds[name, batch].append(made)
    return rounds


def _round(server: Server, batch: int, seconds: float) -> Round:
    before = server.cpu_seconds()
    load = wrk(f"{server.url}/feedback", bodies(batch), connections=CONNECTIONS, seconds=seconds)
    if load.num_bad:
        raise LostFeedbackError(f"{load.num_bad} of {load.num_requests} requests were refused")
    return Round(load, server.cpu_seconds() - before, batch)


def _accepted(server: Server) -> int:
    """Events that were acknowledged as being in the log, by the ranker's own count."""
    metrics = server.metrics()
    return round(metrics["steadyrank_feedback_accepted_total"] - metrics["steadyrank_feedback_spooled_total"])


def _stored(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        values = connection.execute("SELECT value FROM log_records WHERE topic = 'feedback'")
        return sum(len(msgspec.json.decode(value, type=list[Any])) for (value,) in values)


def _line(key: _Key, rounds: _Rounds) -> Sequence[str]:
    (name, batch), mine = key, rounds[key]
    bare = rounds["validate only", batch]
    return (
        name,
        str(batch),
        f"{_median(each.load.a_second for each in mine):,.0f}",
        f"{_median(each.events_a_second for each in mine):,.0f}",
        f"{_ratio(mine, bare):.2f}",
        f"{_median(b.cpu_us / a.cpu_us for a, b in zip(mine, bare, strict=True)):.2f}",
        f"{_median(each.cpu_us for each in mine):.1f}",
        f"{1e3 * _median(each.load.p99 for each in mine):.2f}",
    )


def _ratio(mine: Sequence[Round], others: Sequence[Round]) -> float:
    """Of the events a second: the median of those of each round."""
    return _median(a.events_a_second / b.events_a_second for a, b in zip(mine, others, strict=True))


def _median(values: Iterable[float]) -> float:
    return float(median(values))


if __name__ == "__main__":
    print_report(report, __doc__)
