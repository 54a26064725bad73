"""The study's arrays are what the product's ranker and replay would have made of the same decisions."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.noise import draw_action, log_density, uniform_action
from policies.seeds import uniforms
from policies.slates import slate_propensities
from schemas.sections import GaussianExploration, GreedyExploration, SoftmaxExploration
from simulators.shop import Dials, Shop
from simulators.virtualtb import VirtualTaobao, load_networks
from simulators.world import World, WorldError, renew
from studies.batched import BatchedRun
from studies.choices import draw_weights, slate_shares, uniform_weights
from studies.encoded_worlds import EncodedRequests, encoded_world
from studies.gym_worlds import CartPole, Pendulum
from studies.online import changed
from tests.fakes.taobao import FIVE, ONE_OR_TWO, world_of
from trainer.replay.statistics import NumberStatistics

SHOP = Shop(3, Dials(leave=2.0))
REAL = Path(os.environ.get("STEADYRANK_TEST_VIRTUALTB", Path(__file__).parents[3] / "shared/data/virtualtb"))
HIDDEN = Shop(3, Dials(hidden=True, click_rate=0.5))
WORLDS = [SHOP, Shop(1, Dials(theta=0.5)), HIDDEN, world_of(FIVE), world_of(ONE_OR_TWO, 90), CartPole(), Pendulum()]


def run_of(num_decisions: int, world: World = SHOP, **sections: dict[str, object]) -> BatchedRun:
    run = BatchedRun(world, changed(world.loop, **sections), 0, num_decisions)
    run.run(num_points=1, num_evaluated=10)
    return run


# ------------------------------------------------------------------ states and candidates


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_states_and_candidates_are_encoded_as_the_product_does(world: World) -> None:
    rng = np.random.default_rng(0)
    fast, slow = encoded_world(world, world.loop), EncodedRequests(world, world.loop)
    assert fast.num_candidates == slow.num_candidates
    assert fast.num_candidates > 0 or world.loop.action.kind == "weights"
    state = world.start(20, rng)
    for _ in range(40):
        one, other = fast.probe(state), slow.probe(state)
        for name in ("state_slots", "item_slots", "item_numbers", "mask"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
            assert getattr(one, name).dtype == getattr(other, name).dtype
        assert one.state_numbers == pytest.approx(other.state_numbers, abs=1e-6)
        state = renew(world, world.step(state, world.random_actions(state, rng), rng), rng)


def test_a_slate_of_more_is_refused() -> None:
    shop = Shop(0, Dials(k=2))
    with pytest.raises(WorldError, match=r"action\.size = 2"):
        BatchedRun(shop, shop.loop, 0, 100)


# ------------------------------------------------------------------ transitions


def test_a_transition_leads_to_where_the_shop_leads() -> None:
    run = run_of(2_000)
    batch = run._memory.sample(1_000)
    assert batch is not None
    user = batch.state_slots[:, 0].numpy() - 1
    place = np.argsort(run._encoded.item_rows)[run._memory._columns.slate[batch.rows, 0] - 1]
    before, after = (2 * numbers[:, 0].numpy() - 1 for numbers in (batch.state_numbers, batch.next_state_numbers))
    goes_on = ~batch.terminated.numpy()
    assert 0.01 < batch.terminated.float().mean() < 0.2
    assert (batch.next_state_slots[goes_on] == batch.state_slots[goes_on]).all()
    expected = SHOP.next_satisfaction(user, before, place)
    assert after[goes_on] == pytest.approx(expected[goes_on], abs=1e-6)
    truth = SHOP.click_probability(user, before, place)
    assert run._memory.expected[batch.rows].numpy() == pytest.approx(truth, abs=1e-6)
    assert not batch.next_mask[batch.terminated].any()
    assert batch.next_mask[~batch.terminated].all()


def test_a_transition_leads_to_where_the_pendulum_leads() -> None:
    world = Pendulum()
    run = run_of(8_000, world, learner={"decisions_per_update": 1e3})
    batch = run._memory.sample(500)
    assert batch is not None
    assert not batch.terminated.any()  # all are only cut off, and the last decisions are not learned from
    cos, sin, turn = batch.state_numbers.double().numpy().T
    state = {"physics": np.stack([np.arctan2(sin, cos), turn], axis=1), "num_steps": np.zeros(500, np.int64)}
    actions = batch.action.double().numpy()
    outcome = world.step(state, actions, np.random.default_rng(0))
    assert batch.reward.numpy() == pytest.approx(outcome.rewards[:, 0], abs=1e-4)
    after = world.observations(outcome.next_state)
    assert batch.next_state_numbers.numpy() == pytest.approx(after, abs=1e-4)


# ------------------------------------------------------------------ choices


@pytest.mark.parametrize(
    "exploration", [SoftmaxExploration(kind="softmax", temperature=0.2, epsilon=0.1), GreedyExploration(kind="greedy")]
)
def test_propensities_are_those_of_the_ranker(exploration: SoftmaxExploration | GreedyExploration) -> None:
    run = run_of(2_000, exploration=exploration.model_dump())
    scores = run.learner.act(run._encoded.probe(run._state))
    shares = slate_shares(scores.astype(np.float64), exploration)
    for row, of_session in zip(shares, scores, strict=True):
        for i in range(10):
            assert row[i] == pytest.approx(slate_propensities(of_session, [i], exploration)[0], abs=1e-6)


@pytest.mark.parametrize(
    "noise",
    [{"sd": 0.2, "wide_share": 0.0}, {"sd": 0.05, "wide_sd": 0.4, "wide_share": 0.5}, {"sd": 1e-9, "wide_sd": 1e9}],
)
def test_weights_are_drawn_and_logged_as_the_ranker_does(noise: dict[str, float]) -> None:
    exploration = GaussianExploration(kind="gaussian", **noise)
    means = np.random.default_rng(0).uniform(-1.0, 1.0, (50, 3))
    means[:2] = [[-1.0, 1.0, 0.0], [1.0, 1.0, -1.0]]
    choice = draw_weights(means, exploration, np.stack([uniforms(seed, 4) for seed in range(50)]))
    for seed, mean in enumerate(means):
        drawn = draw_action(mean, exploration, seed)
        assert choice.actions[seed] == pytest.approx(drawn.action, abs=1e-12)
        assert choice.log_densities[seed] == pytest.approx(drawn.log_density, rel=1e-6, abs=1e-9)
    assert (choice.propensities == 1.0).all()


def test_uniform_weights_are_logged_as_the_ranker_does() -> None:
    choice = uniform_weights(1_000, 5, np.random.default_rng(0))
    assert choice.log_densities == pytest.approx(uniform_action(5, 0).log_density)
    assert choice.actions.min() == pytest.approx(-1.0, abs=0.01)
    assert choice.actions.max() == pytest.approx(1.0, abs=0.01)


def test_the_memory_holds_what_was_played_around_the_acting_policy() -> None:
    world = world_of(ONE_OR_TWO)
    run = BatchedRun(world, changed(world.loop, exploration={"sd": 0.2}), 0, 2_000)
    run._acts_uniformly = False
    for _ in range(20):
        run.decide()
        run._learn()
    means = run._acting.act(run._encoded.probe(run._state))
    assert np.abs(means).max() > 0.01
    run.decide()
    batch, explores = run._memory.newest(), run._loop.exploration
    assert isinstance(explores, GaussianExploration)
    for mean, action, logged in zip(means, batch.action, batch.log_density, strict=True):
        expected = log_density(action.tolist(), mean.tolist(), explores)
        assert float(logged) == pytest.approx(expected, rel=1e-4)
    assert (batch.propensity == 1.0).all()


# ------------------------------------------------------------------ learning


def test_the_same_seed_learns_the_same() -> None:
    torch.set_num_threads(1)
    one, other = run_of(1_000), run_of(1_000)
    tensors = other.learner.policy_tensors()
    assert all((tensors[name] == tensor).all() for name, tensor in one.learner.policy_tensors().items())


def test_hidden_satisfaction_is_learned_from_with_attention_to_the_history() -> None:
    run = run_of(640, HIDDEN, learner={"estimator": "din", "batch_size": 64})
    batch = run._memory.newest()
    assert batch.state_slots.shape == (32, 4 + 2 * 10)
    assert batch.state_numbers.shape == (32, 0)
    assert np.isfinite(run.learner.act(run._encoded.probe(run._state))).all()


def test_numbers_are_scaled_whenever_the_decisions_have_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Pendulum()
    run, seen = BatchedRun(world, world.loop, 0, 320), list[NumberStatistics]()
    monkeypatch.setattr(run.learner, "rescale", seen.append)
    run.run(num_points=1, num_evaluated=1)
    assert len(seen) == 4  # at 32, 64, 128 and 256
    numbers = run._memory._columns.state_numbers[:256]
    assert seen[-1].state_mean == pytest.approx(numbers.mean(axis=0), abs=1e-5)
    assert seen[-1].state_std == pytest.approx(numbers.std(axis=0), abs=1e-5)


def test_a_shop_has_no_numbers_to_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    run, seen = BatchedRun(SHOP, SHOP.loop, 0, 320), list[NumberStatistics]()
    monkeypatch.setattr(run.learner, "rescale", seen.append)
    run.run(num_points=1, num_evaluated=1)
    assert not seen


def test_what_a_greedy_policy_earns_is_told_by_page_or_by_session() -> None:
    """Five clicks a page whatever is done; a step of the cart is worth 1, and one push alone falls over in 8 to 10."""
    assert run_of(64, world_of(FIVE)).greedy_reward(50) == pytest.approx(5.0)
    assert 8 <= run_of(64, CartPole(), learner={"batch_size": 64}).greedy_reward(50) <= 10


@pytest.mark.slow
@pytest.mark.skipif(
    not REAL.is_dir(), reason="needs the simulator's weights: name their folder in STEADYRANK_TEST_VIRTUALTB"
)
def test_virtual_taobao_is_learned() -> None:
    torch.set_num_threads(1)
    world = VirtualTaobao(load_networks(REAL))
    loop = changed(world.loop, exploration={"sd": 0.2, "wide_share": 0.0})
    curve = BatchedRun(world, loop, 0, 4_000, num_sessions=8).run(num_points=8, num_evaluated=200)
    assert curve.reward.max() / 10 > 0.5  # .018 at random


@pytest.mark.slow
@pytest.mark.parametrize(("world", "num_decisions", "floor"), [(CartPole(), 10_000, 80.0), (Pendulum(), 5_000, -500.0)])
def test_the_tasks_of_gymnasium_are_learned(world: World, num_decisions: int, floor: float) -> None:
    torch.set_num_threads(1)
    curve = BatchedRun(world, world.loop, 0, num_decisions, num_sessions=8).run(num_points=5, num_evaluated=20)
    assert curve.reward.max() > floor
