"""Every study runs at a small scale, so that none is found broken when it is needed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from studies.catalogue import MODULES, find_study

ROOT = Path(__file__).parents[2]
TAOBAO = Path(os.environ.get("STEADYRANK_TEST_VIRTUALTB", ROOT.parent / "shared/data/virtualtb"))
NEEDS_WEIGHTS = pytest.mark.skipif(
    not TAOBAO.is_dir(), reason="needs the simulator's weights: name their folder in STEADYRANK_TEST_VIRTUALTB"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=NEEDS_WEIGHTS if name == "virtual-taobao" else ()) for name in MODULES]
)
def test_it_runs_and_tells_of_every_cell(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "steadyrank.py"), "study", name, "--quick"]
    environment = os.environ | {"STEADYRANK_VIRTUALTB": str(TAOBAO)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    study = find_study(name)
    assert f"0 of {len(study.cells)} runs are kept, {len(study.cells)} to do" in done.stdout
    assert done.stdout.count("| ") > len(study.cells)
    assert list(tmp_path.iterdir()) == []


def test_one_that_lacks_its_world_says_what_it_needs(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "steadyrank.py"), "study", "virtual-taobao", "--quick", "--workers", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "STEADYRANK_VIRTUALTB"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "virtualtb:FOLDER" in done.stderr
    assert "Traceback" not in done.stderr
