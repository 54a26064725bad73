import asyncio
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from schemas.messages import FeedbackEvent
from schemas.settings import Settings
from service.durable_log import DurableLog
from service.feedback import FeedbackIntake, FeedbackRules
from service.ids import IdSource
from service.metrics import ServiceMetrics
from service.packing import Packer
from service.problems import ProblemError
from service.together import settled
from storage.spool import Spool
from tests.unit.service.fake_log import FakeLog

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
KINDS = frozenset(("click", "leave"))


def rules() -> FeedbackRules:
    return FeedbackRules(KINDS, NOW.timestamp, IdSource(b"0" * 12))


def event(**fields: Any) -> dict[str, Any]:
    return {"decision_id": "d", "kind": "click", **fields}


def refusal(*events: dict[str, Any]) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        rules().complete(msgspec.json.encode(events))
    assert caught.value.status == 422
    return caught.value


# ------------------------------------------------------------------ rules


def test_what_is_absent_or_null_gets_its_default() -> None:
    (plain, null), made = rules().complete(msgspec.json.encode([event(), event(value=None, event_id=None)]))
    assert (plain.value, plain.occurred_at, plain.item_id) == (1.0, NOW, None)
    assert (null.value, null.occurred_at) == (1.0, NOW)
    assert made == [plain.event_id, null.event_id]
    assert len({*made}) == 2


def test_what_is_given_stays() -> None:
    body = event(event_id="e", value=-2.5, item_id="i", occurred_at="2026-11-23T12:00:00+02:00")
    (kept,), made = rules().complete(msgspec.json.encode(body))
    assert (kept.event_id, kept.value, kept.item_id, made) == ("e", -2.5, "i", [])
    assert kept.occurred_at == NOW


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"kind": "clock"}, "kind"),
        ({"decision_id": "a\x00"}, "decision_id"),
        ({"event_id": "a\x1f"}, "event_id"),
        ({"item_id": "\x9f"}, "item_id"),
        ({"occurred_at": "2026-11-23T10:05:01Z"}, "occurred_at"),
        ({"occurred_at": "9999-12-31T23:59:59-14:00"}, "occurred_at"),
        ({"occurred_at": "2026-11-23T10:00:00"}, "occurred_at"),
        ({"value": 1e7}, "value"),
        ({"value": "1"}, "value"),
        ({"kind": ""}, "kind"),
        ({"decision_id": "d" * 257}, "decision_id"),
        ({"colour": "red"}, "colour"),
        ({"schema_version": 2}, "schema_version"),
    ],
)
def test_a_broken_rule_is_refused_by_its_place_in_the_list(fields: dict[str, Any], name: str) -> None:
    assert refusal(event(), event(**fields)).mistakes[0].loc == ("body", 1, name)


def test_a_single_event_is_refused_without_an_index() -> None:
    with pytest.raises(ProblemError) as caught:
        rules().complete(msgspec.json.encode(event(kind="clock")))
    assert caught.value.mistakes[0].loc == ("body", "kind")


def test_all_wrong_events_of_a_list_are_told() -> None:
    problem = refusal(event(kind="a"), event(), event(kind="b", item_id="\x00"))
    assert [m.loc for m in problem.mistakes] == [("body", 0, "kind"), ("body", 2, "kind"), ("body", 2, "item_id")]


def test_times_up_to_five_minutes_ahead_and_any_in_the_past_are_good() -> None:
    times = ["2026-11-23T10:05:00Z", "0001-01-01T00:00:00+14:00"]
    assert len(rules().complete(msgspec.json.encode([event(occurred_at=at) for at in times]))[0]) == 2


def test_a_list_has_at_most_a_thousand_events_and_may_be_empty() -> None:
    assert len(rules().complete(msgspec.json.encode([event()] * 1_000))[0]) == 1_000
    assert refusal(*[event()] * 1_001).mistakes[0].loc == ("body",)
    assert rules().complete(b"[]") == ([], [])


# ------------------------------------------------------------------ intake


