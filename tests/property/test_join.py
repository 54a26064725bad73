"""The join at scale: whatever the order, the copies, the delays and the consumers, the same events give the same
rewards and transitions, nothing is stored twice, and no reward is final before all that counts was read (DESIGN §7.6).

`join_world` plays a story and holds each commit against `join_truth`; `join_strategies` draws the stories.
"""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from sqlalchemy import Engine, event, inspect

from storage.database import migrate, open_store
from storage.event_log import Topic
from storage.offsets import StaleOffsetsError
from tests.property.join_messages import WAIT_SECONDS, DecisionMessage, EventMessage, Rule
from tests.property.join_stories import START, Action, Append, Move, Round, Step, Story, Tick
from tests.property.join_strategies import PHASES, peaceful_stories, troubled_stories
from tests.property.join_world import JoinWorld

Begin = Callable[[Story], JoinWorld]

few = settings(max_examples=20, deadline=None, phases=PHASES)
many = settings(max_examples=100, deadline=None, phases=PHASES)


@pytest.fixture(scope="module")
def begin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begin]:
    """A world with a new store."""
    folder = tmp_path_factory.mktemp("join")
    migrate(f"sqlite:///{folder / 'empty.db'}")
    used: list[Engine] = []

    def make(story: Story) -> JoinWorld:
        while used:
            used.pop().dispose()
        shutil.copyfile(folder / "empty.db", folder / "store.db")
        used.append(engine := open_store(f"sqlite:///{folder / 'store.db'}"))
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        return JoinWorld(engine, story)

    yield make
    while used:
        used.pop().dispose()


@few
@given(peaceful_stories())
def test_the_same_events_give_the_same_rewards(begin: Begin, story: Story) -> None:
    begin(story).tell()


@few
@given(troubled_stories())
def test_consumers_that_freeze_and_die_change_nothing(begin: Begin, story: Story) -> None:
    begin(story).tell()


@pytest.mark.slow
@many
@given(peaceful_stories())
def test_the_same_events_give_the_same_rewards_at_length(begin: Begin, story: Story) -> None:
    begin(story).tell()


@pytest.mark.slow
@many
@given(troubled_stories())
def test_consumers_that_freeze_and_die_change_nothing_at_length(begin: Begin, story: Story) -> None:
    begin(story).tell()


# ------------------------------------------------------------------ by hand

D0 = DecisionMessage("d0", START)
CLICK = EventMessage("e0", "d0", "click", occurred_at=START + 1)
PURCHASE = EventMessage("e1", "d0", "purchase", "b", occurred_at=START + 2)
AT_THE_END = EventMessage("e2", "d0", "click", "b", occurred_at=START + WAIT_SECONDS)
LATE = EventMessage("e3", "d0", "click", "b", occurred_at=START + WAIT_SECONDS + 0.25)
OF_ANOTHER = EventMessage("e4", "another", "click", occurred_at=START)

DECIDE = Append("decisions", 0, (0,))
FEED, FEED_OTHER = Append("feedback", 0, (0,)), Append("feedback", 1, (0,))
NOTHING = Append("feedback", 0, garbage=b"[]")
PURCHASE_CLOSES = Rule(closes=("purchase",))
FINAL = {"d0": (1.0, 0.0)}


