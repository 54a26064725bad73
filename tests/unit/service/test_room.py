"""As many as there is room for, and the next one hears at once."""

import pytest
from prometheus_client import CollectorRegistry, Counter

from service.problems import ProblemError
from service.room import Room


def test_one_more_than_there_is_room_for_is_refused_until_one_has_gone() -> None:
    registry = CollectorRegistry()
    room = Room(2, Counter("refused", "", registry=registry), 1.0, lambda: 0.0)
    with room:
        with room:
            with pytest.raises(ProblemError) as refused, room:
                pytest.fail("there is no room")
            assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, "1")
        with room:  # the refused one took no place
            pass
    assert registry.get_sample_value("refused_total") == 1


def test_who_fails_leaves_the_room() -> None:
    room = Room(1, Counter("refused", "", registry=CollectorRegistry()), 1.0, lambda: 0.0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), room:
            raise ZeroDivisionError


def test_fewer_have_room_where_an_answer_takes_long() -> None:
    room = Room(100, Counter("refused", "", registry=CollectorRegistry()), 0.05, lambda: 0.02)
    with room, room, room, pytest.raises(ProblemError), room:  # the third waits 40 ms, a fourth would wait 60
        pytest.fail("there is no room")
    with Room(100, Counter("refused", "", registry=CollectorRegistry()), 0.05, lambda: 9.0):  # one is always taken
        pass
