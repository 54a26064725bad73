import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from schemas.settings import Settings
from service.decision_log import DecisionLog
from service.metrics import ServiceMetrics
from tests.unit.service.fake_log import FakeLog


class Logging:
    def __init__(self, max_waiting: int = 1_000) -> None:
        self.writer = FakeLog()
        self.registry = CollectorRegistry()
        settings = Settings(decision_log_seconds=0.001, decision_log_max=max_waiting)
        self.log = DecisionLog(self.writer, settings, ServiceMetrics(self.registry))

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


def test_decisions_wait_in_order_while_the_log_is_away() -> None:
    logging = Logging()
    logging.writer.is_away = True
    logging.add(1, 2)
    assert not asyncio.run(logging.log.flush())
    assert logging.count("decision_log_waiting") == 2
    logging.add(3)
    logging.writer.is_away = False
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
    logging.writer.is_away = False
    asyncio.run(logging.log.flush())
    assert logging.logged() == [[3, 4, 5]]
    assert logging.count("decision_log_dropped_total") == 2


def test_what_came_while_an_append_failed_counts_to_what_waits() -> None:
    async def run() -> None:
        logging = Logging(max_waiting=3)
        logging.writer.is_held = True
        logging.add(1, 2)
        flushing = asyncio.ensure_future(logging.log.flush())
        await asyncio.sleep(0)
        logging.add(3, 4)
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
        logging.writer.is_held = False
        logging.writer.appends.clear()
        await logging.log.flush()
        assert logging.logged() == [[2, 3, 4]]

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


def test_it_logs_by_itself_and_after_an_outage_too() -> None:
    async def until(happened: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not happened():  # noqa: ASYNC110 (the log tells nobody)
                await asyncio.sleep(0.001)

    async def run() -> None:
        logging = Logging()
        running = asyncio.ensure_future(logging.log.run())
        logging.add(1)
        await until(logging.logged)
        logging.writer.is_away = True
        logging.add(2)
        await until(lambda: logging.count("log_failures_total", topic="decisions"))
        logging.writer.is_away = False
        await until(lambda: len(logging.logged()) == 2)
        running.cancel()
        assert logging.logged() == [[1], [2]]

    asyncio.run(run())
