"""The benchmark's drivers on the real ranker: what they say is there to be believed."""

import os
import shutil
import urllib.request
from pathlib import Path

import pytest

from bench.rankers import Workload, ask, prepare, ranker
from bench.wrk import wrk

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("wrk") is None, reason="there is no wrk on this machine"),
]


def test_wrk_and_the_server_agree_on_what_was_done(tmp_path: Path) -> None:
    workload = Workload(num_items=200)
    prepare(tmp_path, workload)
    bodies, cores = workload.bodies(20), os.sched_getaffinity(0)
    with ranker(tmp_path, workload) as server:
        before, counted = server.cpu_seconds(), _decisions(server.port)
        load = wrk(f"{server.url}/recommend", bodies, connections=4, seconds=1)
        assert ask(server.port, bodies[0]).count(b'"item_id"') == 10
        assert load.num_bad == 0
        assert load.num_requests > 100
        assert 0 < load.p50 <= load.p99 < load.seconds
        # Those that wrk had sent when it ended were answered too.
        assert load.num_requests <= _decisions(server.port) - counted <= load.num_requests + 4 + 1
        assert 0 < server.cpu_seconds() - before < 10 * load.seconds
        assert 20e6 < server.pss_bytes() < 500e6
        refused = wrk(f"{server.url}/recommend", [b'{"k": 0}'], connections=1, seconds=1)
        assert refused.num_bad == refused.num_requests > 0
    assert os.sched_getaffinity(0) == cores


def _decisions(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return round(sum(float(line.split()[-1]) for line in lines if line.startswith("steadyrank_decisions_total")))
