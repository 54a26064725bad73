"""As many as there is room for, and the next one hears at once; less room while more come than can be answered."""

import pytest
from prometheus_client import CollectorRegistry, Counter

from service.room import Room

SECONDS_EACH = 0.001


class Shop:
    """A ranker of a thousand answers a second: who arrived in a turn of the event loop enters, is answered, leaves."""

    def __init__(self, max_requests: int = 128, max_seconds: float = 9.0, seconds_each: float = SECONDS_EACH) -> None:
        self.registry = CollectorRegistry()
        self.now = 0.0
        self.num_waiting = 0
        self.room = Room(
            max_requests,
            Counter("refused", "", registry=self.registry),
            max_seconds,
            lambda: self.num_waiting * seconds_each,
            lambda: self.now,
        )

    @property
    def num_refused(self) -> int:
        return int(self.registry.get_sample_value("refused_total") or 0)

    def turn(self, num: int) -> int:
        """How many of those that arrived are answered."""
        for _ in range(num):
            self.num_waiting += self.room.enter()
        num_answered, self.num_waiting = self.num_waiting, 0
        self.now += max(num_answered, 1) * SECONDS_EACH
        for _ in range(num_answered):
            self.room.leave()
        return num_answered

    def offered(self, a_second: float, seconds: float) -> list[float]:
        """How long each turn took while so many arrive, whatever becomes of the others."""
        turns, due, start = [0.0], 0.0, self.now
        while self.now < start + seconds:
            due += a_second * turns[-1]
            began = self.now
            self.turn(int(due))
            due -= int(due)
            turns.append(self.now - began)
        return turns


def test_one_more_than_there_is_room_for_is_refused_until_one_has_gone() -> None:
    shop = Shop(max_requests=2)
    assert [shop.room.enter() for _ in range(3)] == [True, True, False]
    shop.now += 1
    shop.room.leave()
    assert shop.room.enter()  # the refused one took no place
    assert shop.num_refused == 1


def test_fewer_have_room_where_an_answer_takes_long() -> None:
    assert Shop(100, 0.05, seconds_each=0.02).turn(9) == 3  # the third waits 40 ms, a fourth would wait 60
    assert Shop(100, 0.05, seconds_each=9.0).turn(9) == 1  # one is always taken


def test_who_waits_for_the_event_log_takes_no_room_from_who_would_be_answered_now() -> None:
    """As where decisions must be durable: the core is idle."""
    shop = Shop()
    shop.turn(129)
    assert all(shop.room.enter() for _ in range(50))
    assert shop.num_refused == 1


def test_bursts_pass() -> None:
    shop = Shop()
    for _ in range(20):
        assert shop.turn(128) == 128
        shop.now += 0.1


@pytest.mark.parametrize("num", [64, 128])
def test_clients_that_wait_for_their_answers_are_never_refused_however_busy_they_keep_it(num: int) -> None:
    shop = Shop()
    assert all(shop.turn(num) == num for _ in range(200))


def test_of_a_larger_burst_what_is_over_is_refused_and_may_come_soon() -> None:
    shop = Shop()
    assert shop.turn(200) == 128
    shop.now += 1.0  # as its Retry-After says
    assert shop.turn(72) == 72


def test_at_twice_the_capacity_turns_are_short_once_the_room_was_full() -> None:
    shop = Shop()
    assert max(shop.offered(2_000, seconds=0.4)) == pytest.approx(0.128)
    refused = shop.num_refused
    assert max(shop.offered(2_000, seconds=30)) == pytest.approx(0.004)
    assert shop.num_refused - refused == pytest.approx(30_000, rel=0.02)  # and it is busy all the time


def test_the_room_is_whole_again_half_a_second_later() -> None:
    shop = Shop()
    shop.turn(200)
    shop.now = 0.49
    assert shop.turn(10) == 4
    shop.now = 0.51
    assert shop.turn(100) == 100


def test_the_room_is_whole_again_once_no_more_come_than_can_be_answered() -> None:
    """Though a fifth is refused, as a small room refuses of what comes in little bursts."""
    shop = Shop()
    shop.offered(2_000, seconds=5)
    started = shop.now
    while shop.turn(5) == 4:
        shop.now += 0.001
    assert 0.5 < shop.now - started < 1.5


def test_clients_that_ask_again_at_once_are_tried_once_a_minute() -> None:
    """Forty can wait their turn, and do not know: a crowded room holds 4."""
    shop = Shop()
    shop.turn(129)
    while shop.now < 59.9:
        assert shop.turn(40) == 4
        shop.now += 0.05
    shop.now = 60.1
    assert all(shop.turn(40) == 40 for _ in range(50))
