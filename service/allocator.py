"""What glibc keeps of the memory that was freed: some megabytes of a ranker's, by its defaults. Other C libraries have
no such calls; there nothing is done.
"""

import ctypes

_M_ARENA_MAX = -8  # of malloc.h


def share_one_arena() -> None:
    """Threads get none of their own, of which each keeps what it needed once. Nearly all that they allocate is
    Python's, under its lock, so that they hardly wait for each other. To be called before there are any.
    """
    _call("mallopt", _M_ARENA_MAX, 1)


def give_memory_back() -> None:
    """To the system, what is free now: after a start some 5 MB. It takes half a millisecond."""
    _call("malloc_trim", 0)


def _call(name: str, *numbers: int) -> None:
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*numbers)