@pytest.mark.parametrize(
    ("events", "actions", "settings", "expected"),
    [
        pytest.param((CLICK,), (FEED, Round(), DECIDE, Tick(11.25), Round()), {}, FINAL, id="feedback came first"),
        pytest.param((), (DECIDE, Tick(11.25), Round()), {}, {"d0": (0.0, 0.0)}, id="no feedback"),
        pytest.param((), (DECIDE, Tick(10.75), Round()), {}, {}, id="the margin of the log"),
        pytest.param((CLICK,), (DECIDE, FEED, FEED, FEED_OTHER, Tick(11.25), Round()), {}, FINAL, id="copies"),
        pytest.param(
            (CLICK, AT_THE_END, LATE),
            (DECIDE, Tick(3_600.0), Append("feedback", 0, (2, 1, 0)), Round(), Round()),
            {},
            {"d0": (1.0, 1.0)},
            id="after an hour",
        ),
        pytest.param(
            (CLICK, LATE), (DECIDE, Tick(60.0), Round(), FEED, Round()), {}, FINAL, id="a late event corrects"
        ),
        pytest.param(
            (CLICK, PURCHASE),
            (DECIDE, Round(), Append("feedback", 0, (1,)), Round(), FEED, Round()),
            {"rule": PURCHASE_CLOSES},
            {"d0": (1.0, 5.0)},
            id="what closes does so at once",
        ),
        pytest.param(
            (CLICK,),
            (DECIDE, NOTHING, FEED_OTHER, Tick(3_600.0), Step(0, max_records=1), Step(1, max_records=1), Step(0)),
            {"num_feedback_partitions": 2, "num_consumers": 2},
            {},
            id="one partition lags",
        ),
        pytest.param(
            (CLICK,),
            (DECIDE, FEED_OTHER, Tick(3_600.0), Step(0), Step(0), Step(0)),
            {"num_feedback_partitions": 2, "num_consumers": 3},
            {},
            id="a partition that nobody has read yet",
        ),
        pytest.param(
            (AT_THE_END, OF_ANOTHER),
            (DECIDE, Step(0), Tick(10.0), Append("feedback", 0, (1,)), FEED, Step(0, max_records=1)),
            {},
            {},
            id="another record of the very time at which the window ends",
        ),
    ],
)
def test_what_is_final_when(
    begin: Begin,
    events: tuple[EventMessage, ...],
    actions: tuple[Action, ...],
    settings: dict[str, Any],
    expected: dict[str, tuple[float, float]],
) -> None:
    world = begin(Story((D0,), events, **{"num_feedback_partitions": 2} | settings))
    for action in actions:
        world.act(action)
    assert {id_: each.rewards for id_, each in world.final.items()} == expected
    world.tell()


SAID = (
    DECIDE,
    Append("feedback", 0, (0, 0), unseen_seconds=0.5),
    Append("feedback", 1, (1,)),
    Append("feedback", 1, garbage=b"\xff\x00"),
)


def test_a_death_at_any_point_of_a_step_changes_nothing(begin: Begin) -> None:
    num_points = 0
    for is_reborn in (True, False):
        for dies_at in range(100):
            step = Step(0, dies_at=dies_at, is_reborn=is_reborn)
            actions = (*SAID, Tick(1.0), step, Step(0), Append("feedback", 0, (1, 0)), Tick(20.0), step, Step(0))
            world = begin(Story((D0,), (CLICK, PURCHASE), actions, num_feedback_partitions=2))
            world.tell()
            if world.num_deaths == 0:
                break
            num_points += 1
    assert num_points >= 16


PARTITIONS: tuple[tuple[Topic, int], ...] = (("decisions", 0), ("feedback", 0), ("feedback", 1))


@pytest.mark.parametrize("frozen_at", ["poll", "begin"])
def test_a_frozen_consumer_that_lost_its_partitions_writes_nothing(begin: Begin, frozen_at: Any) -> None:
    world = begin(Story((D0,), (CLICK, PURCHASE), num_feedback_partitions=2, num_consumers=2))
    for topic, number in PARTITIONS:
        world.act(Move(topic, number, to=0))
    for said in SAID:
        world.act(said)
    taken_over: list[object] = []

    def others_take_over() -> None:
        for topic, number in PARTITIONS:
            world.act(Move(topic, number, to=1, is_heard=False))
        world.act(Tick(20.0))
        world.act(Step(1))
        taken_over.append(everything(world))

    with pytest.raises(StaleOffsetsError):
        world.members[0].step(Step(0, frozen_at=frozen_at), others_take_over)
    assert taken_over == [everything(world)]
    world.tell()


def everything(world: JoinWorld) -> dict[str, list[str]]:
    """All rows of the store."""
    tables = inspect(world.engine).get_table_names()
    return {table: sorted(map(repr, world.rows(f"SELECT * FROM {table}"))) for table in tables}
