"""How much of the machine the learner takes: it learns beside a ranker whose answers must not wait for it."""

import os
from contextlib import suppress
from pathlib import Path

from schemas.settings import Settings, bound_library_threads

_GROUP = Path("/proc/self/autogroup")


def leave_room(settings: Settings) -> None:
    """`train_threads` and `train_nice`, before numpy is loaded. A priority that is lower already stays."""
    bound_library_threads(settings.train_threads)
    niceness = max(settings.train_nice, os.getpriority(os.PRIO_PROCESS, 0))
    os.setpriority(os.PRIO_PROCESS, 0, niceness)
    if os.getsid(0) == os.getpid():  # as under `up`; else the session is a terminal's, and its other programs' too
        _lower_session(niceness)


def _lower_session(niceness: int) -> None:
    """Where the kernel shares cores out among sessions first, niceness counts within one only (man 7 sched, autogroup):
    a learner in a session of its own would take as much of the ranker's core as the ranker.
    """
    with suppress(OSError):  # no such kernel, or not allowed: then that is how it is
        _GROUP.write_text(str(niceness), encoding="ascii")
