import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from schemas.settings import Settings
from service import decision_log
from service.decision_log import DecisionLog
from service.durable_log import DurableLog
from service.metrics import ServiceMetrics
from storage.event_log import LogUnavailableError
from storage.spool import Spool
from tests.unit.service.fake_log import FakeLog, until


class Logging:
    """Without a folder there is no spool."""

    def __init__(self, max_waiting: int = 1_000, folder: Path | None = None, patience_seconds: float = 30) -> None:
        self.writer = FakeLog()
        self.registry = CollectorRegistry()
        metrics = ServiceMetrics(self.registry)
        settings = Settings(
            decision_log_seconds=0.001, decision_log_max=max_waiting, log_patience_seconds=patience_seconds
        )
        self.spool = None if folder is None else Spool(folder, 1 << 20, time.time)
        self.durable = DurableLog(self.writer, self.spool, settings, metrics)
        self.log = DecisionLog(self.durable, settings, metrics)

    async def held_one_by_one(self, num: int) -> "asyncio.Task[None]":
        """Decisions from 0 on, each in a record of its own that is not acknowledged; returns what logs them."""
        self.writer.is_held = True
        running = asyncio.ensure_future(self.log.run())
        for number in range(num):
            self.add(number)
            await until(partial(self._has_logged, number + 1))
        return running

    def _has_logged(self, num: int) -> bool:
        return len(self.logged()) == num

    def comes_back(self) -> None:
        """The log, and the relay has found it."""
        self.writer.is_away = False
        self.durable.trouble = None

    def spooled(self) -> list[Any]:
        assert self.spool is not None
        return [msgspec.json.decode(frame.value) for frame in self.spool.read(1 << 20)]

    def add(self, *numbers: int) -> None:
        for number in numbers:
            self.log.add(str(number).encode())

    def logged(self) -> list[list[Any]]:
        return [msgspec.json.decode(append.value) for append in self.writer.appends]

    def count(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"steadyrank_{name}", labels)


def test_what_waits_is_packed_into_one_record_in_order() -> None:
    logging = Logging()
    logging.add(1, 2, 3)
    assert asyncio.run(logging.log.flush())
    assert logging.logged() == [[1, 2, 3]]
    assert logging.writer.appends[0].topic == "decisions"


def test_nothing_waiting_is_no_record() -> None:
    logging = Logging()
    assert asyncio.run(logging.log.flush())
    assert logging.logged() == []


def test_a_record_stays_below_a_megabyte_unless_one_decision_is_larger() -> None:
    logging = Logging()
    for size in (600_000, 600_000, 2_000_000, 10):
        logging.log.add(b'"' + b"x" * size + b'"')
    asyncio.run(logging.log.flush())
    assert [[len(text) for text in record] for record in logging.logged()] == [[600_000], [600_000], [2_000_000], [10]]


def test_decisions_wait_in_order_while_log_and_spool_are_away() -> None:
    logging = Logging()
    logging.writer.is_away = True
    logging.add(1, 2)
    assert not asyncio.run(logging.log.flush())
    assert logging.count("decision_log_waiting") == 2
    logging.add(3)
    logging.comes_back()
    assert asyncio.run(logging.log.flush())
    assert logging.logged() == [[1, 2, 3]]
    assert logging.count("log_failures_total", topic="decisions") == 1
    assert logging.count("decision_log_waiting") == 0


def test_the_oldest_are_dropped_and_counted_when_too_many_wait() -> None:
    logging = Logging(max_waiting=3)
    logging.writer.is_away = True
    logging.add(1, 2, 3, 4)
    asyncio.run(logging.log.flush())
    logging.add(5)
    logging.comes_back()
    asyncio.run(logging.log.flush())
    assert logging.logged() == [[3, 4, 5]]
    assert logging.count("decision_log_dropped_total") == 2


