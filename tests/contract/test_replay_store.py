"""What the store keeps between ingest and the learner: one class of tests, run on each database."""

import math
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from schemas.messages import Candidate, Decision, LoggedItem
from storage.database import migrate, open_store, reading
from storage.event_log import DeadLetter, Partition
from storage.offsets import StaleOffsetsError
from storage.open_decisions import OpenDecision, StoredEvent
from storage.replay_store import ReplayStore, RewardRow, UnknownDecisionError
from storage.reward_tail import RewardTail, Tail
from storage.story import (
    RewardTotal,
    Training,
    decision_story,
    first_totals,
    num_decisions,
    num_feedback,
    reward_totals,
)

FEEDBACK = Partition("feedback", 0)
FEEDBACK_1 = Partition("feedback", 1)
DECISIONS = Partition("decisions", 0)


def decision(decision_id: str, at: float = 100.0, **fields: Any) -> Decision:
    items = [LoggedItem("a", 0, 0.5, 0.4, {"price": 1.5}), LoggedItem("b", 1, 0.25, 0.6)]
    defaults: dict[str, Any] = {"mode": "learned", "loop_hash": "hash", "seed": 7, "items": items}
    return Decision(decision_id=decision_id, decided_at=datetime.fromtimestamp(at, UTC), **{**defaults, **fields})


def click(event_id: str, decision_id: str, at: float = 101.0, **fields: Any) -> StoredEvent:
    defaults: dict[str, Any] = {"item_id": "a", "kind": "click", "value": 1.0, "received_at": at + 1}
    return StoredEvent(event_id=event_id, decision_id=decision_id, occurred_at=at, **{**defaults, **fields})


def reward(decision_id: str, *rewards: float | None, corrected_at: float | None = None, **fields: Any) -> RewardRow:
    return RewardRow(
        decision_id=decision_id,
        rewards=rewards,
        terminated=fields.get("terminated", False),
        final_at=fields.get("final_at", 110.0),
        corrected_at=corrected_at,
    )


def dead_letter(offset: int, index: int = 0, **fields: Any) -> DeadLetter:
    defaults: dict[str, Any] = {"reason": "json", "detail": "d", "value": b"\xff{", "received_at": 9.0}
    return DeadLetter(partition=FEEDBACK, offset=offset, index=index, **{**defaults, **fields})


