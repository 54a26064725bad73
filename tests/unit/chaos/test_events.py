"""What the load makes up holds everything that ingest must bear."""

from collections import Counter
from random import Random

from loadtest.chaos.events import Sending, Storyteller
from loadtest.chaos.run import LOOP
from schemas.loop_file import read_loop
from schemas.messages import MAX_FUTURE_SECONDS, FeedbackEvent

NOW, WAIT_SECONDS = 1_000.0, 3.0


def stories(num: int) -> list[list[Sending]]:
    storyteller = Storyteller("h", Random(1), WAIT_SECONDS)
    return [list(storyteller.story(f"d{i}", ("a", "b", "c"), NOW)) for i in range(num)]


STORIES = stories(2_000)
SENDINGS = [sending for story in STORIES for sending in story]
EVENTS = [event for sending in SENDINGS for event in sending.events]


def at(event: FeedbackEvent) -> float:
    assert event.occurred_at is not None
    return event.occurred_at.timestamp()


def test_every_kind_happens_and_no_other() -> None:
    assert {event.kind for event in EVENTS} == read_loop(LOOP).feedback_kinds


def test_an_id_stands_for_one_event_and_some_are_sent_twice() -> None:
    named = [event for event in EVENTS if event.event_id is not None]
    contents = {event.event_id: event for event in named}
    assert all(contents[event.event_id] == event for event in named)
    assert max(Counter(event.event_id for event in named).values()) == 2
    assert 0.05 < 1 - len(named) / len(EVENTS) < 0.15


def test_some_are_late_and_of_those_some_happened_in_time() -> None:
    late = [(sending.at, at(event)) for sending in SENDINGS for event in sending.events if sending.at > NOW + 3]
    assert {occurred <= NOW + WAIT_SECONDS for _, occurred in late} == {True, False}
    assert all(occurred <= sent + 1e-6 for sent, occurred in late), "to the microsecond"
    assert max(sent for sent, _ in late) < NOW + MAX_FUTURE_SECONDS


def test_some_speak_of_what_nobody_decided() -> None:
    unknown = {event.decision_id for event in EVENTS} - {f"d{i}" for i in range(len(STORIES))}
    assert 10 < len(unknown) < 100