class Intake:
    """Without a folder there is no spool."""

    def __init__(self, folder: Path | None = None, *, max_bytes: int = 1 << 20, patience_seconds: float = 30) -> None:
        self.log = FakeLog()
        self.registry = CollectorRegistry()
        metrics = ServiceMetrics(self.registry)
        self.spool = None if folder is None else Spool(folder, max_bytes, time.time)
        self.durable = DurableLog(self.log, self.spool, Settings(log_patience_seconds=patience_seconds), metrics)
        self.intake = FeedbackIntake(rules(), Packer(self.durable, "feedback"), metrics)

    async def accept(self, *events: dict[str, Any]) -> dict[str, Any]:
        answer = await settled(partial(self.intake.accept, msgspec.json.encode(events)))
        return msgspec.json.decode(answer, type=dict[str, Any])

    def logged(self) -> list[list[FeedbackEvent]]:
        return [msgspec.json.decode(append.value, type=list[FeedbackEvent]) for append in self.log.appends]


def test_events_that_arrive_together_share_a_record() -> None:
    async def run() -> None:
        intake = Intake()
        answers = await asyncio.gather(*(intake.accept(event(event_id=f"e{i}")) for i in range(50)))
        assert answers == [{"accepted": 1, "spooled": 0}] * 50
        (record,) = intake.logged()
        assert sorted(e.event_id or "" for e in record) == sorted(f"e{i}" for i in range(50))
        assert intake.registry.get_sample_value("steadyrank_feedback_accepted_total") == 50
        assert intake.registry.get_sample_value("steadyrank_feedback_spooled_total") == 0

    asyncio.run(run())


def test_ids_that_were_made_are_returned() -> None:
    async def run() -> None:
        intake = Intake()
        answer = await intake.accept(event(), event(event_id="mine"), event())
        (record,) = intake.logged()
        assert answer["event_ids"] == [record[0].event_id, record[2].event_id]

    asyncio.run(run())


def test_no_events_are_accepted_without_a_record() -> None:
    intake = Intake()
    assert asyncio.run(intake.accept()) == {"accepted": 0, "spooled": 0}
    assert intake.logged() == []


def test_without_log_and_spool_everyone_hears_503_and_nothing_is_kept() -> None:
    async def run() -> None:
        intake = Intake()
        intake.log.is_away = True
        answers = await asyncio.gather(*(intake.accept(event()) for _ in range(3)), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, ProblemError)]
        assert [(each.status, each.headers) for each in refused] == [(503, {"Retry-After": "1"})] * 3
        assert refused[0].detail == "none of this was taken: the event log is away: the log is away"
        intake.log.is_away = False
        intake.durable.trouble = None
        await intake.accept(event(event_id="later"))
        assert [[e.event_id for e in record] for record in intake.logged()] == [["later"]]

    asyncio.run(run())


def test_without_a_spool_a_log_that_is_silent_is_503_too() -> None:
    async def run() -> None:
        intake = Intake(patience_seconds=0.05)
        intake.log.is_held = True
        with pytest.raises(ProblemError) as caught:
            await intake.accept(event())
        assert caught.value.status == 503

    asyncio.run(run())


def test_what_the_log_does_not_take_is_spooled_and_the_answer_says_so(tmp_path: Path) -> None:
    async def run() -> None:
        intake = Intake(tmp_path)
        intake.log.is_away = True
        assert await intake.accept(event(event_id="a"), event(event_id="b")) == {"accepted": 2, "spooled": 2}
        assert intake.registry.get_sample_value("steadyrank_feedback_spooled_total") == 2
        assert intake.spool is not None
        (frame,) = intake.spool.read(1)
        assert [e.event_id for e in msgspec.json.decode(frame.value, type=list[FeedbackEvent])] == ["a", "b"]
        await intake.durable.close()

    asyncio.run(run())


def test_more_than_a_record_of_the_log_may_hold_is_413() -> None:
    async def run() -> None:
        intake = Intake()
        intake.log.max_bytes = 200
        with pytest.raises(ProblemError) as caught:
            await intake.accept(event(event_id="b" * 200))
        assert caught.value.status == 413
        assert (await intake.accept(event(event_id="c")))["accepted"] == 1

    asyncio.run(run())


def test_past_the_spool_s_bound_the_answer_is_503(tmp_path: Path) -> None:
    async def run() -> None:
        intake = Intake(tmp_path, max_bytes=300)
        intake.log.is_away = True
        assert (await intake.accept(event(event_id="a")))["spooled"] == 1
        with pytest.raises(ProblemError) as caught:
            await intake.accept(event(event_id="b" * 200))
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
        assert "the spool is full" in caught.value.detail
        await intake.durable.close()

    asyncio.run(run())
