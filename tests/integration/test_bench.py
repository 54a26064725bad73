"""The benchmark on real processes: what it says is there to be believed."""

import os
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench import serving
from bench.rankers import Server, ask
from bench.serving import Row
from bench.wrk import wrk
from tests.debian import program

pytestmark = pytest.mark.slow

BARE = Row("bare ASGI", "echo", serving.STANDARD)
OURS = Row("100 candidates", "standard", serving.STANDARD)


def test_the_ranker_beside_the_bare_server(tmp_path: Path) -> None:
    program("wrk", ("wrk",), "ALLOW_NO_WRK")
    cores = os.sched_getaffinity(0)
    with ExitStack() as started:
        servers, _, reply = serving._start(tmp_path, started, {"echo", "standard"})
        ours, body = servers["standard"], serving.STANDARD.bodies(1)[0]
        assert len(ask(servers["echo"].port, body)) == reply
        assert ask(ours.port, body).count(b'"item_id"') == 10

        rounds = serving._interleaved([BARE, OURS], servers, num=1, seconds=1)
        assert [len(each) for each in rounds.values()] == [1, 1]
        assert 0 < serving._ratio(rounds[OURS], rounds[BARE]) < 1, "a ranker does more than the bare server"
        assert rounds[BARE][0].cpu_us < rounds[OURS][0].cpu_us
        bare, _ = serving._table(rounds).splitlines()[2:]
        assert bare.startswith("| bare ASGI | 16 | ")
        assert " | 1.000 | 1.000 | " in bare

        _agrees_with_wrk(ours)
        refused = wrk(f"{ours.url}/recommend", [b'{"k": 0}'], connections=1, seconds=1)
        assert refused.num_bad == refused.num_requests > 0
    assert os.sched_getaffinity(0) == cores


def _agrees_with_wrk(server: Server) -> None:
    """On how many requests there were, and that none lasted longer than the round."""
    before = _decisions(server)
    load = wrk(f"{server.url}/recommend", serving.STANDARD.bodies(20), connections=4, seconds=1)
    assert load.num_bad == 0
    assert 0 < load.p50 <= load.p99 < load.seconds
    assert 100 < load.num_requests <= _decisions(server) - before <= load.num_requests + 4  # sent, and not awaited


def _decisions(server: Server) -> int:
    """How many it has made."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return round(sum(float(line.split()[-1]) for line in lines if line.startswith("steadyrank_decisions_total")))
