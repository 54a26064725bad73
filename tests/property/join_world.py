"""Consumers of one group over a log in memory and a store on SQL; each commit is held against the truth."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from sqlalchemy import Engine, text

from storage.catalogue import StoredItem
from storage.database import StoreUnavailableError, reading
from storage.event_log import LogUnavailableError, Partition, Poll, Topic
from storage.offsets import StaleOffsetsError
from storage.replay_store import ReplayStore
from storage.reward_tail import RewardedDecision, RewardTail
from tests.fakes.memory_log import MemoryLog
from tests.property.join_members import KilledError, Member
from tests.property.join_messages import GARBAGE, Message, value_of
from tests.property.join_stories import START, Action, Append, Learn, Move, Rejoin, Round, Step, Story, Tick
from tests.property.join_truth import Meaning, Transitions, Truth, meaning
from tests.unit.replay.worlds import transitions
from trainer.ingest import consumer as consumer_module
from trainer.replay.replay import Replay

_PAST_ALL_WINDOWS = 2_000.0
_MAX_ROUNDS = 10
"""Of steps of all consumers at the end, within which everything must have been read and made final."""


class NoItems:
    """A catalogue without items."""

    def changed_since(self, revision: int) -> tuple[Sequence[StoredItem], int]:
        return [], revision


class JoinWorld:
    """`engine` is of an empty store."""

    def __init__(self, engine: Engine, story: Story) -> None:
        self.story = story
        self.num_deaths = 0
        self.num_stale = 0
        self.now = START
        self.engine = engine
        self._loop = story.rule.loop
        self._log = MemoryLog(story.num_partitions, self.clock)
        self._truth = Truth(self._loop, self._log.partitions())
        self._replay = self._new_replay()
        self._said: set[Message] = set()
        self.final: dict[str, RewardedDecision] = {}
        """As of the last commit."""
        self._owners = {
            partition: turn % story.num_consumers
            for turn, partition in enumerate(sorted(self._log.partitions(), key=str))
        }
        self.members = [self._new_member() for _ in range(story.num_consumers)]
        self._rejoin_all()

    def clock(self) -> float:
        return self.now

    def tell(self) -> None:
        """The whole story, and then on until everything has been read and is final."""
        with patch.object(consumer_module, "MAX_FINALS", self.story.max_finals):
            for action in self.story.actions:
                self.act(action)
            self._finish()

    def act(self, action: Action) -> None:
        match action:
            case Append():
                self._append(action)
            case Tick():
                self.now += action.seconds
            case Step():
                self._step(action)
            case Round():
                for step in action.steps[: len(self.members)]:
                    self._step(step)
            case Move():
                self._move(action)
            case Rejoin():
                self._rejoin(action.consumer % len(self.members))
            case Learn():
                self._learn()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with reading(self.engine) as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    # What producers do

    def _append(self, append: Append) -> None:
        partition = self.story.partition(append.topic, append.partition)
        if append.garbage is None:
            self._say(partition, self.story.messages(append.topic, append.messages), append.unseen_seconds)
        else:
            record = self._log.append(partition, append.garbage, append.unseen_seconds)
            self._truth.appended[partition].append(
                Meaning(record.appended_at, dead=list(range(GARBAGE[append.garbage])))
            )

    def _say(self, partition: Partition, messages: Sequence[Message], unseen_seconds: float) -> None:
        record = self._log.append(partition, value_of(messages, self.story.rule), unseen_seconds)
        self._truth.appended[partition].append(meaning(record, messages, self._loop))
        self._said.update(messages)

    def _say_at_last(self, topic: Topic, number: int, message: Message) -> None:
        if message not in self._said:
            self._say(self.story.partition(topic, number), [message], 0.0)

    # What the group does

    def _move(self, move: Move) -> None:
        partition, to = self.story.partition(move.topic, move.partition), move.to % len(self.members)
        before, self._owners[partition] = self._owners[partition], to
        if before != to and move.is_heard:
            self._rejoin(before)
        self._rejoin(to)

    def _rejoin(self, number: int) -> None:
        self.members[number].reader.assign(p for p, owner in self._owners.items() if owner == number)

    def _rejoin_all(self) -> None:
        for number in range(len(self.members)):
            self._rejoin(number)

    # What consumers do

    def _new_member(self) -> Member:
        return Member(self._log, self.engine, self._loop, self.clock, self._committed)

    def _step(self, step: Step) -> None:
        number = step.consumer % len(self.members)
        member = self.members[number]
        if member.is_busy:  # one that stands still takes no other step
            return
        try:
            member.step(step, lambda: self._meanwhile(step))
        except KilledError:
            self.num_deaths += 1
            if step.is_reborn:
                self.members[number] = self._new_member()
                self._rejoin(number)
        except StaleOffsetsError:
            self.num_stale += 1
        except (LogUnavailableError, StoreUnavailableError):
            pass

    def _meanwhile(self, step: Step) -> None:
        for action in step.meanwhile:
            # One that stands still with what it has read hears of nothing.
            is_deaf = isinstance(action, Move) and step.frozen_at != "poll"
            self.act(replace(action, is_heard=False) if is_deaf and isinstance(action, Move) else action)

    def _committed(self, poll: Poll) -> None:
        self._truth.commit(poll.records, poll.read_up_to)
        assert {partition: at for partition, at in ReplayStore(self.engine).next_offsets().items() if at > 0} == {
            partition: at for partition, at in self._truth.next_offsets.items() if at > 0
        }
        self._check_rewards()

    # What must hold

    def _check_rewards(self) -> None:
        """Final is what is due, with the rewards of all that was read, and nothing was overlooked."""
        final = {each.decision_id: each for each in RewardTail(self.engine).since(0, 1_000)}
        due = self._truth.due()
        assert final.keys() <= due
        assert self.final.keys() <= final.keys()
        assert len(final.keys() - self.final.keys()) >= min(len(due - self.final.keys()), self.story.max_finals)
        for decision_id, each in final.items():
            outcome = self._truth.known.outcome(decision_id)
            assert (each.rewards, each.terminated) == (outcome.rewards, outcome.terminated)
            if decision_id in self.final:
                self._check_change(self.final[decision_id], each)
            elif outcome.closed_at is None:
                assert self._truth.unread_feedback_of(decision_id) == []
        self.final = final

    def _check_change(self, before: RewardedDecision, after: RewardedDecision) -> None:
        """A final reward is written again only if it changed, and says so then."""
        if (after.rewards, after.terminated) == (before.rewards, before.terminated):
            assert after == before
        else:
            assert (after.final_at, after.corrected_at) == (before.final_at, self.now)
            assert after.revision > before.revision

    def _learn(self) -> None:
        """What the learner holds are true rewards, and it takes nothing in before all that is earlier is final."""
        before = self._admitted()
        self._replay.advance()
        new = [self.final[decision_id].decided_at for decision_id in self._admitted() - before]
        still_open = [d.decided_at for id_, d in self._truth.known.decisions.items() if id_ not in self.final]
        assert max(new, default=-math.inf) < min(still_open, default=math.inf)
        for (decision_id, position), (reward, _) in transitions(self._replay).items():
            assert reward == np.float32(self._truth.known.outcome(decision_id).rewards[position] or 0.0)

    def _admitted(self) -> set[str]:
        return set(self._replay._buffer.decision_ids(np.arange(len(self._replay))))

    # The end

    def _finish(self) -> None:
        """Everything is said, all windows pass, everybody hears what is theirs and reads on. Then late events come."""
        for number, decision in enumerate(self.story.decisions):
            self._say_at_last("decisions", number, decision)
        for number, event in enumerate(self.story.events[: self.story.num_in_time]):
            self._say_at_last("feedback", number, event)
        self._read_on()
        for number, event in enumerate(self.story.events):
            self._say_at_last("feedback", number, event)
        self._read_on()
        self._check_end()

    def _read_on(self) -> None:
        self.now += _PAST_ALL_WINDOWS
        self._rejoin_all()
        num_rounds = 0
        while not self._is_done() and num_rounds < _MAX_ROUNDS:
            num_rounds += 1
            self.act(Round())
        self._learn()

    def _is_done(self) -> bool:
        ends = {partition: len(appended) for partition, appended in self._truth.appended.items()}
        return self._truth.next_offsets == ends and self.final.keys() == self._truth.known.decisions.keys()

    def _check_end(self) -> None:
        whole = self._truth.all_appended()
        outcomes = {decision_id: whole.outcome(decision_id) for decision_id in whole.decisions}
        assert {id_: (each.rewards, each.terminated) for id_, each in self.final.items()} == {
            id_: (outcome.rewards, outcome.terminated) for id_, outcome in outcomes.items()
        }
        assert sorted(self.rows("SELECT decision_id, decided_at FROM decisions")) == sorted(
            (each.decision_id, each.decided_at) for each in whole.decisions.values()
        )
        assert sorted(self.rows("SELECT event_id, decision_id, kind, value, occurred_at FROM feedback")) == sorted(
            (e.event_id, e.decision_id, e.kind, e.value, e.occurred_at) for e in whole.events.values()
        )
        dead = self.rows('SELECT topic, "partition", "offset", "index" FROM dead_letters')
        assert sorted(dead) == sorted(self._truth.dead)
        self._check_totals([sum(reward or 0.0 for reward in each.rewards) for each in outcomes.values()])
        self._check_learners(whole.transitions())

    def _check_totals(self, rewards: Sequence[float]) -> None:
        ((num, total),) = self.rows("SELECT sum(decisions), sum(reward_sum) FROM reward_totals")
        assert (num or 0, total or 0.0) == (len(rewards), pytest.approx(math.fsum(rewards)))

    def _check_learners(self, expected: Transitions) -> None:
        """One that followed all along, one that comes new, and one that was restarted."""
        newcomer, restarted = self._new_replay(), self._new_replay()
        restarted.refill(self._replay.revision)
        for learner in (self._replay, newcomer, restarted):
            learner.advance()
            assert transitions(learner) == expected

    def _new_replay(self) -> Replay:
        return Replay(self._loop, RewardTail(self.engine), NoItems(), 1_000, np.random.default_rng(0))
