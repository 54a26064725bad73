"""What of freed memory goes back to the system."""

import platform
import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it brings no types
import pytest

from service.allocator import give_memory_back

ROOT = Path(__file__).parents[3]
GLIBC_ONLY = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has such calls")
ARENAS = """
import re, sys, threading
from service.allocator import share_one_arena
if sys.argv[1] == "shared":
    share_one_arena()
kept, end = [], threading.Event()
threads = [threading.Thread(target=lambda: (kept.append(bytes(1_000)), end.wait())) for _ in range(4)]
for each in threads:
    each.start()
while len(kept) < 4:
    pass
spans = [line.split()[0].split("-") for line in open("/proc/self/maps")]
print(sum(int(start, 16) % (64 << 20) == 0 for start, _ in spans))  # where glibc puts the arenas of threads
end.set()
"""


@GLIBC_ONLY
def test_threads_share_the_arena_of_the_process() -> None:
    assert num_arenas("shared") < num_arenas("each its own")


def num_arenas(how: str) -> int:
    command = [sys.executable, "-c", ARENAS, how]
    return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


@GLIBC_ONLY
def test_what_was_freed_below_what_is_kept_is_given_back() -> None:
    process = psutil.Process()
    blocks = [bytes(1_000) for _ in range(60_000)]
    last = blocks.pop()  # freed memory above the last block goes back by itself
    blocks.clear()
    before = process.memory_info().rss
    give_memory_back()
    assert before - process.memory_info().rss > 20_000_000
    assert len(last) == 1_000


def test_asking_again_does_no_harm() -> None:
    give_memory_back()
    give_memory_back()
