"""The short form of the kill test: `make chaos` runs it for longer."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.chaos.faults import VICTIMS

ROOT = Path(__file__).parents[2]
NUM_KILLS, NUM_EVENTS = 8, 3_000

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("kafka_at_hand")]


def test_nothing_acknowledged_is_lost_whatever_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "chaos.json"
    command = [sys.executable, "-m", "loadtest.chaos", "--folder", str(tmp_path / "chaos"), "--json", str(file)]
    command += ["--kills", str(NUM_KILLS), "--events", str(NUM_EVENTS), "--pause", "1.5", "--seconds", "180"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(file.read_text())
    assert sum(report["kills"].values()) >= NUM_KILLS
    assert min(report["kills"][victim] for victim in VICTIMS) >= 1
    num_acknowledged = sum(report["acknowledged"].values())
    assert num_acknowledged >= NUM_EVENTS
    assert report["events"] == {
        "stored": num_acknowledged,
        "lost": 0,
        "duplicated": 0,
        "stuck": 0,
        "changed": 0,
        "stored_unacknowledged": report["events"]["stored_unacknowledged"],
    }
    assert report["acknowledged"]["http"] + report["acknowledged"]["spooled"] > 0
    assert report["acknowledged"]["producer"] > 0
    assert report["rewards"]["final"] == report["rewards"]["decisions"] > 0
    assert report["rewards"]["wrong"] == 0
    assert report["lag_seconds"] < 30
