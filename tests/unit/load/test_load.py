"""What shoppers of a load test do, without any: asking again, contexts for any loop, counts and ids."""

from pathlib import Path
from random import Random

import numpy as np
import pytest

from loadtest.load.asking import Answer, ask
from loadtest.load.products import LoopProduct, Response, WorldProduct
from loadtest.load.tally import Tally, compare
from schemas.loop_file import parse_loop, read_loop
from schemas.messages import Features, RankedItem, Recommendation
from simulators.shop import Shop

ROOT = Path(__file__).parents[3]


def asked(answers: list[Answer], *, over_after: int = 99) -> tuple[Answer, list[float]]:
    left, pauses = list(answers), list[float]()

    def attempt() -> Answer:
        return left.pop(0)

    return ask(attempt, pauses.append, lambda: len(pauses) >= over_after, Random(0)), pauses


def test_what_failed_is_asked_again_and_no_sooner_than_retry_after() -> None:
    good = Answer(200, b"{}")
    answer, pauses = asked([Answer(0), Answer(503, retry_after="3"), Answer(429), good])
    assert answer is good
    assert 0.025 <= pauses[0] <= 0.05
    assert pauses[1] == 3.0
    assert 0.1 <= pauses[2] <= 0.2


def test_a_mistake_is_not_asked_again_and_nothing_is_once_the_run_is_over() -> None:
    assert asked([Answer(422)]) == (Answer(422), [])
    assert asked([Answer(503), Answer(503)], over_after=1)[0] == Answer(503)


def test_a_retry_after_that_is_a_date_or_too_long_is_bounded() -> None:
    assert Answer(503, retry_after="Wed, 21 Oct 2026 07:28:00 GMT").retry_after_seconds == 0
    assert Answer(503, retry_after="3600").retry_after_seconds == 5


def recommendation(*item_ids: str) -> Recommendation:
    return Recommendation("d", [RankedItem(item_id, 0.0, 0.5) for item_id in item_ids], None, "fallback")


def test_users_of_a_loop_file_click_what_they_look_at_and_end_their_sessions() -> None:
    product = LoopProduct(read_loop(ROOT / "loop.toml"), click_rate=1.0, num_items=3, seed=0)
    assert [item.item_id for item in product.catalogue()] == ["load-0", "load-1", "load-2"]
    assert all(set(item.features) == {"price"} for item in product.catalogue())
    visit = product.visit(np.random.default_rng(0))
    responses, contexts = list[Response](), list[Features]()
    while not responses or not responses[-1].is_last:
        contexts.append(visit.request().context or {})
        responses.append(visit.respond(recommendation("a", "b")))
    assert all(set(context) == {"page", "age", "history"} for context in contexts)
    assert all(0 <= context["page"] <= 100 for context in contexts)
    assert contexts[0]["history"] == []
    assert len(contexts) == 1 or contexts[1]["history"][0] == "a"
    assert {event.kind for response in responses for event in response.events} <= {"click", "purchase", "leave"}
    assert all(response.events[0].item_id == "a" for response in responses)
    assert responses[-1].events[-1].kind == "leave"


LOOP = """
name = "all kinds"
[state]
a = { kind = "number" }
b = { kind = "number", min = -3, max = -1 }
c = { kind = "category", size = 4 }
d = { kind = "category", buckets = 8 }
e = { kind = "categories", values = ["x", "y"], length = 2 }
f = { kind = "vector", dim = 3 }
g = { kind = "number", min = 1, scale = "log" }
[action]
kind = "weights"
dim = 2
[reward]
view = 0.0
click = 1.0
seen = "view"
wait = "1s"
[learner]
agent = "ddpg"
[exploration]
kind = "gaussian"
"""


def test_contexts_of_every_kind_of_feature_are_taken_without_a_problem() -> None:
    loop = parse_loop(LOOP)
    visit = LoopProduct(loop, click_rate=0.0, num_items=0, seed=0).visit(np.random.default_rng(0))
    for _ in range(20):
        context = visit.request().context or {}
        assert set(context) == set(loop.state)
        assert -3 <= context["b"] <= -1
        assert 0 <= context["c"] < 4
        assert set(context["e"]) <= {"x", "y"}
        assert len(context["f"]) == 3
        assert context["g"] >= 1
    [event] = [event for event in visit.respond(recommendation()).events if event.kind == "view"]
    assert event.item_id is None, "without items it speaks of the whole decision"


def test_shoppers_of_a_world_know_what_chance_is_worth() -> None:
    product = WorldProduct(Shop(0), seed=0)
    assert product.random_reward == pytest.approx(0.21, abs=0.02)
    visit = product.visit(np.random.default_rng(0))
    assert (visit.request().candidates or [])[0]
    response = visit.respond(recommendation("item-1"))
    assert response.reward in {0.0, 1.0}


def test_the_reward_at_the_end_is_that_of_the_last_third() -> None:
    tally = Tally()
    for second in range(30):
        tally.decided(second, f"v{second // 10}", 1.0 if second >= 19 else 0.0)
    assert tally.end_reward() == 1.0
    assert tally.learning(0.5)["times_random"] == 2.0
    assert tally.learning(0.5)["policies"] == 3
    assert Tally().end_reward() is None


def test_a_worker_tells_each_thing_once() -> None:
    whole, part = Tally(), Tally()
    for number in range(2):
        part.decided(7, None, 2.0)
        part.sent([f"e{number}"], is_acknowledged=number == 0)
        whole.add(part.take())
    assert (whole.decisions, whole.rewards) == ({7: 2}, {7: 4.0})
    assert (whole.acknowledged, whole.unanswered) == (["e0"], ["e1"])


def test_events_are_compared_by_id_so_that_one_too_many_makes_up_for_none_lost() -> None:
    assert compare(["a", "b"], ["c"], ["b", "c", "x"]) == {"acknowledged": 2, "stored": 3, "lost": 1, "unexplained": 1}
