"""The join where transactions really overlap: consumers freeze and die within theirs while others write."""

import uuid
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from sqlalchemy import Engine

from loadtest.parts.postgresql import LocalPostgres
from schemas.tables import POSTGRESQL, STORE
from storage.database import migrate, open_store, writing
from tests.property.join_messages import DecisionMessage, EventMessage
from tests.property.join_stories import START, Append, Round, Step, Story, Tick
from tests.property.join_strategies import PHASES, overlapping_stories
from tests.property.join_world import JoinWorld

Begin = Callable[[Story], JoinWorld]

LOCK_SECONDS = 0.01  # all consumers step in one thread, so what is locked stays so


@pytest.fixture(scope="module")
def engine(postgresql: LocalPostgres) -> Iterator[Engine]:
    name = f"join_{uuid.uuid4().hex}"
    url = postgresql.create_database(name)
    migrate(url)
    engine = open_store(url, busy_seconds=LOCK_SECONDS)
    yield engine
    engine.dispose()
    postgresql.drop_database(name)


@pytest.fixture(scope="module")
def begin(engine: Engine) -> Begin:
    """A world with an empty store."""

    def make(story: Story) -> JoinWorld:
        with writing(engine) as connection:
            for table in (*STORE.tables.values(), *POSTGRESQL.tables.values()):
                connection.execute(table.delete())
        return JoinWorld(engine, story)

    return make


@pytest.mark.slow
@settings(max_examples=30, deadline=None, phases=PHASES)
@given(overlapping_stories())
def test_consumers_that_freeze_within_their_transactions_change_nothing(begin: Begin, story: Story) -> None:
    begin(story).tell()


def test_an_event_and_the_end_of_its_window_may_be_written_at_once(begin: Begin) -> None:
    """Consumer 0 stands still in the transaction that writes a late event, while 1 would make its decision final."""
    decision, click = DecisionMessage("d0", START), EventMessage("e0", "d0", occurred_at=START + 1)
    was_corrected = []
    for frozen_at in range(12):
        frozen = Step(0, frozen_at=frozen_at, meanwhile=(Step(1),))
        actions = (Append("decisions", 0, (0,)), Round(), Tick(20.0), Step(0), Append("feedback", 1, (0,)), frozen)
        world = begin(Story((decision,), (click,), actions, num_feedback_partitions=2, num_consumers=2))
        world.tell()
        was_corrected += world.rows("SELECT corrected_at IS NOT NULL FROM rewards")
    # Where it stood still early the other one was first; later, it had to wait.
    assert was_corrected == sorted(was_corrected, reverse=True)
    assert set(was_corrected) == {(True,), (False,)}
