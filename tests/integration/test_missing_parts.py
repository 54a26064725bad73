"""What a test run says, and returns, where no Kafka can be had."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

THE_TESTS = """
def test_without() -> None:
    pass

def test_with(kafka_servers: str) -> None:
    pass

def test_with_again(kafka_servers: str) -> None:
    pass
"""


def run(folder: Path, **variables: str) -> tuple[int, list[str]]:
    """The exit status and the lines of a test run on a machine without Java, Maven or a broker."""
    (folder / "test_it.py").write_text(THE_TESTS)
    unset = {"JAVA_HOME", "STEADYRANK_TEST_KAFKA", "ALLOW_NO_KAFKA"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", "-p", "tests.parts", "-c", os.devnull, str(folder)],
        cwd=ROOT,
        env=environment | {"PATH": str(folder), "XDG_CACHE_HOME": str(folder)} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def test_without_a_broker_the_run_fails_and_says_so_last(tmp_path: Path) -> None:
    status, lines = run(tmp_path)
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "NOT TESTED: Apache Kafka" in lines[-3]
    assert "No Java was found" in lines[-2]
    assert "1 passed, 2 errors" in lines[-1]


def test_where_that_is_allowed_the_run_passes_and_still_says_so_last(tmp_path: Path) -> None:
    status, lines = run(tmp_path, ALLOW_NO_KAFKA="1")
    assert status == pytest.ExitCode.OK
    assert "NOT TESTED: Apache Kafka" in lines[-3]
    assert "No Java was found" in lines[-2]
    assert "1 passed, 2 skipped" in lines[-1]


def test_with_a_broker_that_is_named_nothing_is_missing(tmp_path: Path) -> None:
    status, lines = run(tmp_path, STEADYRANK_TEST_KAFKA="127.0.0.1:1")
    assert status == pytest.ExitCode.OK
    assert not any("NOT TESTED" in line for line in lines)
