"""A child's tie to `steadyrank up`: when its parent is gone, however it went, the child ends too."""

import os
import signal
import time
from threading import Thread, main_thread

GRACE_SECONDS = 3.0
"""From SIGTERM to SIGKILL; with both, a child of an `up` that was killed is gone within 5 s."""


def end_when_closed(lifeline: int = 0, grace_seconds: float = GRACE_SECONDS) -> None:
    """Watch the file descriptor `lifeline` (stdin) from a thread; when its other end closes, this process ends."""
    Thread(target=_watch, args=(lifeline, grace_seconds), name="lifeline", daemon=True).start()


def _watch(lifeline: int, grace_seconds: float) -> None:
    while os.read(lifeline, 1024):
        pass
    # To the main thread, which alone runs Python's signal handlers and may be waiting.
    signal.pthread_kill(main_thread().ident or 0, signal.SIGTERM)
    time.sleep(grace_seconds)
    os.kill(os.getpid(), signal.SIGKILL)
