"""What may happen to the join: what producers, consumers, the group and time do, one after the other.

Numbers of partitions, consumers and messages wrap around where a story has fewer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from storage.event_log import Partition, Topic
from tests.property.join_messages import DecisionMessage, EventMessage, Message, Rule

START = 1_800_000_000.0
MAX_CONSUMERS = 3


@dataclass(frozen=True)
class Append:
    """One record: some messages of its topic, by number, or garbage."""

    topic: Topic
    partition: int
    messages: tuple[int, ...] = ()
    garbage: bytes | None = None
    unseen_seconds: float = 0.0


@dataclass(frozen=True)
class Tick:
    seconds: float


@dataclass(frozen=True)
class Step:
    """One step of a consumer, and what befalls it."""

    consumer: int
    max_records: int = 1_000
    first_turn: int = 0
    asks_for_ends: bool = True
    is_log_away: bool = False
    meanwhile: "tuple[Action, ...]" = ()
    """What others do while it stands still…"""
    frozen_at: Literal["poll", "begin"] | int = "begin"
    """…before it reads, between reading and its transaction, or in that before a call, counted from 0."""
    dies_at: int | None = None
    """The call on its transaction that it dies at. Past the last one: just before the commit; then: just after it."""
    is_reborn: bool = True
    """Another process takes its place; else the same one tries again."""


@dataclass(frozen=True)
class Round:
    """A step of each consumer."""

    steps: tuple[Step, ...] = tuple(Step(number) for number in range(MAX_CONSUMERS))


@dataclass(frozen=True)
class Move:
    """The group gives a partition to another consumer. The one that had it may go on reading until it hears of it."""

    topic: Topic
    partition: int
    to: int
    is_heard: bool = True


@dataclass(frozen=True)
class Rejoin:
    """A consumer hears which partitions it has."""

    consumer: int


@dataclass(frozen=True)
class Learn:
    """The learner reads what there is."""


Action = Append | Tick | Step | Round | Move | Rejoin | Learn


@dataclass(frozen=True)
class Story:
    decisions: tuple[DecisionMessage, ...]
    events: tuple[EventMessage, ...] = ()
    actions: tuple[Action, ...] = ()
    rule: Rule = field(default_factory=Rule)
    num_decision_partitions: int = 1
    num_feedback_partitions: int = 1
    num_consumers: int = 1
    max_finals: int = 2_000
    """Of one step."""
    num_late: int = 0
    """So many events, the last ones, come at the end only."""

    @property
    def num_partitions(self) -> dict[Topic, int]:
        return {"decisions": self.num_decision_partitions, "feedback": self.num_feedback_partitions}

    @property
    def num_in_time(self) -> int:
        return max(0, len(self.events) - self.num_late)

    def partition(self, topic: Topic, number: int) -> Partition:
        return Partition(topic, number % self.num_partitions[topic])

    def messages(self, topic: Topic, numbers: Iterable[int]) -> list[Message]:
        events = self.events[: self.num_in_time]
        messages: Sequence[Message] = self.decisions if topic == "decisions" else events
        return [messages[number % len(messages)] for number in numbers if messages]
