"""Events → rewards, with numbers worked out by hand."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.loop_file import Loop
from storage.open_decisions import OpenDecision, StoredEvent
from trainer.ingest.finality import reward_changes
from trainer.ingest.reward_rule import outcome_of

DECIDED_AT = 1_000.0
NOW = 2_000.0


def loop(session_ends: Sequence[str] = ("leave",), **reward: object) -> Loop:
    """Click 1, purchase 5, dislike -2; a window of 10 s."""
    rule = {"click": 1.0, "purchase": 5.0, "dislike": -2.0, "wait": "10s"} | reward
    return Loop.model_validate(
        {
            "name": "test",
            "item": {"id": {"kind": "category", "buckets": 8}},
            "action": {"kind": "slate", "size": 4},
            "reward": rule,
            "session": {"ends": session_ends},
            "learner": {"agent": "dqn"},
            "exploration": {"kind": "softmax"},
        }
    )


def event(
    kind: str, item_id: str | None = None, after: float = 1.0, value: float = 1.0, event_id: str | None = None
) -> StoredEvent:
    name = event_id or f"{kind}-{item_id}-{after}-{value}"
    return StoredEvent(name, "d", item_id, kind, value, DECIDED_AT + after, NOW)


def decision(*events: StoredEvent, items: str = "abcd", **changes: Any) -> OpenDecision:
    fields: dict[str, Any] = {
        "decision_id": "d",
        "decided_at": DECIDED_AT,
        "mode": "learned",
        "item_ids": tuple(items),
        "is_weights": False,
        "events": events,
        "rewards": None,
        "terminated": False,
        "final_at": None,
    }
    return OpenDecision(**fields | changes)


def rewards(rule: Loop, *events: StoredEvent, **changes: Any) -> tuple[float | None, ...]:
    return outcome_of(decision(*events, **changes), rule).rewards


def test_each_item_gets_its_own_events() -> None:
    events = (event("click", "a"), event("purchase", "a", 2), event("click", "c", value=0.5), event("dislike", "d"))
    assert rewards(loop(), *events) == (6.0, 0.0, 0.5, -2.0)


def test_nothing_happened_is_the_default() -> None:
    assert rewards(loop(default=-0.1)) == (-0.1, -0.1, -0.1, -0.1)
    assert rewards(loop(default=-0.1), event("leave", "a")) == (-0.1, -0.1, -0.1, -0.1)


def test_an_item_outside_the_slate_brings_nothing() -> None:
    assert rewards(loop(), event("purchase", "z")) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(("after", "reward"), [(-1e9, 1.0), (0.0, 1.0), (10.0, 1.0), (10.001, 0.0)])
def test_the_window_is_closed_at_its_end_and_open_to_the_past(after: float, reward: float) -> None:
    assert rewards(loop(), event("click", "a", after))[0] == reward


def test_an_event_of_the_whole_decision_is_shared() -> None:
    assert rewards(loop(), event("purchase"), event("click", "b")) == (1.25, 2.25, 1.25, 1.25)


@pytest.mark.parametrize(("aggregate", "reward"), [("sum", 4.5), ("max", 5.0), ("first", 1.5), ("last", -2.0)])
def test_aggregates(aggregate: str, reward: float) -> None:
    events = (event("dislike", "a", 3), event("purchase", "a", 2), event("click", "a", 1, value=1.5))
    assert rewards(loop(aggregate=aggregate), *events)[0] == reward


def test_a_share_takes_its_turn_among_an_item_own_events() -> None:
    events = (event("purchase", None, 1), event("click", "a", 2))
    assert rewards(loop(aggregate="first"), *events) == (1.25, 1.25, 1.25, 1.25)
    assert rewards(loop(aggregate="last"), *events) == (1.0, 1.25, 1.25, 1.25)
    assert rewards(loop(aggregate="max"), *events) == (1.25, 1.25, 1.25, 1.25)


def test_events_of_one_time_are_in_order_of_their_ids_and_early_ones_are_at_the_decision() -> None:
    same_time = (event("dislike", "a", 1, event_id="2"), event("click", "a", 1, event_id="1"))
    assert rewards(loop(aggregate="first"), *same_time)[0] == 1.0
    early = (event("dislike", "a", -5, event_id="2"), event("click", "a", 0, event_id="1"))
    assert rewards(loop(aggregate="first"), *early)[0] == 1.0


def test_with_seen_only_what_was_seen_is_an_impression() -> None:
    rule = loop(seen="view")
    assert rewards(rule) == (None, None, None, None)
    assert rewards(rule, event("view", "a"), event("click", "c")) == (0.0, None, 1.0, None)
    assert rewards(rule, event("leave", "b")) == (None, 0.0, None, None)
    assert rewards(rule, event("view", "a", 10.5)) == (None, None, None, None)
    assert rewards(rule, event("view", "z")) == (None, None, None, None)


def test_with_seen_a_reward_of_the_whole_decision_is_shared_over_what_was_seen() -> None:
    rule = loop(seen="view")
    assert rewards(rule, event("view", "a"), event("view", "b"), event("purchase")) == (2.5, 2.5, None, None)
    assert rewards(rule, event("purchase")) == (1.25, 1.25, 1.25, 1.25)
    assert rewards(rule, event("leave")) == (None, None, None, None)
    assert rewards(rule, event("view"), event("click", "b")) == (0.0, 1.0, 0.0, 0.0)


def test_seen_itself_may_be_worth_something() -> None:
    assert rewards(loop(seen="click"), event("click", "a")) == (1.0, None, None, None)


def test_weights_have_one_number_for_all_their_events() -> None:
    events = (event("click", "x"), event("purchase"), event("click", "y", value=3))
    assert rewards(loop(), *events, items="", is_weights=True) == (9.0,)
    assert rewards(loop(default=0.5), items="", is_weights=True) == (0.5,)


def test_an_empty_slate_has_no_rewards() -> None:
    assert rewards(loop(seen="view"), event("purchase"), items="") == ()


def test_a_session_ends_with_an_event_inside_the_window() -> None:
    assert outcome_of(decision(event("leave")), loop()).terminated
    assert outcome_of(decision(event("leave", "a")), loop()).terminated
    assert not outcome_of(decision(event("leave", after=11)), loop()).terminated
    assert not outcome_of(decision(event("click")), loop()).terminated


def test_the_first_closing_event_closes() -> None:
    rule = loop(closes=["purchase", "leave"])
    events = (event("leave", None, 4), event("purchase", "a", 3), event("click", "a", 1))
    assert outcome_of(decision(*events), rule).closed_at == DECIDED_AT + 3
    assert outcome_of(decision(event("purchase", "a", -3)), rule).closed_at == DECIDED_AT
    assert outcome_of(decision(event("purchase", "a", 11)), rule).closed_at is None
    assert outcome_of(decision(event("click", "a")), rule).closed_at is None


_events = st.lists(
    st.builds(
        event,
        st.sampled_from(["click", "purchase", "dislike", "view", "leave"]),
        st.sampled_from([None, "a", "b", "z"]),
        st.sampled_from([-1.0, 0.0, 1.0, 10.0, 11.0]),
        st.sampled_from([0.0, 0.5, 1.0]),
    ),
    unique_by=lambda each: each.event_id,
    max_size=6,
)


@given(_events, st.randoms(use_true_random=False), st.sampled_from(["sum", "max", "first", "last"]))
def test_the_order_of_arrival_does_not_matter(events: list[StoredEvent], random: Any, aggregate: str) -> None:
    rule = loop(seen="view", aggregate=aggregate, closes=["purchase"])
    shuffled = random.sample(events, len(events))
    assert outcome_of(decision(*shuffled), rule) == outcome_of(decision(*events), rule)


# ------------------------------------------------------------------ when it becomes final

RULE = loop(closes=["purchase"])


def final(*events: StoredEvent, rewards: Sequence[float], terminated: bool = False) -> OpenDecision:
    return decision(*events, rewards=tuple(rewards), terminated=terminated, final_at=1_500.0)


def test_what_is_due_becomes_final_and_what_closed_does_at_once() -> None:
    closed = decision(event("purchase", "a"), decision_id="closed")
    still_open = decision(event("click", "a"), decision_id="open")
    changes = reward_changes([decision(event("click", "b"))], [closed, still_open], set(), RULE, NOW)
    assert [(row.decision_id, row.rewards, row.final_at, row.corrected_at) for row in changes.finals] == [
        ("d", (0.0, 1.0, 0.0, 0.0), NOW, None),
        ("closed", (5.0, 0.0, 0.0, 0.0), NOW, None),
    ]
    assert changes.corrections == []


def test_a_decision_both_due_and_touched_is_written_once() -> None:
    both = decision(event("purchase", "a"))
    assert len(reward_changes([both], [both], {"purchase-a-1.0-1.0"}, RULE, NOW).finals) == 1


def test_an_event_after_closing_corrects() -> None:
    events = (event("purchase", "a", 1), event("click", "b", 2))
    changes = reward_changes([], [final(*events, rewards=[5, 0, 0, 0])], {events[1].event_id}, RULE, NOW)
    (row,) = changes.corrections
    assert (row.rewards, row.final_at, row.corrected_at) == ((5.0, 1.0, 0.0, 0.0), 1_500.0, NOW)


def test_a_late_end_of_the_session_corrects() -> None:
    leave = event("leave")
    (row,) = reward_changes([], [final(leave, rewards=[0] * 4)], {leave.event_id}, RULE, NOW).corrections
    assert row.terminated


@pytest.mark.parametrize(
    "new",
    [
        pytest.param(event("click", "a", 11), id="outside the window"),
        pytest.param(event("leave", "a", 11), id="end outside the window"),
        pytest.param(event("click", "z"), id="item not shown"),
        pytest.param(event("click", "a", value=0.0), id="worth nothing"),
    ],
)
def test_what_changes_nothing_corrects_nothing(new: StoredEvent) -> None:
    assert not reward_changes([], [final(new, rewards=[0] * 4)], {new.event_id}, RULE, NOW).corrections


def test_a_changed_rule_leaves_final_rewards_alone() -> None:
    old, late = event("click", "a"), event("click", "a", 11)
    known = final(old, late, rewards=[7, 0, 0, 0])  # by an earlier rule
    assert not reward_changes([], [known], {late.event_id}, RULE, NOW).corrections


def test_events_about_items_that_were_not_shown_are_counted_once() -> None:
    early, late = event("click", "y"), event("click", "z")
    due = [
        decision(early, event("click", "a")),
        decision(event("click", "q"), items="", is_weights=True, decision_id="w"),
    ]
    assert reward_changes(due, [decision(early, decision_id="open")], {early.event_id}, RULE, NOW).num_strangers == 1
    known = [final(early, late, rewards=[0] * 4)]
    assert reward_changes([], known, {late.event_id}, RULE, NOW).num_strangers == 1
