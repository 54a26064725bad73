"""How many updates are owed."""

import pytest

from trainer.pace import Pace


def num_paid(pace: Pace, seconds: float = 0.005) -> int:
    num = 0
    while pace.is_behind:
        pace.pay(seconds)
        num += 1
    return num


def test_an_update_is_owed_every_so_many_decisions() -> None:
    pace = Pace(decisions_per_update=32)
    assert pace.owe(31) == 0
    assert not pace.is_behind
    assert pace.owe(65) == 0
    assert num_paid(pace) == 3


def test_fractions_add_up() -> None:
    pace = Pace(decisions_per_update=0.5)
    pace.owe(3)
    assert num_paid(pace) == 6


def test_what_takes_longer_than_two_seconds_is_given_up() -> None:
    pace = Pace(decisions_per_update=1)
    assert pace.owe(1_000) == 600  # at 5 ms an update, 400 take 2 s
    assert num_paid(pace) == 400


def test_slow_updates_are_given_up_sooner_and_one_is_always_left() -> None:
    pace = Pace(decisions_per_update=1)
    pace.owe(400)
    num_paid(pace, seconds=10.0)
    assert pace.owe(10) == 9
    assert num_paid(pace) == 1


@pytest.mark.parametrize("num_decisions", [0, 1])
def test_nothing_is_given_up_while_it_keeps_up(num_decisions: int) -> None:
    assert Pace(decisions_per_update=1).owe(num_decisions) == 0
