"""`python -m bench.footprint`: the ranker's memory, and how soon after its start it answers."""

import tempfile
import urllib.request
from collections import defaultdict
from pathlib import Path
from statistics import median

from bench.rankers import START_SECONDS, Server, Workload, module, prepare, ranker, served
from bench.tables import Section, print_report, section, table
from bench.wrk import wrk

_WORKLOAD = Workload()
_ABOUT = """
Each of {starts} starts, in turn: from the start of the process to its first answer to /recommend, and PSS after
{requests:,} requests or more (1,000 items, decision log on), then once more after a request for the OpenAPI document:
the ranker loads FastAPI when it is first asked for more than recommendations and feedback. The disk's cache is warm.
Medians.
""".strip()
_ASKED = 1_000


def report(*, quick: bool) -> str:
    """One section of markdown."""
    return measure(quick=quick).text


def measure(*, quick: bool) -> Section:
    """The section, and the figures of its targets."""
    num_starts = 1 if quick else 5
    measured: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, _WORKLOAD)
        body = _WORKLOAD.bodies(1)[0]
        for _ in range(num_starts):
            with ranker(folder, _WORKLOAD) as server:
                measured["steadyrank serve"].append(_measured(server))
            if not quick:
                with served(module("bench.plain", "PORT", str(folder)), folder, body) as server:
                    measured["FastAPI + torch"].append(_measured(server))
    rows = [
        (title, *(f"{median(column):.2f}" for column in zip(*each, strict=True))) for title, each in measured.items()
    ]
    about = _ABOUT.format(starts=num_starts, requests=_ASKED)
    memory, _, start, _ = (float(median(column)) for column in zip(*measured["steadyrank serve"], strict=True))
    header = ("", "PSS MB", "with FastAPI loaded", "start to first answer s", "CPU s by then")
    text = section("Footprint", table(header, rows), about)
    return Section(text, {"memory": memory, "cold start": start})


def _measured(server: Server) -> tuple[float, ...]:
    """PSS in MB, the same with FastAPI loaded, seconds to the first answer, and CPU seconds by now: what a start takes
    where nothing else runs.
    """
    asked, cpu_seconds = 0, server.cpu_seconds()
    while asked < _ASKED:
        asked += wrk(f"{server.url}/recommend", _WORKLOAD.bodies(), connections=4, seconds=1.0).num_requests
    bare = server.pss_bytes()
    with urllib.request.urlopen(f"{server.url}/openapi.json", timeout=START_SECONDS):  # noqa: S310 (our own server's)
        pass
    return bare / 1e6, server.pss_bytes() / 1e6, server.ready_seconds, cpu_seconds


if __name__ == "__main__":
    print_report(report, __doc__)