def test_what_came_while_an_append_failed_counts_to_what_waits() -> None:
    async def run() -> None:
        logging = Logging(max_waiting=3)
        logging.writer.is_held = True
        logging.add(1, 2)
        flushing = asyncio.ensure_future(logging.log.flush())
        await until(logging.logged)
        logging.add(3, 4)
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
        logging.writer.is_held = False
        logging.writer.appends.clear()
        await logging.log.flush()
        assert logging.logged() == [[2, 3, 4]]

    asyncio.run(run())


def test_one_slow_acknowledgement_does_not_hold_up_what_comes_meanwhile() -> None:
    async def run() -> None:
        logging = Logging()
        running = await logging.held_one_by_one(3)
        assert logging.logged() == [[0], [1], [2]]
        running.cancel()
        logging.writer.settle()
        assert await logging.log.flush()
        assert logging.logged() == [[0], [1], [2]]

    asyncio.run(run())


def test_records_that_fail_out_of_order_are_put_back_in_order() -> None:
    async def run() -> None:
        logging = Logging()
        running = await logging.held_one_by_one(3)
        running.cancel()
        for append in reversed(logging.writer.appends):
            append.future.set_exception(LogUnavailableError("gone"))
            await asyncio.sleep(0.001)
        assert not await logging.log.flush()
        logging.writer.is_held = False
        logging.writer.appends.clear()
        logging.add(3)
        logging.comes_back()
        assert await logging.log.flush()
        assert logging.logged() == [[0, 1, 2, 3]]

    asyncio.run(run())


def test_decisions_that_the_log_never_takes_are_dropped_and_hold_up_no_others(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        logging = Logging()
        logging.writer.max_bytes = 8 << 20
        logging.log.add(b'"' + b"x" * (9 << 20) + b'"')
        logging.add(2)
        assert await logging.log.flush()
        assert logging.logged() == [[2]]
        assert logging.count("decision_log_dropped_total") == 1
        assert "1 decisions are lost" in caplog.text

    asyncio.run(run())


def test_in_an_outage_decisions_go_to_the_spool(tmp_path: Path) -> None:
    async def run() -> None:
        logging = Logging(max_waiting=3, folder=tmp_path)
        logging.writer.is_away = True
        for number in range(5):
            logging.add(number)
            assert await logging.log.flush()
        assert logging.spooled() == [[0], [1], [2], [3], [4]]
        assert logging.count("decision_log_dropped_total") == 0
        await logging.durable.close()

    asyncio.run(run())


def test_at_the_end_what_waits_is_logged_or_said_to_be_lost(caplog: pytest.LogCaptureFixture) -> None:
    logging = Logging()
    logging.add(1, 2)
    asyncio.run(logging.log.finish())
    assert (logging.logged(), caplog.messages) == ([[1, 2]], [])
    logging.writer.is_away = True
    logging.add(3, 4, 5)
    asyncio.run(logging.log.finish())
    assert "the last 3 decisions are lost" in caplog.messages[-1]


def test_at_the_end_what_the_log_is_silent_about_is_spooled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        logging = Logging(folder=tmp_path)
        logging.writer.is_held = True
        logging.add(1, 2)
        running = asyncio.ensure_future(logging.log.run())
        await until(logging.logged)
        running.cancel()
        logging.add(3)
        await logging.log.finish()
        assert logging.spooled() == [[1, 2, 3]]
        await logging.durable.close()

    monkeypatch.setattr(decision_log, "_FINISH_BY_LOG_SECONDS", 0.05)
    monkeypatch.setattr(decision_log, "FINISH_SECONDS", 60.0)  # the spool has as long as the disk takes
    asyncio.run(run())


def test_it_logs_by_itself_and_after_an_outage_too() -> None:
    async def run() -> None:
        logging = Logging()
        running = asyncio.ensure_future(logging.log.run())
        logging.add(1)
        await until(logging.logged)
        logging.writer.is_away = True
        logging.add(2)
        await until(lambda: logging.count("log_failures_total", topic="decisions"))
        logging.comes_back()
        await until(lambda: len(logging.logged()) == 2)
        running.cancel()
        assert logging.logged() == [[1], [2]]

    asyncio.run(run())
