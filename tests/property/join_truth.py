"""What must be in the store: a pure function of the records that consumers have committed (DESIGN §7.6 and §7.10)."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from schemas.loop_file import Loop
from schemas.messages import MAX_FUTURE_SECONDS
from storage.event_log import Partition, Record
from storage.open_decisions import OpenDecision, StoredEvent
from tests.property.join_messages import ITEM_IDS, SLATE_SIZE, DecisionMessage, EventMessage, Message
from trainer.ingest.reward_rule import Outcome, counts, outcome_of
from trainer.replay.sessions import NO_ROW, Entry, next_rows, session_key

Transitions = dict[tuple[str, int], tuple[float, str | None]]
"""(decision, position) → its reward, and the next decision or None where nothing comes after."""


@dataclass
class Meaning:
    """Of one record."""

    appended_at: float
    decisions: list[DecisionMessage] = field(default_factory=list)
    events: list[StoredEvent] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    """The indices of the elements that are dead letters."""


def meaning(record: Record, messages: Iterable[Message], loop: Loop) -> Meaning:
    found = Meaning(record.appended_at)
    for index, message in enumerate(messages):
        if isinstance(message, DecisionMessage):
            at = message.decided_at
        else:
            at = record.appended_at if message.occurred_at is None else message.occurred_at
        is_unknown = isinstance(message, EventMessage) and message.kind not in loop.feedback_kinds
        if is_unknown or at > record.appended_at + MAX_FUTURE_SECONDS:
            found.dead.append(index)
        elif isinstance(message, DecisionMessage):
            found.decisions.append(message)
        else:
            found.events.append(_stored(message, record, index, at))
    return found


def _stored(message: EventMessage, record: Record, index: int, occurred_at: float) -> StoredEvent:
    return StoredEvent(
        event_id=message.event_id or f"feedback:{record.partition.number}:{record.offset}:{index}",
        decision_id=message.decision_id,
        item_id=message.item_id,
        kind=message.kind,
        value=1.0 if message.value is None else message.value,
        occurred_at=occurred_at,
        received_at=0.0,  # no reward may depend on it
    )


class Known:
    """Decisions and events, each once, and what they come to."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.decisions: dict[str, DecisionMessage] = {}
        self.events: dict[str, StoredEvent] = {}

    def add(self, found: Meaning) -> None:
        for decision in found.decisions:
            self.decisions.setdefault(decision.decision_id, decision)
        for event in found.events:
            self.events.setdefault(event.event_id, event)

    def outcome(self, decision_id: str) -> Outcome:
        message = self.decisions[decision_id]
        is_weights = self._loop.action.kind == "weights"
        events = (event for event in self.events.values() if event.decision_id == decision_id)
        decision = OpenDecision(
            decision_id=decision_id,
            decided_at=message.decided_at,
            mode="learned",
            item_ids=() if is_weights else ITEM_IDS[: message.num_items],
            is_weights=is_weights,
            events=tuple(events),
            rewards=None,
            terminated=False,
            final_at=None,
        )
        return outcome_of(decision, self._loop)

    def transitions(self) -> Transitions:
        """What the learner must make of it."""
        is_weights = self._loop.action.kind == "weights"
        usable = [each for each in self.decisions.values() if is_weights or each.num_items > 0]
        keyed = [
            (session_key(each.session_id, each.user_id), Entry(each.decided_at, each.decision_id, row))
            for row, each in enumerate(usable)
        ]
        links = next_rows(keyed, self._loop.session.timeout_seconds)
        found: Transitions = {}
        for row, (key, entry) in enumerate(keyed):
            outcome = self.outcome(entry.decision_id)
            has_ended = outcome.terminated or key is None
            if usable[row].propensity is None or (not has_ended and links[row] == NO_ROW):
                continue
            following = None if has_ended else usable[links[row]].decision_id
            for position, reward in enumerate(outcome.rewards[:SLATE_SIZE]):
                if reward is not None:
                    found[entry.decision_id, position] = (float(np.float32(reward)), following)
        return found


class Truth:
    """What was appended, and what of it has been committed."""

    def __init__(self, loop: Loop, partitions: Iterable[Partition]) -> None:
        self._loop = loop
        self.appended: dict[Partition, list[Meaning]] = {partition: [] for partition in partitions}
        """By offset."""
        self.next_offsets = dict.fromkeys(self.appended, 0)
        self.read_up_to = dict.fromkeys(self.appended, -math.inf)
        self.known = Known(loop)
        self.dead: set[tuple[str, int, int, int]] = set()
        """Dead letters by topic, partition, offset, index."""

    def commit(self, records: Iterable[Record], read_up_to: Mapping[Partition, float]) -> None:
        for record in records:
            partition = record.partition
            expected = self.next_offsets[partition]
            assert record.offset == expected, f"{partition} was at {expected} and is gone on with from {record.offset}"
            self.next_offsets[partition] = record.offset + 1
            found = self.appended[partition][record.offset]
            self.known.add(found)
            self.dead |= {(partition.topic, partition.number, record.offset, index) for index in found.dead}
        for partition, at in read_up_to.items():
            self.read_up_to[partition] = max(self.read_up_to[partition], at)

    def all_appended(self) -> Known:
        """What is known once everything has been read."""
        known = Known(self._loop)
        for meanings in self.appended.values():
            for each in meanings:
                known.add(each)
        return known

    def due(self) -> set[str]:
        """What closed, and what every partition of `feedback` has been read past the end of."""
        watermark = min(at for partition, at in self.read_up_to.items() if partition.topic == "feedback")
        return {
            decision_id
            for decision_id, decision in self.known.decisions.items()
            if decision.decided_at + self._loop.reward.wait_seconds < watermark
            or self.known.outcome(decision_id).closed_at is not None
        }

    def unread_feedback_of(self, decision_id: str) -> list[StoredEvent]:
        """Of a decision whose window has ended by the log's clock: what counts, was appended in it and is not read."""
        decided_at = self.known.decisions[decision_id].decided_at
        return [
            event
            for partition, meanings in self.appended.items()
            for each in meanings[self.next_offsets[partition] :]
            if each.appended_at <= decided_at + self._loop.reward.wait_seconds
            for event in each.events
            if event.decision_id == decision_id and counts(event, decided_at, self._loop)
        ]
