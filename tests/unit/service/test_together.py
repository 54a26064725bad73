"""What comes in one turn of the event loop is answered at once, and apart where it must be."""

import asyncio
import time
from functools import partial

import pytest

from service.together import Together, settled


class Squares:
    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __call__(self, numbers: list[int]) -> list[int]:
        self.asked.append(numbers)
        if 13 in numbers:
            raise ValueError("not thirteen")
        return [number * number for number in numbers]


def answer_to(together: Together[int, int], number: int) -> asyncio.Future[int]:
    return settled(partial(together.ask, number))


def test_what_is_asked_at_the_same_time_is_answered_together() -> None:
    squares = Squares()

    async def run() -> None:
        together = Together(squares)

        async def ask(number: int) -> int:
            return await answer_to(together, number)

        assert list(await asyncio.gather(ask(2), ask(3), ask(4))) == [4, 9, 16]
        assert await ask(5) == 25

    asyncio.run(run())
    assert squares.asked == [[2, 3, 4], [5]]


def test_one_that_fails_does_not_fail_the_others() -> None:
    async def run() -> None:
        together = Together(Squares())
        first, bad, last = (answer_to(together, number) for number in (2, 13, 4))
        assert (await first, await last) == (4, 16)
        with pytest.raises(ValueError, match="thirteen"):
            await bad

    asyncio.run(run())


def test_one_that_cannot_be_told_does_not_cost_the_others_their_answer() -> None:
    told: list[int | Exception] = []

    def broken(_: int | Exception) -> None:
        raise RuntimeError("a bug")

    async def run() -> None:
        together = Together(Squares())
        together.ask(2, broken)
        together.ask(3, told.append)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(run())
    assert told == [9]


def test_who_has_gone_is_not_told() -> None:
    async def run() -> None:
        together = Together(Squares())
        gone, bad_and_gone, there = (answer_to(together, number) for number in (2, 13, 3))
        gone.cancel()
        bad_and_gone.cancel()
        assert await there == 9

    asyncio.run(run())


def test_it_is_busy_from_when_somebody_asks_until_all_were_told() -> None:
    seen: list[tuple[str, bool]] = []

    def answered(numbers: list[int]) -> list[int]:
        seen.append(("answered", together.is_busy))
        return numbers

    together = Together(answered)

    async def run() -> None:
        seen.append(("before", together.is_busy))
        together.ask(1, lambda _: seen.append(("told", together.is_busy)))
        seen.append(("asked", together.is_busy))
        await asyncio.sleep(0)
        seen.append(("after", together.is_busy))

    asyncio.run(run())
    assert seen == [("before", False), ("asked", True), ("answered", True), ("told", True), ("after", False)]


def test_it_knows_what_an_answer_takes() -> None:
    def slowly(numbers: list[int]) -> list[int]:
        time.sleep(0.01 * len(numbers))
        return numbers

    async def run() -> None:
        together = Together(slowly)
        for _ in range(3):
            await asyncio.gather(*(answer_to(together, number) for number in range(2)))
        assert together.seconds_each > 0.01 * (1 - 0.99**6) - 1e-9  # six answers, and none before
        assert together.wait_seconds == 0.0
        asked = [answer_to(together, number) for number in range(5)]
        assert together.wait_seconds == pytest.approx(5 * together.seconds_each)
        await asyncio.gather(*asked)

    asyncio.run(run())
