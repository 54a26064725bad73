"""Stories, drawn by hypothesis.

All times lie on a grid of quarters of a second, so that they are exact and often equal.
"""

from dataclasses import replace
from itertools import chain

from hypothesis import Phase
from hypothesis import strategies as st

from tests.property.join_messages import GARBAGE, WAIT_SECONDS, DecisionMessage, EventMessage, Rule
from tests.property.join_stories import (
    MAX_CONSUMERS,
    START,
    Action,
    Append,
    Learn,
    Move,
    Rejoin,
    Round,
    Step,
    Story,
    Tick,
)

MAX_PARTITIONS = 3
MAX_MESSAGES = 10
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)  # to explain a failure would take minutes

_rules = st.builds(
    Rule,
    is_weights=st.sampled_from([False, False, True]),
    aggregate=st.sampled_from(["sum", "max", "first", "last"]),
    closes=st.sampled_from([(), ("purchase",), ("purchase", "click"), ("leave",)]),
    seen=st.sampled_from([None, None, "view"]),
    default=st.sampled_from([0.0, -0.5]),
)
_decisions = st.builds(
    DecisionMessage,
    decision_id=st.just(""),  # numbered by `_numbered`
    decided_at=st.sampled_from(
        [START + at for at in (0.0, 0.25, 1.0, 2.0, 3.0, 5.0, 8.0, 20.0, 35.0, 50.0, -9.0, -40.0, 290.0, 700.0)]
    ),
    session_id=st.sampled_from(["s", "s", "t", None]),
    user_id=st.sampled_from([None, "u"]),
    num_items=st.sampled_from([2, 2, 1, 3, 0]),
    propensity=st.sampled_from([0.5, 0.5, 0.5, None]),
)
_LOST = -1  # of a decision that was never logged
_AFTER = (0.0, 1.0, 1.0, 2.0, 3.0, 5.0, 9.75, WAIT_SECONDS, None, -120.0, -0.25, WAIT_SECONDS + 0.25, 60.0, 400.0)
_events = st.tuples(
    st.sampled_from([0, 0, 0, 1, 1, 2, 3, _LOST]),  # of which decision
    st.sampled_from(_AFTER),  # seconds from it on; None: the event does not say
    st.builds(
        EventMessage,
        event_id=st.sampled_from(["named", "named", "named", None]),
        decision_id=st.just(""),
        kind=st.sampled_from(["click", "click", "purchase", "purchase", "dislike", "view", "leave", "unheard-of"]),
        item_id=st.sampled_from(["a", "a", "b", "c", "z", None, None]),
        value=st.sampled_from([None, None, 0.0, 0.5, 3.0]),
    ),
)

_topics = st.sampled_from(["decisions", "feedback"])
_partitions = st.integers(0, MAX_PARTITIONS - 1)
_consumers = st.integers(0, MAX_CONSUMERS - 1)
_appends = st.builds(
    Append,
    _topics,
    _partitions,
    messages=st.lists(st.integers(0, MAX_MESSAGES - 1), min_size=1, max_size=4).map(tuple),
    garbage=st.sampled_from([None] * 45 + sorted(GARBAGE)),
    unseen_seconds=st.sampled_from([0.0, 0.0, 0.5, 0.75]),
)
_ticks = st.builds(Tick, st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0, 5.0] * 2 + [9.0, 11.0, 11.0, 60.0]))
_moves = st.builds(Move, _topics, _partitions, _consumers, st.booleans())


def _steps(consumer: st.SearchStrategy[int], **trouble: st.SearchStrategy[object]) -> st.SearchStrategy[Step]:
    return st.builds(
        Step,
        consumer,
        max_records=st.sampled_from([1, 1, 2, 3, 1_000]),
        first_turn=st.integers(0, 2 * MAX_PARTITIONS),
        asks_for_ends=st.sampled_from([True, True, False]),
        **trouble,
    )


