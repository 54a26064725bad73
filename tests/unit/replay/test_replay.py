"""The replay buffer: who is admitted when, what comes next, what a minibatch holds."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import kinds
from schemas.kinds import AgentKind
from schemas.messages import LoggedItem
from storage.reward_tail import RewardedDecision
from tests.unit.replay.worlds import ReplayWorld, decided, shown, slate_loop, transitions, weights_loop
from trainer.replay import replay as replay_module
from trainer.replay.item_table import PADDING
from trainer.replay.sessions import NO_ROW, Entry, next_rows, session_key


@pytest.fixture
def world() -> ReplayWorld:
    return ReplayWorld(slate_loop())


def ids(world: ReplayWorld) -> list[str]:
    """In the buffer, oldest admitted first."""
    return world.replay._buffer.decision_ids(world.replay._buffer.newest(10_000)[::-1])


# ------------------------------------------------------------------ admission


def test_decisions_are_admitted_in_order_of_time_and_none_beyond_the_horizon(world: ReplayWorld) -> None:
    world.tail.horizon = 3.0
    assert world.admit(decided("late", 2.5), decided("b", 2.0), decided("beyond", 3.0)) == 2
    assert world.admit(decided("a", 1.0), decided("c", 2.2)) == 2
    assert (ids(world), world.replay.num_waiting) == (["b", "late", "a", "c"], 1)
    world.tail.horizon = math.inf
    assert world.replay.advance() == 1
    assert (ids(world)[-1], world.replay.num_waiting, world.replay.num_admitted) == ("beyond", 0, 5)


def test_nothing_new_admits_nothing(world: ReplayWorld) -> None:
    assert world.replay.advance() == 0
    world.admit(decided("a", 1.0))
    assert world.replay.advance() == 0


def test_while_the_tail_is_long_later_decisions_wait_for_earlier_ones(
    world: ReplayWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_module, "_READ_LIMIT", 10)
    monkeypatch.setattr(replay_module, "_KEPT_WHILE_BEHIND", 5)
    for start in (20, 0, 10):
        world.tail.write(*(decided(f"d{at}", float(at)) for at in range(start, start + 10)))
    assert [world.replay.advance() for _ in range(4)] == [15, 10, 5, 0]
    assert ids(world)[:15] == [f"d{at}" for at in (*range(10), *range(20, 25))]
    assert len(world.replay) == 30


def test_a_checkpoint_revision_names_nothing_that_still_waits(world: ReplayWorld) -> None:
    world.admit(decided("a", 1.0))
    world.tail.horizon = 2.0
    world.admit(decided("waits", 5.0))
    world.admit(decided("b", 1.5))
    assert world.replay.revision == 1
    world.tail.horizon = math.inf
    world.replay.advance()
    assert world.replay.revision == 3


# ------------------------------------------------------------------ transitions


def test_the_next_decision_of_the_session_comes_next(world: ReplayWorld) -> None:
    world.admit(decided("a", 1.0), decided("b", 2.0, session_id="t"), decided("c", 3.0), decided("d", 40.0))
    assert transitions(world.replay) == {("a", 0): (1.0, "c"), ("a", 1): (0.0, "c")}
    assert world.replay.num_rewarded == 8


def test_a_late_decision_goes_between(world: ReplayWorld) -> None:
    world.admit(decided("a", 1.0), decided("c", 3.0))
    world.admit(decided("b", 2.0))
    assert {key[0]: value[1] for key, value in transitions(world.replay).items()} == {"a": "b", "b": "c"}


def test_terminated_decisions_have_no_next_one(world: ReplayWorld) -> None:
    world.admit(decided("a", 1.0, terminated=True), decided("b", 2.0), decided("alone", 2.0, session_id=None))
    assert {key: value[1] for key, value in transitions(world.replay).items() if key[1] == 0} == {
        ("a", 0): None,
        ("alone", 0): None,
    }


def test_what_has_no_propensity_or_was_not_seen_is_no_impression(world: ReplayWorld) -> None:
    world.admit(
        decided("a", 1.0, terminated=True, items=shown(1, 2, propensity=None)),
        decided("b", 2.0, terminated=True, rewards=(None, 3.0)),
        decided("c", 3.0, terminated=True, items=[*shown(1, propensity=0.0), shown(1, 2)[1]]),
        decided("d", 4.0, terminated=True, items=shown(1), rewards=(2.0,), mode="fallback"),
    )
    assert transitions(world.replay) == {("b", 1): (3.0, None), ("c", 1): (0.0, None), ("d", 0): (2.0, None)}
    assert world.replay.num_rewarded == 3


def test_a_correction_changes_the_buffer(world: ReplayWorld) -> None:
    world.admit(decided("a", 1.0), decided("b", 2.0))
    assert world.admit(decided("a", 1.0, rewards=(None, 5.0))) == 0
    assert transitions(world.replay) == {("a", 1): (5.0, "b")}
    world.admit(decided("b", 2.0, terminated=True))
    assert transitions(world.replay)["b", 0] == (1.0, None)
    assert len(world.replay) == 2


def test_a_correction_changes_what_waits(world: ReplayWorld) -> None:
    world.tail.horizon = 0.0
    world.admit(decided("a", 1.0, terminated=True))
    world.admit(decided("a", 1.0, terminated=True, rewards=(7.0, 0.0)))
    world.tail.horizon = math.inf
    assert world.replay.advance() == 1
    assert transitions(world.replay)["a", 0] == (7.0, None)


def test_a_correction_of_what_was_overwritten_is_ignored() -> None:
    world = ReplayWorld(slate_loop(), capacity=2)
    world.admit(decided("a", 1.0))
    world.admit(decided("b", 2.0), decided("c", 3.0))
    assert world.admit(decided("a", 1.0, rewards=(9.0, 9.0))) == 0
    assert ids(world) == ["b", "c"]


def test_the_ring_overwrites_the_oldest_and_what_pointed_to_it() -> None:
    world = ReplayWorld(slate_loop(), capacity=3)
    world.admit(decided("b", 2.0))
    world.admit(decided("a", 1.0), decided("c", 3.0))  # `a` came late and points to `b`
    assert {key[0]: value[1] for key, value in transitions(world.replay).items()} == {"a": "b", "b": "c"}
    world.admit(decided("d", 4.0))
    assert ids(world) == ["a", "c", "d"]
    assert {key[0]: value[1] for key, value in transitions(world.replay).items()} == {"c": "d"}


def test_more_than_it_holds_may_come_at_once() -> None:
    world = ReplayWorld(slate_loop(), capacity=5_000)
    world.admit(*(decided(f"d{i}", float(i)) for i in range(6_000)))
    assert len(world.replay) == 5_000
    assert len(transitions(world.replay)) == 2 * 4_999
    assert ids(world)[0] == "d1000"


# ------------------------------------------------------------------ what is left out


@pytest.mark.parametrize(
    "changes",
    [
        {"context": {"unknown": 1}},
        {"context": {"page": "three"}},
        {"items": []},
        {"items": [*shown(1), LoggedItem("i2", 1, 0.0, 0.5, {"kind": "blue"})]},
        {"action": [0.1]},
    ],
)
def test_a_decision_that_does_not_encode_is_left_out_and_counted(
    world: ReplayWorld, changes: dict[str, object]
) -> None:
    wrong = decided("b", 2.0, loop_hash=world.loop.hash, **changes)
    assert world.admit(decided("a", 1.0), wrong, decided("c", 3.0)) == 2
    assert world.replay.num_skipped == 1
    assert transitions(world.replay)["a", 0] == (1.0, "c")


def test_a_decision_of_an_older_loop_file_is_taken_as_far_as_it_fits(world: ReplayWorld) -> None:
    items = [LoggedItem("i4", 0, 0.0, 0.5, {"kind": 4, "colour": "red"})]
    world.admit(decided("a", 1.0, context={"page": 50, "gone": 1}, items=items, terminated=True, loop_hash="older"))
    batch = world.replay.batch_of(np.array([0]))
    assert (batch.state_numbers.tolist(), batch.item_slots.tolist()) == ([[0.5]], [[5]])


@pytest.mark.parametrize("action", [None, [0.0, 0.0], [0.0, 0.0, 1.1]])
def test_weights_of_another_shape_are_left_out(action: list[float] | None) -> None:
    world = ReplayWorld(weights_loop())
    assert world.admit(decided("a", 1.0, items=[], action=action, log_density=0.0, rewards=(1.0,))) == 0
    assert world.replay.num_skipped == 1


def test_no_number_becomes_infinite(world: ReplayWorld) -> None:
    items = shown(1, 2)
    items[0].features["price"] = -1e300
    world.admit(decided("a", 1.0, items=items, terminated=True))
    batch = world.replay.batch_of(np.array([0]))
    assert bool(torch.isfinite(batch.item_numbers).all())


# ------------------------------------------------------------------ minibatches


def test_a_transition_batch_holds_both_decisions() -> None:
    world = ReplayWorld(slate_loop())
    world.admit(
        decided("a", 1.0, rewards=(2.0, None), items=shown(3, 4, propensity=0.25)),
        decided("b", 2.0, rewards=(None, 0.0), candidates=["i1", "i5"], terminated=True),
    )
    batches = (world.replay.sample(2) for _ in range(100))
    batch = next(each for each in batches if each is not None and len(set(each.rows)) == 2)
    order = np.argsort(batch.rows)
    a, b = order.tolist()
    assert (batch.rows[order].tolist(), batch.positions[order].tolist()) == ([0, 1], [0, 1])
    torch.testing.assert_close(batch.state_numbers[order], torch.tensor([[0.01], [0.02]]))
    assert batch.item_slots[order].tolist() == [[4], [3]]  # 1 + the category
    assert batch.item_numbers[order].tolist() == [[3.0], [2.0]]
    assert batch.reward[order].tolist() == [2.0, 0.0]
    assert batch.propensity[order].tolist() == [0.25, 0.5]
    assert batch.log_density.tolist() == [0.0, 0.0]
    assert batch.terminated[order].tolist() == [False, True]
    torch.testing.assert_close(batch.next_state_numbers[order], torch.tensor([[0.02], [0.0]]))
    assert batch.next_mask[a].tolist() == [True, True, True, False]
    assert batch.next_item_slots[a].ravel().tolist() == [2, 3, 6, 0]  # what was shown, then the other candidates
    assert batch.next_item_numbers[a].ravel().tolist() == [1.0, 2.0, 5.0, 0.0]
    assert not batch.next_mask[b].any()
    assert batch.next_item_slots[b].ravel().tolist() == [0, 0, 0, 0]
    assert batch.next_size.tolist() == [1, 1]
    assert (batch.action.shape, batch.stabilized) == ((2, 0), False)
    assert {batch.item_slots.dtype, batch.next_item_slots.dtype, batch.next_size.dtype} == {torch.int64}


def test_the_next_size_counts_its_impressions() -> None:
    world = ReplayWorld(slate_loop(size=3))
    world.admit(decided("a", 1.0), decided("b", 2.0, items=shown(1, 2, 3), rewards=(0.0, None, 0.0)))
    batch = world.replay.sample(2)
    assert batch is not None
    assert batch.next_size.tolist() == [2, 2]


def test_positions_beyond_the_loop_slate_are_not_learned_from() -> None:
    world = ReplayWorld(slate_loop(size=1))
    world.admit(decided("a", 1.0, terminated=True, items=shown(1, 2), rewards=(1.0, 5.0)))
    assert transitions(world.replay) == {("a", 0): (1.0, None)}


def test_weights_have_an_action_and_a_density() -> None:
    world = ReplayWorld(weights_loop())
    played = {"items": [], "candidates": None, "action": [0.5, -1.0, 1.0], "rewards": (4.0,)}
    world.admit(
        decided("a", 1.0, log_density=-2.5, **played),
        decided("b", 2.0, log_density=None, **played),
        decided("c", 3.0, log_density=200.0, terminated=True, **played),
    )
    assert transitions(world.replay) == {("a", 0): (4.0, "b"), ("c", 0): (4.0, None)}
    batch = world.replay.batch_of(np.array([2, 0]))
    assert batch.action.tolist() == [[0.5, -1.0, 1.0]] * 2
    assert batch.log_density.tolist() == [200.0, -2.5]
    assert (batch.item_slots.shape, batch.next_mask.shape) == ((2, 0), (2, 0))
    assert world.replay.probe(5).mask.shape == (3, 0)
    assert world.replay.number_statistics().item_mean.shape == (0,)


def test_too_few_impressions_give_no_batch(world: ReplayWorld) -> None:
    world.admit(decided("a", 1.0), decided("b", 2.0))
    assert world.replay.sample(3) is None
    assert world.replay.sample(2) is not None
    assert world.replay.sample_rewards(5) is None
    assert world.replay.sample_rewards(4) is not None


def test_a_reward_batch_has_no_next_state(world: ReplayWorld) -> None:
    world.admit(*(decided(f"d{i}", float(i)) for i in range(8)))
    batch = world.replay.sample_rewards(16)
    assert batch is not None
    assert bool(batch.terminated.all())
    assert batch.next_item_slots.shape == (16, 4, 1)
    assert not batch.next_mask.any()
    assert not batch.next_state_numbers.any()
    assert batch.next_size.tolist() == [1] * 16
    assert batch.reward.tolist() == [1.0 - position for position in batch.positions.tolist()]


def test_every_ready_impression_is_soon_in_a_batch(world: ReplayWorld) -> None:
    world.admit(*(decided(f"d{i:03}", float(i)) for i in range(101)))
    seen: set[tuple[int, int]] = set()
    for _ in range(200 // 16 + 1):
        batch = world.replay.sample(32)
        assert batch is not None
        seen |= set(zip(batch.rows.tolist(), batch.positions.tolist(), strict=True))
    assert len(seen) == 200


def test_at_most_half_of_a_batch_is_fresh(world: ReplayWorld) -> None:
    world.admit(*(decided(f"d{i:03}", float(i)) for i in range(101)))
    for _ in range(20):
        world.replay.sample(100)
    world.admit(*(decided(f"new{i:03}", 101.0 + i) for i in range(100)))
    batch = world.replay.sample(100)
    assert batch is not None
    num_fresh = int((batch.rows >= 100).sum())
    assert 50 <= num_fresh <= 50 + 45  # half, and by chance about half of the other half
    assert len(set(batch.rows[:50].tolist())) == 50  # one impression of each decision first


def test_first_trained_names_each_decision_once(world: ReplayWorld) -> None:
    world.admit(decided("b", 2.0, final_at=50.0), decided("c", 3.0), decided("z", 1.0, session_id="t", terminated=True))
    for _ in range(10):
        world.replay.sample(2)
    first = world.replay.first_trained()
    assert (first.decision_ids, first.final_at.tolist()) == (["z", "b"], [11.0, 50.0])
    batch = world.replay.batch_of(first.rows)
    assert batch.rows.tolist() == [row for row in first.rows.tolist() for _ in range(2)]
    assert batch.positions.tolist() == [0, 1, 0, 1]
    for _ in range(10):
        world.replay.sample(2)
    assert world.replay.first_trained().decision_ids == []
    world.admit(decided("d", 4.0))
    for _ in range(10):
        world.replay.sample(2)
    assert world.replay.first_trained().decision_ids == ["c"]


def test_first_trained_does_not_name_what_was_overwritten() -> None:
    world = ReplayWorld(slate_loop(), capacity=2)
    world.admit(decided("a", 1.0, terminated=True))
    world.replay.sample(2)
    world.admit(decided("b", 2.0), decided("c", 3.0))
    assert world.replay.first_trained().decision_ids == []


def test_probe_and_statistics(world: ReplayWorld) -> None:
    empty = world.replay.number_statistics()
    assert (empty.item_mean.tolist(), empty.item_std.tolist()) == ([0.0], [1.0])
    assert world.replay.probe(3).state_numbers.shape == (0, 1)
    world.admit(decided("a", 1.0, candidates=["i2", "i9"], items=shown(3)), decided("b", 2.0, items=shown(1)))
    probe = world.replay.probe(1)
    assert probe.item_slots[0].ravel().tolist() == [2, 3, 4, 0]
    assert probe.mask.tolist() == [[True, True, True, False]]
    np.testing.assert_allclose(probe.state_numbers, [[0.02]], rtol=1e-6)
    prices = [3.0, 2.0, 9.0, 1.0, 2.0, 3.0]
    statistics = world.replay.number_statistics()
    assert (statistics.state_mean.tolist(), statistics.state_std.tolist()) == ([0.0], [1.0])
    np.testing.assert_allclose(statistics.item_mean, [np.mean(prices)], rtol=1e-6)
    np.testing.assert_allclose(statistics.item_std, [np.std(prices)], rtol=1e-6)


# ------------------------------------------------------------------ restart


def test_after_a_restart_the_buffer_goes_on(world: ReplayWorld) -> None:
    world.admit(decided("a", 1.0), decided("b", 2.0))
    world.tail.horizon = 3.0
    world.admit(decided("c", 5.0))
    restarted = world.restarted()
    restarted.refill(world.replay.revision)
    assert (transitions(restarted), restarted.num_admitted) == (transitions(world.replay), 0)
    restarted.sample(2)
    assert restarted.first_trained().decision_ids == []
    world.tail.horizon = math.inf
    assert (restarted.advance(), world.replay.advance()) == (1, 1)
    assert transitions(restarted) == transitions(world.replay)
    for _ in range(10):
        restarted.sample(2)
    assert restarted.first_trained().decision_ids == ["b"]


def test_a_refill_takes_the_newest() -> None:
    world = ReplayWorld(slate_loop(), capacity=2)
    world.admit(decided("a", 1.0), decided("b", 2.0))
    world.admit(decided("c", 3.0))
    restarted = world.restarted()
    restarted.refill(2)
    assert restarted._buffer.decision_ids(np.array([0, 1])) == ["b", "c"]
    world.tail.write(decided("a", 1.0, rewards=(9.0, 9.0)))
    assert restarted.advance() == 0


# ------------------------------------------------------------------ against the pure function

_rows = st.lists(
    st.tuples(
        st.sampled_from(["s", "t", None]),  # session
        st.integers(0, 150),  # decided at
        st.booleans(),  # terminated
        st.sampled_from([(1.0, 0.0), (None, 2.0), (None, None)]),
        st.integers(0, 3),  # the revision that makes it final
        st.one_of(st.none(), st.integers(4, 5)),  # the revision that corrects it
    ),
    max_size=20,
)


def expected_transitions(rows: list[RewardedDecision]) -> dict[tuple[str, int], tuple[float, str | None]]:
    """What DESIGN §7 says, of all rows at once."""
    keyed = [
        (session_key(d.session_id, d.user_id), Entry(d.decided_at, d.decision_id, row)) for row, d in enumerate(rows)
    ]
    links = next_rows(keyed, 30.0)
    found: dict[tuple[str, int], tuple[float, str | None]] = {}
    for row, each in enumerate(rows):
        ended = each.terminated or each.session_id is None
        if ended or links[row] != NO_ROW:
            following = None if ended else rows[links[row]].decision_id
            found |= {(each.decision_id, p): (r, following) for p, r in enumerate(each.rewards) if r is not None}
    return found


@settings(deadline=None)
@given(_rows, st.integers(0, 150))
def test_any_order_of_arrival_gives_the_transitions_of_the_rows(
    drawn: list[tuple[str | None, int, bool, tuple[float | None, ...], int, int | None]], horizon: int
) -> None:
    world = ReplayWorld(slate_loop())
    first, last = [], {}
    for number, (session, at, terminated, rewards, revision, corrected_in) in enumerate(drawn):
        row = decided(f"d{number}", float(at), session_id=session, terminated=terminated, rewards=rewards)
        first.append((revision, row))
        if corrected_in is not None:
            last[corrected_in, number] = decided(
                f"d{number}", float(at), session_id=session, terminated=not terminated, rewards=(3.0, None)
            )
    for revision in range(6):
        rows = [row for at, row in first if at == revision] + [row for key, row in last.items() if key[0] == revision]
        world.tail.horizon = float(horizon) if revision < 5 else math.inf
        world.admit(*rows)
    assert transitions(world.replay) == expected_transitions(list(world.tail.rows.values()))
    restarted = world.restarted()
    restarted.refill(world.replay.revision)
    assert transitions(restarted) == transitions(world.replay)


# ------------------------------------------------------------------ candidates


def test_an_agent_that_needs_them_sees_the_candidates_that_were_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kinds.AGENTS, "dqn", AgentKind(("slate",), needs_candidates=True))
    world = ReplayWorld(slate_loop())
    world.admit(decided("a", 1.0), decided("b", 2.0))
    batch = world.replay.sample(2)
    assert batch is not None
    num = torch.arange(2)
    assert (batch.candidate_slots[num, batch.chosen] == batch.item_slots).all()
    assert batch.candidate_mask[num, batch.chosen].all()
    for i, position in enumerate(batch.positions.tolist()):
        left = world.replay._buffer.columns.candidates[batch.rows[i]] != PADDING
        assert int(batch.candidate_mask[i].sum()) == int(left.sum()) - position, "those above are gone"


def test_others_are_not_burdened_with_them(world: ReplayWorld) -> None:
    world.admit(decided("a", 1.0), decided("b", 2.0))
    batch = world.replay.sample(2)
    assert batch is not None
    assert batch.candidate_slots.shape[:2] == (2, 0)


def test_a_batch_says_where_the_next_decision_lies(world: ReplayWorld) -> None:
    world.admit(decided("a", 1.0), decided("b", 2.0, terminated=True))
    batch = world.replay.sample(4)
    assert batch is not None
    names = [world.replay._buffer.decision_ids(np.array([row]))[0] for row in batch.rows]
    following = [
        None if row == NO_ROW else world.replay._buffer.decision_ids(np.array([row]))[0] for row in batch.next_rows
    ]
    assert set(zip(names, following, strict=True)) == {("a", "b"), ("b", None)}
