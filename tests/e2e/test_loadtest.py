"""`make loadtest` for some seconds: it passes, leaves its report, and fails where a threshold cannot be kept."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from loadtest.load.__main__ import Load, conclude
from loadtest.load.thresholds import Thresholds

ROOT = Path(__file__).parents[2]
IMPOSSIBLE = '[routes."/recommend"]\np50_ms = 0.000001\n[feedback]\nlost = 0\nunexplained = 0\n'
POSSIBLE = "[requests]\nfailed_share = 0.0\nper_second = 1\n[feedback]\nlost = 0\nunexplained = 0\n"


def run(folder: Path, thresholds: str, seconds: int) -> "subprocess.CompletedProcess[str]":
    file = folder / "thresholds.toml"
    file.write_text(thresholds)
    command = [sys.executable, "-m", "loadtest.load", "--folder", str(folder / "load"), "--thresholds", str(file)]
    command += ["--seconds", str(seconds), "--shoppers", "10", "--think", "0.1"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)


@pytest.mark.slow
def test_a_run_is_judged_and_reported(tmp_path: Path) -> None:
    done = run(tmp_path, IMPOSSIBLE, 5)
    assert done.returncode == 1, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if "BROKEN" in line] == ["routes./recommend.p50_ms"]
    figures = json.loads((tmp_path / "load" / "figures.json").read_text())
    assert figures["feedback"]["acknowledged"] == figures["feedback"]["stored"] > 0
    report = tmp_path / "load" / "report.html"
    assert f"report: {report}" in done.stdout
    assert "routes./recommend.p50_ms" in report.read_text()
    load = Load(tmp_path / "load", "shop", 5.0, 10, 0.1)
    assert conclude(load, Thresholds.model_validate(tomllib.loads(POSSIBLE)), figures) == 0


def test_a_file_of_thresholds_that_is_wrong_starts_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "[requests]\nfailures = 0\n", 60)
    assert done.returncode == 2
    assert "requests.failures" in done.stderr
    assert not (tmp_path / "load").exists()
