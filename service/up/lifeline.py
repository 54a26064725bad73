"""How a process learns that it is to end: by a signal, or because the `steadyrank up` that started it is gone."""

import os
import signal
import time
from threading import Event, Thread, main_thread

GRACE_SECONDS = 3.0
"""From SIGTERM to SIGKILL; with both, a child of an `up` that was killed is gone within 5 s."""


def stopped_by_signals() -> Event:
    """An event that SIGINT and SIGTERM set from now on; for the main thread."""
    stop, (reader, writer) = Event(), os.pipe()

    def relay() -> None:
        os.read(reader, 1)
        stop.set()

    # A thread sets it: the main one, which runs the handlers, may hold the event's lock as it begins to wait.
    Thread(target=relay, name="signals", daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os.write(writer, b"."))
    return stop


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
