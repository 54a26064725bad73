"""Where decisions must be durable: no answer before its decision is kept, and one answer a decision id."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from schemas.messages import Decision, Features
from schemas.settings import Settings
from service.catalogue import ItemTables
from service.decision_log import DecisionLog
from service.durable_log import DurableLog
from service.ids import IdSource
from service.live import Live
from service.metrics import ServiceMetrics
from service.packing import Packer
from service.problems import ProblemError
from service.ranking import Ranker, Serving
from service.recommend import Recommender
from service.together import settled
from tests.unit.service.fake_log import FakeLog, until
from tests.unit.service.made import slate_loop


@dataclass(frozen=True)
class Item:
    item_id: str
    features: Features = field(default_factory=dict)
    deleted: bool = False


class Recommending:
    """By the uniform fallback, whose `reason` a test may change, as a swap would change the answer."""

    def __init__(self, patience_seconds: float = 10) -> None:
        loop = slate_loop()
        self.writer = FakeLog()
        self.registry = CollectorRegistry()
        metrics = ServiceMetrics(self.registry)
        settings = Settings(log_patience_seconds=patience_seconds)
        self.reason = "first"
        self.durable = DurableLog(self.writer, None, settings, metrics)
        self.table = ItemTables(loop).empty()
        ranker = Ranker(loop, lambda: Serving(None, self.table, self.reason), lambda: 1_000.0, IdSource(b"0" * 12))
        self.recommender = Recommender(
            ranker,
            log=DecisionLog(self.durable, settings, metrics),
            packer=Packer(self.durable, "decisions"),
            live=Live(lambda: 1_000.0),
            metrics=metrics,
            clock=lambda: 1_000.0,
        )

    async def ask(self, decision_id: str | None = "d", candidates: Sequence[str] = ("a", "b")) -> dict[str, Any]:
        body = msgspec.json.encode({"decision_id": decision_id, "candidates": candidates})
        return msgspec.json.decode(await settled(partial(self.recommender.durable_answer, body)), type=dict[str, Any])

    async def refusal(self, **request: Any) -> ProblemError:
        with pytest.raises(ProblemError) as caught:
            await self.ask(**request)
        return caught.value

    def logged(self) -> list[Decision]:
        values = [append.value for append in self.writer.appends]
        return [decision for value in values for decision in msgspec.json.decode(value, type=list[Decision])]

    def comes_back(self) -> None:
        self.writer.is_away = self.writer.is_held = False
        self.durable.trouble = None


async def answered(made: Recommending, body: bytes) -> bytes:
    return await settled(partial(made.recommender.answer, body))


def test_no_answer_comes_before_its_decision_is_kept() -> None:
    async def run() -> None:
        made = Recommending()
        made.writer.is_held = True
        asking = asyncio.ensure_future(made.ask())
        await until(lambda: made.writer.appends)
        assert not asking.done()
        assert made.recommender.remembered("d") is None
        made.writer.settle()
        assert (await asking)["decision_id"] == "d"
        assert [decision.decision_id for decision in made.logged()] == ["d"]
        assert made.recommender.remembered("d") is not None

    asyncio.run(run())


def test_requests_that_arrive_together_share_a_record() -> None:
    async def run() -> None:
        made = Recommending()
        answers = await asyncio.gather(*(made.ask(decision_id=None) for _ in range(20)))
        assert len(made.writer.appends) == 1
        assert [answer["decision_id"] for answer in answers] == [each.decision_id for each in made.logged()]

    asyncio.run(run())


def test_a_request_whose_decision_was_not_kept_is_503_and_gets_its_first_answer_when_it_comes_again() -> None:
    """It may be in the log all the same, and of two decisions with one id the first counts."""

    async def run() -> None:
        made = Recommending(patience_seconds=0.5)
        made.writer.is_held = True
        refusal = await made.refusal()
        assert (refusal.status, refusal.headers) == (503, {"Retry-After": "1"})
        made.reason = "second"
        made.comes_back()
        answer = await made.ask()
        assert answer["reason"] == "first"
        assert await made.ask() == answer
        assert [decision.decision_id for decision in made.logged()] == ["d", "d"]  # the first was late, not lost
        assert made.writer.appends[0].value == made.writer.appends[1].value

    asyncio.run(run())


def test_a_request_that_comes_again_before_its_decision_is_kept_waits_too_and_gets_the_same() -> None:
    async def run() -> None:
        made = Recommending()
        made.writer.is_held = True
        asking = [asyncio.ensure_future(made.ask())]
        await until(lambda: made.writer.appends)
        made.reason = "second"
        asking.append(asyncio.ensure_future(made.ask()))
        await until(lambda: len(made.writer.appends) == 2)
        assert not any(each.done() for each in asking)
        made.writer.settle()
        first, again = await asyncio.gather(*asking)
        assert first == again
        assert (await made.refusal(candidates=["c"])).status == 409

    asyncio.run(run())


def test_another_request_under_the_id_of_one_that_was_refused_is_a_conflict() -> None:
    async def run() -> None:
        made = Recommending()
        made.writer.is_away = True
        assert (await made.refusal()).status == 503
        assert (await made.refusal(candidates=["c"])).status == 409

    asyncio.run(run())


def test_a_decision_that_is_refused_is_never_logged_by_itself() -> None:
    """Nobody saw it: it would teach that nobody wanted it."""

    async def run() -> None:
        made = Recommending()
        made.writer.is_away = True
        assert (await made.refusal(decision_id=None)).status == 503
        made.comes_back()
        await made.ask(decision_id="other")
        assert [decision.decision_id for decision in made.logged()] == ["other"]

    asyncio.run(run())


def test_where_nothing_is_decided_nothing_waits() -> None:
    async def run() -> None:
        made = Recommending()
        made.writer.is_held = True
        body = msgspec.json.encode({"decision_id": "d"})  # of an empty catalogue
        assert msgspec.json.decode(await settled(partial(made.recommender.durable_answer, body)))["items"] == []

    asyncio.run(run())


def test_a_decision_that_the_log_never_takes_is_413() -> None:
    async def run() -> None:
        made = Recommending()
        made.writer.max_bytes = 100
        assert (await made.refusal()).status == 413

    asyncio.run(run())


def test_what_is_not_durable_is_answered_at_once_and_waits_in_memory() -> None:
    made = Recommending()
    body = msgspec.json.encode({"decision_id": "d", "candidates": ["a"]})
    answer = asyncio.run(answered(made, body))
    made.reason = "second"
    assert asyncio.run(answered(made, body)) == answer
    assert made.writer.appends == []
    assert made.registry.get_sample_value("steadyrank_repeated_decisions_total") == 1


def test_one_request_that_comes_twice_at_the_same_time_is_one_decision() -> None:
    made = Recommending()
    body = msgspec.json.encode({"decision_id": "d", "candidates": ["a", "b"]})

    async def run() -> None:
        first, second = await asyncio.gather(*(answered(made, body) for _ in range(2)))
        assert first == second

    asyncio.run(run())
    assert made.registry.get_sample_value("steadyrank_repeated_decisions_total") == 1


def test_an_item_that_goes_while_a_request_waits_for_its_turn_is_not_mixed_up() -> None:
    made = Recommending()
    tables, items = ItemTables(slate_loop()), [Item(name) for name in "abc"]
    made.table = tables.changed(made.table, items, None)

    async def run() -> None:
        asked = asyncio.create_task(answered(made, b'{"k": 3, "decision_id": "d"}'))
        await asyncio.sleep(0)  # it was read, and is answered at the end of this turn
        made.table = tables.change(made.table, [Item("a", deleted=True)], None).commit()
        answer = msgspec.json.decode(await asked)
        assert sorted(item["item_id"] for item in answer["items"]) == ["b", "c"]
        assert sorted(item["propensity"] for item in answer["items"]) == [1 / 2, 1.0]

    asyncio.run(run())
