"""What the ranker says is heard over HTTP, and adds up over its restarts."""

import json

import msgspec
import pytest

from service.up import ranker
from service.up.ranker import ConsoleData, RankerRecord, fetch
from tests.e2e.fake_ranker import Data, FakeRanker, newborn

NOW = 10_000.0
WAIT = 10.0


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ranker that answers late on a busy machine is not away."""
    monkeypatch.setattr(ranker, "_TIMEOUT_SECONDS", 60.0)


def said(now: float = NOW, **fields: object) -> ConsoleData:
    return msgspec.json.decode(json.dumps(newborn(now) | fields), type=ConsoleData)


def row(at: float, decisions: int, **means: float) -> Data:
    return {"at": at, "decisions": decisions, "learned": None, "fallback": None, "control": None} | means


def record(*answers: ConsoleData) -> RankerRecord:
    record = RankerRecord()
    for answer in answers:
        record.add(answer)
    return record


def totals(decisions: int, feedback_accepted: int) -> Data:
    return {"decisions": decisions, "feedback_accepted": feedback_accepted, "swaps": 0}


def test_a_ranker_is_heard() -> None:
    fake = FakeRanker()
    fake.answer = lambda now: newborn(now) | {"decisions_per_second": 412.3}
    with fake.serving():
        data = fetch(fake.url, None, 90)
    assert data is not None
    assert data.decisions_per_second == 412.3
    assert data.loop.wait_seconds == WAIT
    assert data.policy is None


def test_a_ranker_that_asks_for_a_key_gets_one() -> None:
    fake = FakeRanker()
    fake.key = "secret"
    with fake.serving():
        assert fetch(fake.url, None, 90) is None
        assert fetch(fake.url, "secret", 90) is not None


def test_a_ranker_that_is_away_or_talks_nonsense_says_nothing() -> None:
    fake = FakeRanker()
    fake.answer = lambda _: {"now": "soon"}
    with fake.serving():
        assert fetch(fake.url, None, 90) is None
    assert fetch(fake.url, None, 90) is None


def test_counts_go_on_when_it_is_restarted() -> None:
    heard = record(
        said(totals=totals(100, 40), swaps=[{"at": 1.0, "version": "000001"}, {"at": 2.0, "version": "000002"}]),
        said(totals=totals(300, 90), swaps=[{"at": 3.0, "version": "000003"}]),
        said(totals=totals(10, 4), swaps=[{"at": 9.0, "version": "000003"}]),
        said(totals=totals(20, 5), swaps=[{"at": 9.0, "version": "000003"}, {"at": 10.0, "version": "000004"}]),
    )
    assert heard.totals.decisions == 320
    assert heard.totals.feedback_accepted == 95
    assert heard.versions == {"000001", "000002", "000003", "000004"}


def test_freshness_is_weighted_by_the_counts_of_its_lives() -> None:
    lives: list[Data] = [{"p50": 1.0, "p95": 2.0, "count": 300}, {"p50": 2.0, "p95": 4.0, "count": 100}]
    one = record(said(totals=totals(5, 0), freshness_total=lives[0]))
    assert (one.freshness.p50, one.freshness.p95) == (1.0, 2.0)
    one.add(said(totals=totals(0, 0), freshness_total={"p50": None, "p95": None, "count": 0}))
    assert (one.freshness.p50, one.freshness.p95) == (1.0, 2.0), "a ranker that has just started knows none"
    one.add(said(totals=totals(1, 0), freshness_total=lives[1]))
    assert one.freshness.p50 == pytest.approx(1.25)
    assert one.freshness.p95 == pytest.approx(2.5)
    assert one.freshness.count == 400


def test_the_last_minute_is_of_decisions_that_are_final() -> None:
    rows = [
        row(NOW - WAIT - 64, 1000, learned=9.0),  # older than a minute
        row(NOW - WAIT - 60, 100, learned=0.2),
        row(NOW - WAIT - 2, 300, learned=0.4),
        row(NOW - WAIT, 1000, learned=9.0),  # its window is open
    ]
    assert record(said(reward=rows)).last_minute_reward() == pytest.approx((100 * 0.2 + 300 * 0.4) / 400)


def test_before_the_first_policy_the_last_minute_is_the_fallback_s() -> None:
    assert record(said(reward=[row(NOW - 40, 10, fallback=0.2)])).last_minute_reward() == pytest.approx(0.2)
    assert record(said()).last_minute_reward() is None
    assert record().last_minute_reward() is None


def test_the_fallback_s_first_minute_is_remembered() -> None:
    heard = record(
        said(NOW, reward=[row(NOW - 20, 10, fallback=0.1), row(NOW - 4, 1, fallback=9.0)]),
        said(NOW + 50, reward=[row(NOW - 4, 30, fallback=0.3), row(NOW + 38, 20, fallback=0.1)]),
        said(NOW + 90, reward=[row(NOW + 40, 100, fallback=9.0), row(NOW + 60, 5, learned=0.9)]),
    )
    assert heard.first_fallback_reward() == pytest.approx((10 * 0.1 + 30 * 0.3 + 20 * 0.1) / 60)


def test_the_figures_of_the_last_champion_stay_when_the_ranker_starts_anew() -> None:
    heard = record(said(totals=totals(5, 0), learner={"noise_share": 0.9}), said(totals=totals(0, 0), learner={}))
    assert heard.learner == {"noise_share": 0.9}
