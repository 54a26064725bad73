"""What the learner's process takes of the machine. In processes of their own: priorities only ever fall."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_PROGRAM = """
import os, sys
from schemas.settings import Settings
from trainer.share import leave_room
os.nice(int(sys.argv[1]))
leave_room(Settings())
assert "numpy" not in sys.modules, "it would have its threads by now"
import numpy
big = numpy.ones((1_000, 1_000), numpy.float32)
big @ big
print(os.getpriority(os.PRIO_PROCESS, 0), len(os.listdir("/proc/self/task")), os.environ["OMP_NUM_THREADS"])
"""


def _after_leaving_room(niceness: int, **variables: str) -> list[int]:
    """Niceness, threads, and the variable OMP_NUM_THREADS of a process that did so."""
    without = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", _PROGRAM, str(niceness - _own_niceness())]
    environment = {**without, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
    return [int(word) for word in done.stdout.split()]


def test_it_has_one_thread_and_lets_others_come_first() -> None:
    before = _own_niceness()
    assert _after_leaving_room(before) == [max(10, before), 1, 1]


def test_what_the_environment_says_and_a_lower_priority_stay() -> None:
    before = max(15, _own_niceness())
    assert _after_leaving_room(before, OMP_NUM_THREADS="3", OPENBLAS_NUM_THREADS="1") == [before, 1, 3]


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel has no autogroups")
@pytest.mark.parametrize("is_leader", [True, False])
def test_it_lowers_a_session_that_is_its_own(is_leader: bool) -> None:
    tell = "print(open('/proc/self/autogroup').read())"
    imports = "from schemas.settings import Settings; from trainer.share import leave_room"
    program = f"{imports}; leave_room(Settings(train_session_nice=12)); {tell}"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {program!r}], check=True)"
    command = [
        sys.executable,
        "-c",
        program if is_leader else outer,
    ]  # of the outer one's session, a child is no leader
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, start_new_session=True)
    assert (int(done.stdout.split()[-1]) == 12) == is_leader


def _own_niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)
