"""An append is durable in the event log or in the spool, whatever becomes of the log."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from schemas.settings import Settings
from service.durable_log import DurableLog
from service.metrics import ServiceMetrics
from storage.event_log import LogUnavailableError, RecordTooLargeError
from storage.spool import Spool
from tests.unit.service.fake_log import FakeLog, until

MAX_BYTES = 4 << 20


class Made:
    """A durable log on a log that the test settles. Without a folder it has no spool.

    It is patient unless told otherwise: a log that answers is not to count as silent on a busy machine.
    """

    def __init__(self, folder: Path | None, *, max_bytes: int = MAX_BYTES, patience_seconds: float = 30) -> None:
        self.writer = FakeLog()
        self.registry = CollectorRegistry()
        self.spool = None if folder is None else Spool(folder, max_bytes, time.time)
        settings = Settings(log_patience_seconds=patience_seconds)
        self.log = DurableLog(self.writer, self.spool, settings, ServiceMetrics(self.registry))

    def count(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"steadyrank_{name}", labels)

    def logged(self) -> list[int]:
        return self.writer.elements("feedback")

    async def append(self, *numbers: int) -> list[str]:
        return [await self.log.append("feedback", b"[%d]" % number) for number in numbers]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self.log.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self.log.close()


def run(test: Callable[[Made], Coroutine[None, None, None]], made: Made) -> None:
    async def running() -> None:
        async with made.running():
            await test(made)

    asyncio.run(running())


def test_while_the_log_is_there_it_has_everything(tmp_path: Path) -> None:
    async def test(made: Made) -> None:
        assert await made.append(1, 2, 3) == ["log"] * 3
        assert (made.logged(), made.log.trouble) == ([1, 2, 3], None)

    run(test, Made(tmp_path / "spool"))
    assert not (tmp_path / "spool").exists()


def test_what_the_log_refuses_is_spooled_and_relayed_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(made: Made) -> None:
        made.writer.is_away = True
        assert await made.append(1, 2, 3) == ["spool"] * 3
        assert (made.log.trouble, made.count("log_away")) == ("the log is away", 1)
        assert made.count("spool_bytes") == 3 * 16
        made.writer.is_away = False
        await until(lambda: made.count("relayed_records_total", topic="feedback") == 3)
        assert await made.append(4) == ["log"]
        assert made.logged() == [1, 2, 3, 4]
        assert (made.log.trouble, made.count("log_away"), made.count("spool_bytes")) == (None, 0, 0)
        assert made.count("spooled_records_total", topic="feedback") == 3
        assert made.count("log_failures_total", topic="feedback") >= 1  # type: ignore[operator]  # it counts

    with caplog.at_level(logging.INFO, "service.durable_log"):
        run(test, Made(tmp_path))
    assert caplog.messages == ["the event log is away: the log is away", "the event log is back"]


def test_when_the_log_is_silent_the_spool_takes_over_after_the_patience_and_then_at_once(tmp_path: Path) -> None:
    async def test(made: Made) -> None:
        made.writer.is_held = True
        started = time.monotonic()
        assert await made.append(1) == ["spool"]
        assert time.monotonic() - started >= 0.2
        assert made.log.trouble == "it did not acknowledge within 0.2 s"
        assert await made.append(*range(2, 12)) == ["spool"] * 10
        assert set(made.logged()) == {1}  # the log was not asked for the others: there was nothing to wait for
        await until(lambda: made.logged() == [1, 1])  # the relay tries it, and nothing else
        made.writer.is_held = False
        made.writer.settle()
        await until(lambda: made.log.trouble is None)
        await until(lambda: made.count("spool_bytes") == 0)
        assert made.logged() == [1, *range(1, 12)]

    run(test, Made(tmp_path, patience_seconds=0.2))


def test_once_the_log_is_back_new_records_go_to_it_while_the_spool_drains(tmp_path: Path) -> None:
    async def test(made: Made) -> None:
        made.writer.is_away = True
        await made.append(1, 2, 3)
        made.writer.is_away, made.writer.is_held = False, True
        await until(lambda: made.logged() == [1])
        assert made.log.trouble is not None
        made.writer.settle()
        await until(lambda: made.logged() == [1, 2, 3])
        appending = asyncio.ensure_future(made.append(4))
        await until(lambda: made.logged() == [1, 2, 3, 4])
        assert made.count("spool_bytes") != 0
        made.writer.settle()
        assert await appending == ["log"]

    run(test, Made(tmp_path))


def test_nothing_is_lost_when_the_log_fails_halfway_through_the_spool(tmp_path: Path) -> None:
    async def test(made: Made) -> None:
        made.writer.is_away = True
        large = [b'["%d%s"]' % (n, b"x" * 400_000) for n in range(8)]
        for value in large:
            await made.log.append("feedback", value)
        made.writer.is_away, made.writer.num_left = False, 2  # the probe, and the first of those that follow
        await until(lambda: made.count("relayed_records_total", topic="feedback") == 1 and made.log.trouble)
        assert [text[0] for text in made.writer.elements("feedback")] == ["0", "1", "2"]
        made.writer.num_left = None
        await until(lambda: made.count("spool_bytes") == 0)
        texts = made.writer.elements("feedback")
        assert list(dict.fromkeys(text[0] for text in texts)) == [str(n) for n in range(8)]
        assert all(len(text) == 400_001 for text in texts)
        assert made.count("relayed_records_total", topic="feedback") == 8

    run(test, Made(tmp_path))


def test_small_records_are_relayed_together_each_topic_in_order(tmp_path: Path) -> None:
    async def test(made: Made) -> None:
        made.writer.is_away = True
        for number in range(20):
            await made.log.append("decisions" if number % 2 else "feedback", b"[%d]" % number)
        made.writer.is_away = False
        await until(lambda: made.count("spool_bytes") == 0)
        assert [append.value for append in made.writer.appends if append.topic == "decisions"] == [
            b"[" + b",".join(b"%d" % n for n in range(1, 20, 2)) + b"]"
        ]
        assert made.logged() == list(range(0, 20, 2))

    run(test, Made(tmp_path))


@pytest.mark.parametrize("with_spool", [True, False])
def test_the_log_is_found_again_without_anything_to_relay(tmp_path: Path, with_spool: bool) -> None:
    """Without a spool, or with nothing in it, as it refused what is larger than it."""

    async def test(made: Made) -> None:
        made.writer.is_away = True
        with pytest.raises(LogUnavailableError, match="the event log is away: the log is away"):
            await made.log.append("feedback", b"[" + b"1" * 100 + b"]")
        with pytest.raises(LogUnavailableError):
            await made.log.append("feedback", b"[" + b"1" * 100 + b"]")
        made.writer.is_away = False
        await until(lambda: made.log.trouble is None)
        assert await made.append(1) == ["log"]
        assert made.logged() == [1]
        assert made.writer.elements("decisions") == []

    run(test, Made(tmp_path if with_spool else None, max_bytes=50))


def test_a_full_spool_refuses_at_once_and_the_log_is_found_again(tmp_path: Path) -> None:
    async def test(made: Made) -> None:
        made.writer.is_held = True
        assert await made.append(1) == ["spool"]
        with pytest.raises(LogUnavailableError, match="the spool is full"):
            await made.append(2)
        assert set(made.logged()) == {1}
        made.writer.is_held = False
        made.writer.settle()
        await until(lambda: made.log.trouble is None and made.count("spool_bytes") == 0)
        assert await made.append(3) == ["log"]
        assert made.logged() == [1, 1, 3]

    run(test, Made(tmp_path, max_bytes=30, patience_seconds=1.0))


def test_while_the_log_is_silent_and_there_is_no_spool_one_probe_is_under_way(tmp_path: Path) -> None:
    async def test(made: Made) -> None:
        made.writer.is_held = True
        for _ in range(5):
            with pytest.raises(LogUnavailableError):
                await made.append(1)
        await until(lambda: len(made.writer.appends) == 2)
        await asyncio.sleep(0.05)
        assert [append.value for append in made.writer.appends] == [b"[1]", b"[]"]

    run(test, Made(None, patience_seconds=0.05))


def test_a_record_that_the_log_never_takes_is_refused_and_the_log_is_not_away(tmp_path: Path) -> None:
    async def test(made: Made) -> None:
        made.writer.max_bytes = 10
        with pytest.raises(RecordTooLargeError):
            await made.log.append("feedback", b"[" + b"1" * 10 + b"]")
        assert made.log.trouble is None
        assert await made.append(1) == ["log"]
        assert made.count("spool_bytes") == 0

    run(test, Made(tmp_path))


def test_one_in_the_spool_that_the_log_never_takes_is_kept_aside_and_the_others_are_relayed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(made: Made) -> None:
        made.writer.is_away, made.writer.max_bytes = True, 50
        await made.append(1, 2)
        await made.log.append("feedback", b"[" + b"3" * 60 + b"]")
        await made.append(4, 5)
        made.writer.is_away = False
        await until(lambda: made.count("spool_bytes") == 0)
        assert list(dict.fromkeys(made.logged())) == [1, 2, 4, 5]
        assert await made.append(6) == ["log"]

    run(test, Made(tmp_path))
    (aside,) = tmp_path.iterdir()
    assert (aside.suffixes, aside.read_bytes()) == ([".feedback", ".json"], b"[" + b"3" * 60 + b"]")
    assert f"kept in {aside}" in caplog.text


def test_what_another_worker_left_is_relayed_from_the_start(tmp_path: Path) -> None:
    left = Spool(tmp_path, MAX_BYTES, time.time)
    for number in (1, 2):
        left.append("feedback", b"[%d]" % number).result(timeout=60)
    left.close()

    async def test(made: Made) -> None:
        await until(lambda: made.logged() == [1, 2])
        await until(lambda: not list(tmp_path.iterdir()))

    run(test, Made(tmp_path))


def test_what_was_not_relayed_when_it_is_closed_stays_for_the_next(tmp_path: Path) -> None:
    async def away(made: Made) -> None:
        made.writer.is_away = True
        await made.append(1, 2)

    async def back(made: Made) -> None:
        await until(lambda: made.logged() == [1, 2])

    run(away, Made(tmp_path))
    run(back, Made(tmp_path))


def test_when_the_end_is_near_the_spool_takes_all(tmp_path: Path) -> None:
    async def test(made: Made) -> None:
        made.log.stop_waiting()
        assert await made.append(1) == ["spool"]

    made = Made(tmp_path)

    async def running() -> None:
        await test(made)
        await made.log.close()

    asyncio.run(running())
    assert made.logged() == []


@pytest.mark.parametrize("what_fails", ["relayed", "set_aside"])
def test_a_disk_that_fails_once_does_not_end_the_relay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what_fails: str
) -> None:
    async def test(made: Made) -> None:
        assert made.spool is not None
        works, failed = getattr(made.spool, what_fails), list[object]()

        def fails_once(frame: object) -> object:
            if not failed:
                failed.append(frame)
                raise OSError("Input/output error")
            return works(frame)

        monkeypatch.setattr(made.spool, what_fails, fails_once)
        made.writer.is_away, made.writer.max_bytes = True, 50
        await made.append(1)
        await made.log.append("feedback", b"[" + b"2" * 60 + b"]")
        await made.append(3)
        made.writer.is_away = False
        await until(lambda: made.count("spool_bytes") == 0)
        assert failed
        assert list(dict.fromkeys(made.logged())) == [1, 3]
        assert made.count("unexpected_errors_total", where="relay") is None

    run(test, Made(tmp_path))
    assert "cannot be" in caplog.text


def test_a_disk_that_cannot_be_read_does_not_end_the_relay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(made: Made) -> None:
        assert made.spool is not None
        made.writer.is_away = True
        await made.append(1)

        def broken(max_bytes: int) -> None:
            raise OSError("Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr(made.spool, "read", broken)
            await until(lambda: "the spool cannot be read; what is in it waits" in caplog.messages)
            made.writer.is_away = False
            await until(lambda: made.log.trouble is None)
            assert await made.append(2) == ["log"]
        made.writer.is_away = True
        await made.append(3)
        made.writer.is_away = False
        await until(lambda: made.count("spool_bytes") == 0)
        assert made.logged() == [2, 1, 3]

    run(test, Made(tmp_path))
