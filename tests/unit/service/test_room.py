"""As many as there is room for, and the next one hears at once."""

import pytest
from prometheus_client import CollectorRegistry, Counter

from service.problems import ProblemError
from service.room import Room


def test_one_more_than_there_is_room_for_is_refused_until_one_has_gone() -> None:
    registry = CollectorRegistry()
    room = Room(2, Counter("refused", "", registry=registry))
    with room:
        with room:
            with pytest.raises(ProblemError) as refused, room:
                pytest.fail("there is no room")
            assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, "1")
        with room:  # the refused one took no place
            pass
    assert registry.get_sample_value("refused_total") == 1


def test_who_fails_leaves_the_room() -> None:
    room = Room(1, Counter("refused", "", registry=CollectorRegistry()))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), room:
            raise ZeroDivisionError
