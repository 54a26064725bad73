"""A child of an `up` that is gone ends: by SIGTERM where it listens, by SIGKILL where it does not."""

import signal
import subprocess
import sys

CHILD = """
import signal, sys, time
from service.up.lifeline import end_when_closed
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
end_when_closed(grace_seconds=float(sys.argv[2]))
print("ready", flush=True)
time.sleep(60)
"""


def end_of(kind: str, grace_seconds: float) -> int:
    command = [sys.executable, "-c", CHILD, kind, str(grace_seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        assert child.poll() is None
        child.stdin.close()
        return child.wait(10)


def test_it_ends_in_its_own_way_when_its_stdin_closes() -> None:
    assert end_of("listening", 30) == 7


def test_it_is_killed_when_it_does_not_listen() -> None:
    assert end_of("deaf", 0.1) == -signal.SIGKILL