class ReplayStoreContract:
    """Subclasses give the fixture `engine`: of a store that is migrated and empty."""

    @pytest.fixture
    def engine(self) -> Iterator[Engine]:
        raise NotImplementedError

    @pytest.fixture
    def store(self, engine: Engine) -> ReplayStore:
        return ReplayStore(engine)

    @pytest.fixture
    def tail(self, engine: Engine) -> RewardTail:
        return RewardTail(engine)

    def add(self, store: ReplayStore, *decisions: Decision, events: tuple[StoredEvent, ...] = ()) -> None:
        with store.transaction() as transaction:
            transaction.add_decisions([(one, 102.0) for one in decisions])
            transaction.add_feedback(events)

    def finish(self, store: ReplayStore, *rows: RewardRow) -> None:
        with store.transaction() as transaction:
            transaction.write_rewards(rows)

    def rows(self, engine: Engine, query: str) -> list[tuple[Any, ...]]:
        with reading(engine) as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    # What happened

    def test_a_decision_comes_back_as_it_was(self, store: ReplayStore, engine: Engine) -> None:
        full = decision(
            "d",
            at=1_795_000_000.123456,
            mode="explore",
            context={"page": 3, "age": None, "history": ["é", "i\u20289"]},
            user_id="u",
            session_id="s",
            candidates=["a", Candidate("b", {"price": 3.5})],
            exclude=["x"],
            shortlist=["a", "b"],
            action=[0.5, -1.0],
            log_density=-1.25,
            policy_version="000042",
            exploration={"kind": "softmax", "temperature": 0.1},
            seed=2**63 - 1,
        )
        bare = decision("bare", items=[])
        self.add(store, full, bare)
        for sent in (full, bare):
            story = decision_story(engine, sent.decision_id)
            assert story is not None
            assert story.decision == sent
            assert story.received_at == 102.0

    def test_the_first_decision_of_an_id_wins_in_one_batch_and_in_the_next(
        self, store: ReplayStore, engine: Engine
    ) -> None:
        self.add(store, decision("d", at=100.0, seed=1), decision("d", at=200.0, seed=2))
        self.add(store, decision("d", at=300.0, seed=3))
        assert self.rows(engine, "SELECT decision_id, decided_at, seed FROM decisions") == [("d", 100.0, 1)]
        assert self.rows(engine, "SELECT decision_id, decided_at, final_at FROM rewards") == [("d", 100.0, None)]
        assert num_decisions(engine) == 1

    def test_the_first_event_of_an_id_wins(self, store: ReplayStore, engine: Engine) -> None:
        self.add(store, events=(click("e", "d", value=1.0), click("e", "d", value=2.0)))
        self.add(store, events=(click("e", "d", value=3.0), click("other", "d")))
        assert self.rows(engine, "SELECT event_id, value FROM feedback ORDER BY event_id") == [
            ("e", 1.0),
            ("other", 1.0),
        ]
        assert num_feedback(engine) == 2

    def test_a_dead_letter_is_kept_once_for_each_origin(self, store: ReplayStore, engine: Engine) -> None:
        for _ in range(2):
            with store.transaction() as transaction:
                transaction.add_dead_letters([dead_letter(5), dead_letter(5, 1), dead_letter(5, reason="again")])
        query = 'SELECT topic, "partition", "offset", "index", reason, detail, value, received_at FROM dead_letters'
        assert [(*row[:6], bytes(row[6]), row[7]) for row in self.rows(engine, f'{query} ORDER BY "index"')] == [
            ("feedback", 0, 5, 0, "json", "d", b"\xff{", 9.0),
            ("feedback", 0, 5, 1, "json", "d", b"\xff{", 9.0),
        ]

    def test_empty_batches_are_harmless(self, store: ReplayStore) -> None:
        with store.transaction() as transaction:
            transaction.add_decisions([])
            transaction.add_feedback([])
            transaction.add_dead_letters([])
            transaction.write_rewards([])
            transaction.advance({}, {}, {})
            assert transaction.touched([]) == []
            assert transaction.due(math.inf, 10) == []

    # Offsets and watermarks

    def test_offsets_advance_from_where_they_are(self, store: ReplayStore) -> None:
        assert store.next_offsets() == {}
        with store.transaction() as transaction:
            transaction.advance({}, {FEEDBACK: 5}, {FEEDBACK: 50.0, DECISIONS: 40.0})
        assert store.next_offsets() == {FEEDBACK: 5, DECISIONS: 0}
        with store.transaction() as transaction:
            transaction.advance({FEEDBACK: 5, DECISIONS: 0}, {FEEDBACK: 9, DECISIONS: 2}, {})
        assert store.next_offsets() == {FEEDBACK: 9, DECISIONS: 2}

    @pytest.mark.parametrize("expected", [{FEEDBACK: 4}, {FEEDBACK: 6}, {}])
    def test_a_consumer_that_lost_its_partitions_writes_nothing(
        self, store: ReplayStore, engine: Engine, expected: dict[Partition, int]
    ) -> None:
        with store.transaction() as transaction:
            transaction.advance({}, {FEEDBACK: 5}, {FEEDBACK: 50.0})

        def wake_up() -> None:
            with store.transaction() as transaction:
                transaction.add_decisions([(decision("d"), 1.0)])
                transaction.add_feedback([click("e", "d")])
                transaction.advance(expected, {FEEDBACK: 7}, {FEEDBACK: 99.0})

        with pytest.raises(StaleOffsetsError, match="feedback/0"):
            wake_up()
        assert store.next_offsets() == {FEEDBACK: 5}
        assert num_decisions(engine) == num_feedback(engine) == 0

    def test_any_failure_undoes_all(self, store: ReplayStore, engine: Engine) -> None:
        def fail() -> None:
            with store.transaction() as transaction:
                transaction.add_feedback([click("e", "d")])
                transaction.advance({}, {FEEDBACK: 5}, {})
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert store.next_offsets() == {}
        assert num_feedback(engine) == 0

    def test_the_watermark_is_the_least_of_its_topic_and_never_goes_back(self, store: ReplayStore) -> None:
        with store.transaction() as transaction:
            assert transaction.watermark() == -math.inf
            transaction.advance({}, {FEEDBACK: 1}, {DECISIONS: 10.0})
            assert transaction.watermark() == -math.inf
            transaction.advance({FEEDBACK: 1}, {}, {FEEDBACK: 70.0, FEEDBACK_1: 60.0})
            assert transaction.watermark() == 60.0
            assert transaction.watermark("decisions") == 10.0
        with store.transaction() as transaction:
            transaction.advance({FEEDBACK: 1}, {}, {FEEDBACK: 65.0, FEEDBACK_1: 90.0})
            assert transaction.watermark() == 70.0

    # Decisions with their events

    def test_due_are_the_earliest_open_ones_decided_before_then(self, store: ReplayStore) -> None:
        self.add(store, *[decision(f"d{at}", at=float(at)) for at in (104, 101, 103, 102, 105)])
        self.finish(store, reward("d102", 1.0, 0.0))
        with store.transaction() as transaction:
            assert [d.decision_id for d in transaction.due(104.1, limit=10)] == ["d101", "d103", "d104"]
            assert [d.decision_id for d in transaction.due(104.0, limit=10)] == ["d101", "d103"]
            assert [d.decision_id for d in transaction.due(104.1, limit=2)] == ["d101", "d103"]
            assert transaction.due(101.0, limit=10) == []
            assert [transaction.has_due(at) for at in (101.0, 101.1)] == [False, True]

    def test_an_open_decision_has_its_events_by_time_then_id(self, store: ReplayStore) -> None:
        events = [click("z", "d", at=101.0), click("y", "d", at=103.0), click("x", "d", at=101.0), click("w", "other")]
        self.add(store, decision("d"), events=tuple(events))
        with store.transaction() as transaction:
            assert transaction.due(200.0, 10) == [
                OpenDecision(
                    decision_id="d",
                    decided_at=100.0,
                    mode="learned",
                    item_ids=("a", "b"),
                    is_weights=False,
                    events=(events[2], events[0], events[1]),
                    rewards=None,
                    terminated=False,
                    final_at=None,
                )
            ]

    def test_the_unit_of_weights_is_the_decision(self, store: ReplayStore) -> None:
        self.add(store, decision("d", action=[0.5, 0.5], log_density=0.1))
        with store.transaction() as transaction:
            (open_decision,) = transaction.due(200.0, 10)
        assert open_decision.is_weights
        assert open_decision.item_ids == ()

    def test_touched_are_those_known_final_or_not_however_many(self, store: ReplayStore) -> None:
        ids = [f"d{n:05}" for n in range(2_500)]
        self.add(store, *map(decision, ids), events=tuple(click(f"e{id_}", id_) for id_ in ids))
        self.finish(store, reward("d00007", 1.0, None, final_at=111.0, terminated=True))
        with store.transaction() as transaction:
            touched = transaction.touched([*ids, *[f"unknown{n}" for n in range(40_000)]])
        assert sorted(d.decision_id for d in touched) == ids
        assert all([event.event_id for event in d.events] == [f"e{d.decision_id}"] for d in touched)
        (final,) = [d for d in touched if d.final_at is not None]
        assert (final.decision_id, final.rewards, final.terminated, final.final_at) == (
            "d00007",
            (1.0, None),
            True,
            111.0,
        )

    def test_an_event_that_came_before_its_decision_joins_it(self, store: ReplayStore) -> None:
        self.add(store, events=(click("e", "d"),))
        with store.transaction() as transaction:
            assert transaction.touched(["d"]) == []
            transaction.add_decisions([(decision("d"), 1.0)])
            assert [e.event_id for e in transaction.touched(["d"])[0].events] == ["e"]

    def test_an_event_of_days_before_its_decision_is_not_joined_whatever_is_asked_for_with_it(
        self, store: ReplayStore
    ) -> None:
        day = 86_400.0
        early = decision("early", at=100.0)
        with store.transaction() as transaction:
            transaction.add_decisions([(early, 102.0), (decision("late", at=2 * day), 2 * day)])
            transaction.add_feedback([click("e", "late", at=200.0)])
            events = {each.decision_id: each.events for each in transaction.touched(["early", "late"])}
        assert events == {"early": (), "late": ()}

    # Rewards

    def test_rewards_are_summed_over_buckets_and_modes(self, store: ReplayStore, engine: Engine) -> None:
        self.add(store, decision("a", at=100.0), decision("b", at=101.9), decision("c", at=102.0))
        self.add(store, decision("control", at=101.0, mode="control"), decision("open", at=101.0))
        self.finish(store, reward("a", 1.0, 5.0), reward("b", 2.0, None), reward("c", None, None))
        self.finish(store, reward("control", -0.5, 0.0))
        assert reward_totals(engine, since=0) == [
            RewardTotal(100, "control", 1, -0.5, 0.25),
            RewardTotal(100, "learned", 2, 8.0, 40.0),  # 6 + 2; 36 + 4
            RewardTotal(102, "learned", 1, 0.0, 0.0),
        ]
        assert reward_totals(engine, since=100.5) == [RewardTotal(102, "learned", 1, 0.0, 0.0)]
        assert {total.bucket_start for total in reward_totals(engine, since=0, until=103.9)} == {100}  # 102 ends at 104

    def test_the_first_totals_of_a_mode_are_what_it_got_at_first(self, store: ReplayStore, engine: Engine) -> None:
        self.add(store, decision("early", at=50.0))
        self.add(store, *(decision(f"f{at}", at=at, mode="fallback") for at in (100.0, 158.0, 160.0)))
        self.finish(store, *(reward(f"f{at}", 1.0) for at in (100.0, 158.0, 160.0)), reward("early", 9.0))
        assert first_totals(engine, "fallback", seconds=60.0) == [
            RewardTotal(100, "fallback", 1, 1.0, 1.0),
            RewardTotal(158, "fallback", 1, 1.0, 1.0),
        ]
        assert first_totals(engine, "control", seconds=60.0) == []

    def test_a_correction_changes_the_reward_and_the_sums_by_the_difference(
        self, store: ReplayStore, engine: Engine, tail: RewardTail
    ) -> None:
        self.add(store, decision("a"), decision("b"))
        self.finish(store, reward("a", 1.0, 0.0, final_at=110.0), reward("b", 2.0, 0.0))
        self.finish(store, reward("a", 1.0, 5.0, corrected_at=150.0, final_at=150.0))
        assert reward_totals(engine, since=0) == [RewardTotal(100, "learned", 2, 8.0, 40.0)]  # 6 + 2; 36 + 4
        (corrected,) = tail.since(1, 10)
        assert (corrected.rewards, corrected.final_at, corrected.corrected_at) == ((1.0, 5.0), 110.0, 150.0)

    def test_what_changes_nothing_is_left_alone(self, store: ReplayStore, engine: Engine, tail: RewardTail) -> None:
        self.add(store, decision("a"), decision("b"))
        self.finish(store, reward("a", 1.0, None))
        self.finish(store, reward("a", 1.0, None, corrected_at=150.0), reward("a", 1, None))
        assert [(d.corrected_at, d.revision) for d in tail.since(0, 10)] == [(None, 1)]
        assert reward_totals(engine, since=0) == [RewardTotal(100, "learned", 1, 1.0, 1.0)]

    def test_an_end_that_comes_late_is_a_correction_too(self, store: ReplayStore, tail: RewardTail) -> None:
        self.add(store, decision("a"))
        self.finish(store, reward("a", 1.0, None))
        self.finish(store, reward("a", 1.0, None, terminated=True, corrected_at=150.0))
        (corrected,) = tail.since(1, 10)
        assert (corrected.terminated, corrected.corrected_at) == (True, 150.0)

    def test_a_reward_that_comes_twice_in_one_batch_counts_once(self, store: ReplayStore, engine: Engine) -> None:
        self.add(store, decision("a"))
        self.finish(store, reward("a", 1.0, 0.0), reward("a", 2.0, 0.0))
        assert reward_totals(engine, since=0) == [RewardTotal(100, "learned", 1, 2.0, 4.0)]

    def test_rewards_of_unknown_decisions_are_refused(self, store: ReplayStore, engine: Engine) -> None:
        self.add(store, decision("a"))
        with pytest.raises(UnknownDecisionError, match="'nobody'"):
            self.finish(store, reward("a", 1.0, 0.0), reward("nobody", 1.0))
        assert reward_totals(engine, since=0) == []

    def test_a_final_reward_does_not_change_without_saying_when(self, store: ReplayStore) -> None:
        self.add(store, decision("a"))
        self.finish(store, reward("a", 1.0, 0.0))
        with pytest.raises(ValueError, match="'a' is final"):
            self.finish(store, reward("a", 2.0, 0.0))

    def test_the_view_has_one_row_an_impression(self, store: ReplayStore, engine: Engine) -> None:
        self.add(store, decision("seen"), decision("vector", action=[0.1]), decision("open"))
        self.finish(store, reward("seen", None, 2.5), reward("vector", -1.0))
        self.add(store, decision("both"))
        self.finish(store, reward("both", 0.0, 1.0))
        self.finish(store, reward("both", 0.0, 3.0, corrected_at=120.0))
        columns = "decision_id, position, item_id, reward, final_at, corrected_at"
        assert self.rows(engine, f"SELECT {columns} FROM decision_rewards ORDER BY decision_id, position") == [
            ("both", 0, "a", 0.0, 110.0, 120.0),
            ("both", 1, "b", 3.0, 110.0, 120.0),
            ("seen", 1, "b", 2.5, 110.0, None),
            ("vector", None, None, -1.0, 110.0, None),
        ]

    # The learner's tail

    def test_the_tail_gives_whole_revisions_in_order_and_the_horizon(
        self, store: ReplayStore, tail: RewardTail
    ) -> None:
        assert tail.read(0, 10) == Tail([], 0, math.inf)
        self.add(store, *[decision(f"d{at}", at=float(at)) for at in range(100, 107)])
        self.finish(store, *[reward(f"d{at}", 1.0, 0.0) for at in (102, 100, 101)])
        self.finish(store, reward("d103", 1.0, 0.0), reward("d105", 1.0, 0.0))

        first = tail.read(0, 1)
        assert [d.decision_id for d in first.decisions] == ["d100", "d101", "d102"]
        assert (first.revision, first.horizon) == (1, 104.0)
        second = tail.read(first.revision, 1)
        assert [d.decision_id for d in second.decisions] == ["d103", "d105"]
        assert second.revision == 2
        assert tail.read(2, 1).decisions == []
        assert tail.read(2, 1).revision == 2

        assert tail.read(9, 1).revision == 9
        assert tail.read(0, 3).decisions == first.decisions
        everything = tail.read(0, 4)
        assert [d.decision_id for d in everything.decisions] == ["d100", "d101", "d102", "d103", "d105"]
        assert tail.open_horizon() == 104.0

    def test_a_rewarded_decision_has_what_learning_needs(self, store: ReplayStore, tail: RewardTail) -> None:
        sent = decision("d", user_id="u", context={"page": 1}, candidates=["a", Candidate("b", {"price": 2})])
        self.add(store, sent)
        self.finish(store, reward("d", None, 2.5, terminated=True))
        (got,) = tail.since(0, 10)
        for name in ("decision_id", "user_id", "session_id", "mode", "context", "candidates", "exclude", "shortlist"):
            assert getattr(got, name) == getattr(sent, name)
        for name in ("items", "action", "log_density", "policy_version", "loop_hash"):
            assert getattr(got, name) == getattr(sent, name)
        assert got.decided_at == 100.0
        assert (got.rewards, got.terminated, got.final_at, got.corrected_at) == ((None, 2.5), True, 110.0, None)

    def test_what_lies_before_the_horizon_was_delivered(self, store: ReplayStore, tail: RewardTail) -> None:
        ids = [f"{n:04}" for n in range(400)]
        self.add(store, *[decision(id_, at=float(id_)) for id_ in ids])

        def write() -> None:
            for start in range(0, 400, 20):
                self.finish(store, *[reward(id_, 1.0, 0.0) for id_ in ids[start : start + 20]])

        thread = threading.Thread(target=write)
        thread.start()
        delivered: list[str] = []
        revision, horizon = 0, 0.0
        while horizon < math.inf:
            read = tail.read(revision, 50)
            delivered += [d.decision_id for d in read.decisions]
            revision, horizon = read.revision, read.horizon
            if len(read.decisions) < 50:  # the end was reached in this snapshot
                assert {*delivered} >= {id_ for id_ in ids if float(id_) < horizon}
        thread.join()
        while more := tail.read(revision, 50).decisions:
            delivered += [d.decision_id for d in more]
            revision = more[-1].revision
        assert delivered == ids

    def test_the_latest_are_the_newest_by_decision_time_as_they_were_at_the_revision(
        self, store: ReplayStore, tail: RewardTail
    ) -> None:
        self.add(store, *[decision(f"d{at}", at=float(at)) for at in range(100, 106)])
        self.finish(store, *[reward(f"d{at}", 1.0, 0.0) for at in (104, 100, 102, 101)])
        self.finish(store, reward("d103", 1.0, 0.0), reward("d101", 2.0, 0.0, corrected_at=120.0))
        assert [d.decision_id for d in tail.latest(2, up_to_revision=1)] == ["d102", "d104"]
        assert [d.decision_id for d in tail.latest(10, up_to_revision=1)] == ["d100", "d102", "d104"]
        assert [d.decision_id for d in tail.latest(3, up_to_revision=2)] == ["d102", "d103", "d104"]
        assert list(tail.latest(10, up_to_revision=0)) == []

    def test_the_latest_come_in_pages_none_left_out_where_times_are_equal(
        self, store: ReplayStore, tail: RewardTail
    ) -> None:
        ids = [f"{n:04}" for n in range(2_500)]
        self.add(store, *[decision(id_, at=100.0 + n // 1_500) for n, id_ in enumerate(ids)])
        self.finish(store, *[reward(id_, 1.0, 0.0) for id_ in ids])
        assert [d.decision_id for d in tail.latest(10_000, up_to_revision=1)] == ids
        assert [d.decision_id for d in tail.latest(1_000, up_to_revision=1)] == ids[1_500:]

    def test_the_story_tells_all_of_a_decision(self, store: ReplayStore, engine: Engine, tail: RewardTail) -> None:
        assert decision_story(engine, "d") is None
        events = (click("late", "d", at=105.0), click("early", "d", at=101.0), click("x", "other"))
        self.add(store, decision("d"), events=events)
        story = decision_story(engine, "d")
        assert story is not None
        assert [event.event_id for event in story.events] == ["early", "late"]
        assert (story.rewards, story.final_at, story.training) == (None, None, None)

        self.finish(store, reward("d", 2.0, None))
        tail.write_trainings([("d", "000007", [1.5, None], [1.5, None]), ("x", "000007", [0.0], [0.0])])
        tail.write_trainings([("d", "000008", [9.0, None], [9.0, None])])
        tail.write_trainings([])
        story = decision_story(engine, "d")
        assert story is not None
        assert (story.rewards, story.terminated, story.final_at, story.corrected_at) == (
            (2.0, None),
            False,
            110.0,
            None,
        )
        assert story.training == Training("000007", (1.5, None), (1.5, None))


class TestSqliteReplayStore(ReplayStoreContract):
    @pytest.fixture
    def engine(self, tmp_path: Path) -> Iterator[Engine]:
        url = f"sqlite:///{tmp_path / 'steadyrank.db'}"
        migrate(url)
        engine = open_store(url)
        yield engine
        engine.dispose()


class TestPostgresqlReplayStore(ReplayStoreContract):
    @pytest.fixture
    def engine(self, postgresql_url: str) -> Iterator[Engine]:
        migrate(postgresql_url)
        engine = open_store(postgresql_url)
        yield engine
        engine.dispose()
