"""The array forms of CartPole and Pendulum step as gymnasium's own do."""

from typing import Any

import gymnasium
import numpy as np
import pytest

from schemas.messages import RankedItem, Recommendation
from simulators.world import WorldError
from studies.gym_worlds import CartPole, GymWorld, Pendulum

TASKS = [(CartPole(), "CartPole-v1"), (Pendulum(), "Pendulum-v1")]


def played(world: GymWorld, action: Any) -> Any:
    """An action of the world as gymnasium's takes it."""
    return int(action[0]) if isinstance(world, CartPole) else 2.0 * action


@pytest.mark.parametrize(("world", "name"), TASKS, ids=[name for _, name in TASKS])
def test_a_session_goes_as_gymnasium_s(world: GymWorld, name: str) -> None:
    environment: gymnasium.Env[Any, Any] = gymnasium.make(name)
    rng = np.random.default_rng(1)
    for _ in range(5):
        environment.reset(seed=0)
        state, done = world.start(1, rng), False
        physics = state["physics"][0].copy()
        environment.unwrapped.state = physics  # type: ignore[attr-defined]  # of both tasks
        while not done:
            actions = world.random_actions(state, rng)
            observed, reward, terminated, truncated, _ = environment.step(played(world, actions[0]))
            outcome = world.step(state, actions, rng)
            assert outcome.rewards[0, 0] == pytest.approx(float(reward), abs=1e-6)
            assert world.observations(outcome.next_state)[0] == pytest.approx(observed, abs=1e-4)
            assert (outcome.terminated[0], outcome.done[0]) == (terminated, terminated or truncated)
            state, done = outcome.next_state, bool(outcome.done[0])


def test_a_pole_that_stands_is_cut_off_after_500_steps() -> None:
    world = CartPole()
    state = {"physics": np.zeros((2, 4)), "num_steps": np.array([498, 499])}
    outcome = world.step(state, np.array([[0], [1]]), np.random.default_rng(0))
    assert outcome.done.tolist() == [False, True]
    assert not outcome.terminated.any()


@pytest.mark.parametrize("world", [CartPole(), Pendulum()], ids=lambda world: world.name)
def test_new_sessions_start_where_gymnasium_s_do(world: GymWorld) -> None:
    physics = world.start(5_000, np.random.default_rng(0))["physics"]
    high = [0.05] * 4 if isinstance(world, CartPole) else [np.pi, 1.0]
    assert np.abs(physics).max(axis=0) == pytest.approx(high, rel=0.01)
    assert physics.mean(axis=0) / high == pytest.approx(np.zeros(len(high)), abs=0.05)


def test_answers_become_actions_and_rewards_events() -> None:
    pole, pendulum, rng = CartPole(), Pendulum(), np.random.default_rng(0)
    answers = [Recommendation("d", [RankedItem(str(i), 0.0, 0.5)], None, "fallback") for i in (1, 0)]
    actions = pole.actions(answers)
    assert actions.tolist() == [[1], [0]]
    state = pole.start(2, rng)
    state["physics"][1] = [2.4, 1.0, 0.0, 0.0]
    first, last = pole.events(actions, pole.step(state, actions, rng))
    assert [(e.kind, e.value, e.item_id) for e in first] == [("reward", 1.0, "1")]
    assert [(e.kind, e.value, e.item_id) for e in last] == [("reward", 1.0, "0"), ("failed", 1.0, None)]
    assert pendulum.actions([Recommendation("d", [], None, "fallback", action=[0.5])]).tolist() == [[0.5]]
    with pytest.raises(WorldError, match="one weight"):
        pendulum.actions([Recommendation("d", [], None, "fallback")])
