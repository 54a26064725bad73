"""The benchmark runs, on real processes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_serving_prints_a_row_for_each_server() -> None:
    if shutil.which("wrk") is None:
        pytest.skip("there is no wrk on this machine: make bench installs it")
    command = [sys.executable, "-m", "bench.serving", "--quick"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    rows = {cells[1].strip(): cells for line in ran.stdout.splitlines() if len(cells := line.split("|")) > 4}
    for name in ("bare ASGI", "FastAPI + torch", "100 candidates"):
        assert float(rows[name][3].replace(",", "")) > 0, name
    assert float(rows["bare ASGI"][4]) == 1.0
    assert float(rows["100 candidates"][4]) < 1.0, "a ranker does more than the bare server"
