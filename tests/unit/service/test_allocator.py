"""What of freed memory goes back to the system."""

import platform

import psutil  # type: ignore[import-untyped]  # it brings no types
import pytest

from service.allocator import give_memory_back


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps it, and has a call to ask for it")
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
