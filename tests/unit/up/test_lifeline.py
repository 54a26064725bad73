"""A process ends when a signal says so, and a child when its `up` is gone: by SIGKILL where it does not listen."""

import signal
import subprocess
import sys

import pytest

CHILD = """
import signal, sys
from service.up.lifeline import end_when_closed, stopped_by_signals
stop = stopped_by_signals()
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
end_when_closed(grace_seconds=float(sys.argv[2]))
print("ready", flush=True)
sys.exit(7 if stop.wait(60) else 0)
"""


def end_of(kind: str, grace_seconds: float, number: signal.Signals | None = None) -> int:
    """How a child ends by a signal, or else when its stdin closes."""
    command = [sys.executable, "-c", CHILD, kind, str(grace_seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        if number is None:
            child.stdin.close()
        else:
            child.send_signal(number)
        return child.wait(60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_in_its_own_way_when_a_signal_says_so(number: signal.Signals) -> None:
    assert end_of("listening", 30, number) == 7


def test_it_ends_in_its_own_way_when_its_stdin_closes() -> None:
    assert end_of("listening", 30) == 7


def test_it_is_killed_when_it_does_not_listen() -> None:
    assert end_of("deaf", 0.1) == -signal.SIGKILL
