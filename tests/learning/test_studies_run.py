"""Every study runs at a small scale, so that none is found broken when it is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

from studies.catalogue import MODULES, find_study

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_it_runs_and_tells_of_every_cell(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "steadyrank.py"), "study", name, "--quick"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    study = find_study(name)
    assert f"0 of {2 * len(study.cells)} runs are kept" in printed
    assert printed.count("| ") > len(study.cells)
    assert list(tmp_path.iterdir()) == []
