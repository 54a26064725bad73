"""The spool under kill -9: what was acknowledged is there, in order, and whoever comes next has it."""

import random
import subprocess
import sys
import time
from pathlib import Path

from storage.spool import Spool

ROOT = Path(__file__).parents[3]
NUM_KILLS = 8
MIN_ACKNOWLEDGED = 11
"""By each before it is killed, however slow the disk."""
WORKER = """
import os, sys, time
from collections import deque
from pathlib import Path
from storage.spool import Spool
spool, first = Spool(Path(sys.argv[1]), 1 << 30, time.time), int(sys.argv[2])
waiting = deque()
for number in range(first, first + 10**9):
    waiting.append((number, spool.append("feedback", b"[%d,%s]" % (number, b"0" * (number % 5_000)))))
    if len(waiting) > 50:
        number, future = waiting.popleft()
        future.result()
        os.write(1, b"%d\\n" % number)
"""


def killed_worker(folder: Path, first: int, seconds: float) -> list[int]:
    """Appends numbers from `first` on until it is killed; returns those that were acknowledged."""
    command = [sys.executable, "-c", WORKER, str(folder), str(first)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        begun = b"".join(child.stdout.readline() for _ in range(MIN_ACKNOWLEDGED))
        time.sleep(seconds)
        child.kill()
        return [int(line) for line in (begun + child.stdout.read()).splitlines()]


def test_what_was_acknowledged_outlives_every_kill(tmp_path: Path) -> None:
    rng = random.Random(0)
    acknowledged: list[int] = []
    for _ in range(NUM_KILLS):
        acknowledged += killed_worker(tmp_path, acknowledged[-1] + 1_000 if acknowledged else 0, rng.uniform(0.05, 0.3))
    spool = Spool(tmp_path, 1 << 30, time.time)
    spool.adopt()
    found: list[int] = []
    while frames := spool.read(1 << 20):
        found += [int(frame.value[1:].partition(b",")[0]) for frame in frames]
        spool.relayed(frames[-1])
    spool.close()
    assert found == sorted(set(found))
    assert set(acknowledged) <= set(found)
    assert len(acknowledged) > 10 * NUM_KILLS
    assert list(tmp_path.iterdir()) == []
