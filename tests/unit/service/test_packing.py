import asyncio
import time
from functools import partial

import pytest
from prometheus_client import CollectorRegistry

from schemas.settings import Settings
from service.durable_log import MAX_RECORD_BYTES, DurableLog, Kept
from service.metrics import ServiceMetrics
from service.packing import Packer
from service.together import settled
from storage.event_log import LogUnavailableError
from tests.unit.service.fake_log import FakeLog


class Packing:
    def __init__(self) -> None:
        self.log = FakeLog()
        metrics = ServiceMetrics(CollectorRegistry())
        self.packer = Packer(DurableLog(self.log, None, Settings(log_patience_seconds=30), metrics), "feedback")

    def start(self, elements: bytes) -> asyncio.Future[Kept]:
        return settled(partial(self.packer.append, elements))

    def values(self) -> list[bytes]:
        return [append.value for append in self.log.appends]


async def turns() -> None:
    """As many as it takes until nothing goes on by itself."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_what_arrives_together_shares_a_record_and_each_hears_of_it() -> None:
    async def run() -> None:
        packing = Packing()
        kept = await asyncio.gather(*(packing.start(part) for part in (b"1,2", b"3", b"4")))
        assert (kept, packing.values()) == (["log"] * 3, [b"[1,2,3,4]"])

    asyncio.run(run())


def test_nothing_is_acknowledged_before_it_is_durable() -> None:
    async def run() -> None:
        packing = Packing()
        packing.log.is_held = True
        waiting = packing.start(b"1")
        await turns()
        assert (packing.values(), waiting.done()) == ([b"[1]"], False)
        packing.log.settle()
        assert await waiting == "log"

    asyncio.run(run())


def test_what_comes_while_two_records_are_under_way_shares_the_third() -> None:
    async def run() -> None:
        packing = Packing()
        packing.log.is_held = True
        waiting = []
        for part in (b"1", b"2", b"3", b"4", b"5"):
            waiting.append(packing.start(part))
            await turns()
        assert packing.values() == [b"[1]", b"[2]"]
        packing.log.is_held = False
        packing.log.settle()
        assert await asyncio.gather(*waiting) == ["log"] * 5
        assert packing.values() == [b"[1]", b"[2]", b"[3,4,5]"]

    asyncio.run(run())


def test_what_comes_turn_by_turn_shares_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.packing._MAX_OPEN_SECONDS", 60.0)  # however slow the turns are

    async def run() -> None:
        packing = Packing()
        waiting = []
        for part in (b"1", b"2", b"3", b"4"):
            waiting.append(packing.start(part))
            await asyncio.sleep(0)
        assert packing.values() == []
        await asyncio.gather(*waiting)
        assert packing.values() == [b"[1,2,3,4]"]

    asyncio.run(run())


def test_what_comes_alone_leaves_within_a_few_turns() -> None:
    async def run() -> None:
        packing = Packing()
        waiting = packing.start(b"1")
        for _ in range(4):
            await asyncio.sleep(0)
        assert packing.values() == [b"[1]"]
        await waiting

    asyncio.run(run())


@pytest.mark.parametrize(("plenty", "max_seconds"), [(32, 60.0), (10**9, 0.005)])
def test_a_record_leaves_however_much_is_coming(
    monkeypatch: pytest.MonkeyPatch, plenty: int, max_seconds: float
) -> None:
    monkeypatch.setattr("service.packing._PLENTY", plenty)
    monkeypatch.setattr("service.packing._MAX_OPEN_SECONDS", max_seconds)

    async def run() -> None:
        packing = Packing()
        waiting = [packing.start(b"0")]
        started = time.perf_counter()
        while not waiting[0].done() and time.perf_counter() < started + 30:
            waiting.append(packing.start(b"1"))
            await asyncio.sleep(0)
        assert waiting[0].done()
        if plenty == 32:
            assert packing.values()[0].count(b"1") in {
                31,
                32,
            }  # that of its last turn may come before the look or after
        await asyncio.gather(*waiting)

    asyncio.run(run())


def test_a_record_that_would_grow_too_large_is_followed_by_another() -> None:
    async def run() -> None:
        packing = Packing()
        part = b"1" * (MAX_RECORD_BYTES * 2 // 5)
        await asyncio.gather(*(packing.start(part) for _ in range(5)), packing.start(part * 5))
        assert [value.count(b",") + 1 for value in packing.values()] == [2, 2, 1, 1]

    asyncio.run(run())


def test_a_record_that_fails_is_told_to_those_in_it_only() -> None:
    async def run() -> None:
        packing = Packing()
        packing.log.is_held = True
        first = packing.start(b"1")
        await turns()
        packing.log.is_away = True
        others = [packing.start(b"2"), packing.start(b"3")]
        await turns()
        for other in others:
            with pytest.raises(LogUnavailableError, match="the log is away"):
                await other
        packing.log.settle()
        assert await first == "log"

    asyncio.run(run())


def test_one_who_hangs_up_does_not_disturb_the_others() -> None:
    async def run() -> None:
        packing = Packing()
        packing.log.is_held = True
        gone, stays = packing.start(b"1"), packing.start(b"2")
        await turns()
        gone.cancel()
        await turns()
        packing.log.settle()
        assert await stays == "log"

    asyncio.run(run())


def test_more_than_may_wait_is_refused_early() -> None:
    async def run() -> None:
        packing = Packing()
        packing.log.is_held = True
        part = b"1" * (1 << 20)
        waiting = [packing.start(part) for _ in range(64)]
        await turns()
        with pytest.raises(LogUnavailableError, match="too much waits"):
            await packing.start(b"2")
        packing.log.is_held = False
        packing.log.settle()
        await asyncio.gather(*waiting)
        assert await packing.start(b"2") == "log"

    asyncio.run(run())


def test_one_that_cannot_be_told_does_not_cost_the_others_their_answer() -> None:
    told: list[Kept | Exception] = []

    def broken(_: Kept | Exception) -> None:
        raise RuntimeError("a bug")

    async def run() -> None:
        packing = Packing()
        packing.packer.append(b"1", broken)
        packing.packer.append(b"2", told.append)
        await turns()
        packing.log.settle()
        await turns()
        assert await packing.start(b"3") == "log"  # and it goes on

    asyncio.run(run())
    assert told == ["log"]
