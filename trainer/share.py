"""How much of the machine the learner takes: it learns beside a ranker whose answers must not wait for it."""

import os

from schemas.settings import Settings, bound_library_threads


def leave_room(settings: Settings) -> None:
    """`train_threads` and `train_nice`, before numpy is loaded. A priority that is lower already stays."""
    bound_library_threads(settings.train_threads)
    os.setpriority(os.PRIO_PROCESS, 0, max(settings.train_nice, os.getpriority(os.PRIO_PROCESS, 0)))
