"""The audit of the kill test finds what it is there for: each fault is planted alone in what is otherwise all right."""

import math
from collections.abc import Iterable
from dataclasses import replace

import msgspec
import pytest

from loadtest.chaos.audit import (
    EventFindings,
    LostDecision,
    RewardFindings,
    as_stored,
    audit_decisions,
    audit_events,
    audit_rewards,
)
from loadtest.chaos.killer import Struck
from loadtest.chaos.ledger import Acknowledged, Answered
from loadtest.chaos.run import LOOP
from schemas.loop_file import read_loop
from storage.open_decisions import OpenDecision, StoredEvent
from storage.story import RewardTotal

CHAOS = read_loop(LOOP)
WAIT_SECONDS = CHAOS.reward.wait_seconds

PROMISED = {
    event.event_id: event
    for event in (
        Acknowledged("e1", "d1", "a", "view", 1.0, 100.5, "http"),
        Acknowledged("e2", "d1", "a", "click", 2.0, 101.0, "producer"),
        Acknowledged("e3", "d1", None, "leave", 1.0, 101.0, "spooled"),
        Acknowledged("e4", "d2", "b", "view", 1.0, 110.0, "producer"),
    )
}
STORED = [as_stored(event) for event in PROMISED.values()]
D1 = OpenDecision("d1", 100.0, "learned", ("a", "b"), False, (), (2.0, None), True, 104.0)
D2 = OpenDecision("d2", 109.0, "explore", ("a", "b"), False, (), (None, 0.0), False, 113.0)
TOTALS = [RewardTotal(100, "learned", 1, 2.0, 4.0), RewardTotal(108, "explore", 1, 0.0, 0.0)]


def events(stored: Iterable[StoredEvent], *waiting: str) -> EventFindings:
    return audit_events(PROMISED, stored, lambda: waiting)


def rewards(
    *decisions: OpenDecision,
    happened: Iterable[StoredEvent] = STORED,
    totals: Iterable[RewardTotal] = TOTALS,
    watermark: float = 200.0,
) -> RewardFindings:
    return audit_rewards(decisions, happened, totals, CHAOS, watermark)


def test_all_is_well() -> None:
    assert events(STORED) == EventFindings(num_stored=4)
    assert rewards(D1, D2) == RewardFindings(num_decisions=2, num_final=2)


def test_where_nothing_is_missing_nobody_searches_for_it() -> None:
    def search() -> set[str]:
        raise AssertionError

    audit_events(PROMISED, STORED, search)


def test_an_event_that_is_nowhere_is_lost_and_one_that_may_still_come_is_stuck() -> None:
    found = events([STORED[0], STORED[2]], "e4", "e9")
    assert (found.lost, found.stuck, found.num_stored) == (["e2"], ["e4"], 2)


def test_an_event_that_is_stored_twice_is_found() -> None:
    again = STORED[1]._replace(received_at=86_400.0)
    assert events([*STORED, again]).duplicated == ["e2"]


@pytest.mark.parametrize(
    "change", [{"value": 1.0}, {"item_id": None}, {"decision_id": "d2"}, {"kind": "view"}, {"occurred_at": 101.001}]
)
def test_an_event_that_is_stored_as_another_is_found(change: dict[str, object]) -> None:
    found = events([STORED[0], STORED[1]._replace(**change), *STORED[2:]])  # type: ignore[arg-type]  # one of its fields
    assert (found.changed, found.num_stored) == (["e2"], 3)


def test_an_event_that_nobody_was_told_of_may_be_stored() -> None:
    more = StoredEvent("feedback:0:17:2", "d1", "b", "click", 1.0, 101.5, 101.6)
    assert events([*STORED, more]) == EventFindings(num_stored=4, unacknowledged=[more])


@pytest.mark.parametrize("wrong", [(1.0, None), (2.0, 0.0), (None, None), None])
def test_a_reward_that_its_events_do_not_make_is_wrong(wrong: tuple[float | None, ...] | None) -> None:
    assert rewards(replace(D1, rewards=wrong), D2).wrong == ["d1"]


def test_an_end_of_the_session_that_is_missing_is_wrong() -> None:
    assert rewards(replace(D1, terminated=False), D2).wrong == ["d1"]


def test_a_reward_is_made_of_what_happened_not_of_what_is_stored() -> None:
    lost = as_stored(Acknowledged("e5", "d2", "b", "purchase", 1.0, 110.5, "http"))
    assert rewards(D1, D2, happened=[*STORED, lost]).wrong == ["d2"]


def test_an_event_after_the_window_does_not_count() -> None:
    late = as_stored(Acknowledged("e5", "d2", "b", "click", 1.0, D2.decided_at + WAIT_SECONDS + 0.001, "http"))
    assert rewards(D1, D2, happened=[*STORED, late]).wrong == []


@pytest.mark.parametrize(("watermark", "found"), [(D2.decided_at + WAIT_SECONDS, ["d2"]), (109.0, [])])
def test_a_decision_may_be_open_only_until_the_watermark(watermark: float, found: list[str]) -> None:
    is_open = replace(D2, rewards=None, final_at=None)
    assert rewards(D1, is_open, totals=TOTALS[:1], watermark=watermark).open == found


def test_a_decision_that_is_stored_twice_is_found() -> None:
    assert rewards(D1, D2, D1) == RewardFindings(num_decisions=2, num_final=2, repeated=["d1"])


@pytest.mark.parametrize(
    "totals", [[], TOTALS[1:], [*TOTALS, TOTALS[0]], [replace(TOTALS[0], reward_sum=2.5), TOTALS[1]]]
)
def test_sums_that_were_added_up_otherwise_are_found(totals: list[RewardTotal]) -> None:
    assert not rewards(D1, D2, totals=totals).are_totals_right


def struck(number: int, at: float, action: str = "kill", victim: str = "serve") -> Struck:
    return msgspec.convert(
        {"victim": victim, "number": number, "action": action, "began_at": at, "ended_at": at + 1}, Struck
    )


ANSWERED = {
    answer.decision_id: answer
    for answer in (
        Answered("d1", ("a", "b"), 100.0, 0),
        Answered("d2", ("a", "b"), 109.0, 0),
        Answered("d3", ("a", "b"), 109.0, 1),
    )
}


def test_decisions_that_are_lost_go_to_the_next_kill_of_the_ranker_that_gave_them() -> None:
    strikes = [struck(1, 120.0), struck(1, 100.5), struck(2, 109.1, "stop"), struck(1, 109.5, victim="ingest")]
    found = audit_decisions(ANSWERED, {"d4": ()}, PROMISED.values(), strikes)
    assert found.lost == [
        LostDecision("d1", 0.5, 100.5),
        LostDecision("d2", 11.0, 120.0),
        LostDecision("d3", math.inf, math.inf),
    ]
    assert found.lost_by_kill() == {100.5: 1, 120.0: 1}
    assert (found.num_answered, found.num_events_of_lost) == (3, 4)


def test_an_answer_that_was_read_just_after_the_kill_was_lost_by_it() -> None:
    lost = audit_decisions(ANSWERED, {}, [], [struck(1, 99.8), struck(1, 108.0), struck(1, 130.0)]).lost
    assert [round(each.age_seconds, 6) for each in lost] == [-0.2, 21.0, math.inf]


def test_a_retry_that_got_another_slate_than_is_stored_is_counted() -> None:
    found = audit_decisions(ANSWERED, {"d1": ("a", "b"), "d2": ("b", "a"), "d3": ("a", "b")}, PROMISED.values(), [])
    assert (found.lost, found.num_other_slates, found.num_events_of_lost) == ([], 1, 0)