_rounds = st.tuples(*(_steps(st.just(number)) for number in range(MAX_CONSUMERS))).map(Round)
_others: st.SearchStrategy[Action] = st.one_of(
    _steps(_consumers), _appends, _ticks, _moves, st.builds(Rejoin, _consumers)
)


def _troubled(frozen_at: st.SearchStrategy[str | int]) -> st.SearchStrategy[Step]:
    return _steps(
        _consumers,
        is_log_away=st.sampled_from([False] * 9 + [True]),
        meanwhile=st.lists(_others, max_size=5).map(tuple),
        frozen_at=frozen_at,
        dies_at=st.sampled_from([None, None, *range(12)]),
        is_reborn=st.booleans(),
    )


def _actions(*more: st.SearchStrategy[tuple[Action, ...]]) -> st.SearchStrategy[tuple[Action, ...]]:
    some: st.SearchStrategy[tuple[Action, ...]] = st.one_of(
        *(st.tuples(each) for each in (_appends, _ticks, _others, _rounds)),
        st.tuples(_appends, _rounds, st.just(Learn())),
        st.tuples(_appends, _appends, _rounds),
        st.tuples(_rounds, st.just(Learn())),
        *more,
    )
    # Lists of lists, because a list alone is short on average.
    return st.lists(st.lists(some, max_size=8), max_size=8).map(lambda all_: tuple(chain(*chain(*all_))))


def _numbered(
    decisions: list[DecisionMessage], events: list[tuple[int, float | None, EventMessage]]
) -> tuple[tuple[DecisionMessage, ...], tuple[EventMessage, ...]]:
    decided = tuple(replace(each, decision_id=f"d{number}") for number, each in enumerate(decisions))
    return decided, tuple(
        replace(
            event,
            # A copy without a time happens at another one, so it must not bear the same id.
            event_id=f"e{number}" if event.event_id and after is not None else None,
            decision_id="lost" if of == _LOST else decided[of % len(decided)].decision_id,
            occurred_at=None
            if after is None
            else (START if of == _LOST else decided[of % len(decided)].decided_at) + after,
        )
        for number, (of, after, event) in enumerate(events)
    )


def _story(
    decisions: list[DecisionMessage],
    events: list[tuple[int, float | None, EventMessage]],
    actions: tuple[Action, ...],
    **settings: object,
) -> Story:
    return Story(*_numbered(decisions, events), actions, **settings)  # type: ignore[arg-type]  # they fit


def _stories(actions: st.SearchStrategy[tuple[Action, ...]]) -> st.SearchStrategy[Story]:
    return st.builds(
        _story,
        st.lists(_decisions, min_size=2, max_size=4),
        st.lists(_events, min_size=3, max_size=MAX_MESSAGES),
        actions,
        rule=_rules,
        num_decision_partitions=st.integers(1, 2),
        num_feedback_partitions=st.integers(1, MAX_PARTITIONS),
        num_consumers=st.integers(1, MAX_CONSUMERS),
        max_finals=st.sampled_from([1, 2_000, 2_000]),
        num_late=st.integers(0, 3),
    )


def peaceful_stories() -> st.SearchStrategy[Story]:
    """With any number of producers and consumers that all do their work."""
    return _stories(_actions())


def troubled_stories() -> st.SearchStrategy[Story]:
    """With consumers that freeze outside their transactions and die within, and partitions that move."""
    troubled = _troubled(st.sampled_from(["begin", "begin", "poll"]))
    return _stories(_actions(st.tuples(troubled), st.tuples(troubled, _rounds), st.tuples(_moves)))


def overlapping_stories() -> st.SearchStrategy[Story]:
    """With consumers that freeze and die within their transactions, while others write."""
    troubled = _troubled(st.integers(0, 12))
    return _stories(_actions(st.tuples(troubled), st.tuples(troubled), st.tuples(troubled, _rounds)))
