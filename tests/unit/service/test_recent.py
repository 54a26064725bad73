import pytest

from service.problems import ProblemError
from service.recent import RecentDecisions


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_the_same_request_gets_the_same_answer() -> None:
    recent = RecentDecisions[bytes](10, 60, Clock())
    assert recent.repeat("d", b"body") is None
    recent.remember("d", b"body", b"answer")
    assert recent.repeat("d", b"body") == b"answer"
    assert recent.answer("d") == b"answer"


def test_another_request_under_the_same_id_is_a_conflict() -> None:
    recent = RecentDecisions[bytes](10, 60, Clock())
    recent.remember("d", b"body", b"answer")
    with pytest.raises(ProblemError) as caught:
        recent.repeat("d", b"other")
    assert caught.value.status == 409


def test_the_oldest_give_way() -> None:
    recent = RecentDecisions[bytes](2, 60, Clock())
    for name in ("a", "b", "c"):
        recent.remember(name, b"", name.encode())
    assert [recent.answer(name) for name in ("a", "b", "c")] == [None, b"b", b"c"]


def test_what_is_too_old_is_forgotten_and_freed() -> None:
    clock = Clock()
    recent = RecentDecisions[bytes](10, 60, clock)
    recent.remember("old", b"", b"old")
    clock.now += 59
    assert recent.answer("old") == b"old"
    clock.now += 1
    assert recent.answer("old") is None
    recent.remember("new", b"", b"new")
    assert len(recent) == 1


def test_what_is_forgotten_is_new_again() -> None:
    recent = RecentDecisions[bytes](10, 60, Clock())
    recent.remember("d", b"body", b"answer")
    recent.forget("d")
    recent.forget("d")
    assert recent.repeat("d", b"other") is None
