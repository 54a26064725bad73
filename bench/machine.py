"""What the machine itself holds up, whoever runs on it: a real-time process a core, due every half millisecond, that
notes when it came late. Nothing in user space can hold it up; a virtual machine that is not run does.
"""

import multiprocessing
import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

Spans: TypeAlias = NDArray[np.float64]
"""[S, 2] from and to, in seconds, apart and in order."""

_EVERY_SECONDS = 0.0005
_LATE_SECONDS = 0.0003  # waking up takes a third of it
_PRIORITY = 2  # above that of a client; all of it takes 4 % of a core


def run_first(core: int, priority: int = 1) -> bool:
    """Keeps this process to one core, before all that is not real-time there; False: the user may not do that."""
    os.sched_setaffinity(0, {core})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        return False
    return True


class Stalls:
    """While it is entered, the times at which one of this process's cores was not run."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._receiver, self._sender = spawn.Pipe(duplex=False)
        self._stopped = spawn.Event()
        cores = sorted(os.sched_getaffinity(0))
        self._watches = [spawn.Process(target=_watch, args=(core, self._stopped, self._sender)) for core in cores]
        self.spans: Spans = joined([])
        """By `time.perf_counter`; known at the end. None where they could be what another process holds up."""

    def __enter__(self) -> Self:
        for watch in self._watches:
            watch.start()
        self._sender.close()  # here, so that a watch that died is an error and not a wait
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.spans = joined([span for _ in self._watches for span in self._receiver.recv()])
        for watch in self._watches:
            watch.join()


def _watch(core: int, stopped: Event, sender: Connection) -> None:
    spans: list[tuple[float, float]] = []
    if run_first(core, _PRIORITY):
        due = time.perf_counter() + _EVERY_SECONDS
        while not stopped.is_set():
            time.sleep(max(0.0, due - time.perf_counter()))
            now = time.perf_counter()
            if now > due + _LATE_SECONDS:
                spans.append((due, now))
            due = now + _EVERY_SECONDS
    sender.send(spans)


def joined(spans: Sequence[tuple[float, float]]) -> Spans:
    """The union."""
    found: list[list[float]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([start, end])
    return np.array(found, np.float64).reshape(-1, 2)


def seconds_within(spans: Spans, start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much [R] of each time from `start` [R] to `end` [R] lies in the spans."""
    starts, ends = np.append(spans[:, 0], np.inf), np.append(-np.inf, spans[:, 1])
    lengths = np.append(0.0, np.cumsum(spans[:, 1] - spans[:, 0]))

    def before(times: NDArray[np.float64]) -> NDArray[np.float64]:
        begun = starts.searchsorted(times)
        return lengths[begun] - np.maximum(ends[begun] - times, 0.0)

    found: NDArray[np.float64] = before(end) - before(start)
    return found
