"""How much of the machine the learner takes: it learns beside a ranker whose answers must not wait for it."""

import os
from contextlib import suppress
from pathlib import Path

from schemas.settings import Settings, bound_library_threads

_GROUP = Path("/proc/self/autogroup")


def leave_room(settings: Settings) -> None:
    """`train_threads`, `train_nice` and `train_session_nice`, before numpy is loaded. A priority that is lower already
    stays.
    """
    bound_library_threads(settings.train_threads)
    os.setpriority(os.PRIO_PROCESS, 0, max(settings.train_nice, os.getpriority(os.PRIO_PROCESS, 0)))
    if (
        settings.train_session_nice and os.getsid(0) == os.getpid()
    ):  # else it is a terminal's, and its other programs' too
        with suppress(OSError):  # no such kernel, or not allowed: then that is how it is
            _GROUP.write_text(str(settings.train_session_nice), encoding="ascii")
