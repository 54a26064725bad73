"""Thousands of sessions at once behave as one does."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from simulators.environments import register
from simulators.vector_environments import ShopVectorEnv, VirtualTaobaoVectorEnv
from simulators.world import WorldError, select

DIALS: dict[str, dict[str, Any]] = {"seen": {"leave": 1.0}, "hidden": {"leave": 1.0, "hidden": True}}


@pytest.fixture(autouse=True)
def registered() -> None:
    register()


@pytest.fixture(params=[*DIALS, "taobao"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def name(kind: str) -> str:
    return "steadyrank/Shop-v0" if kind in DIALS else "steadyrank/VirtualTaobao-v0"


@pytest.fixture
def arguments(kind: str, folder: Path) -> dict[str, Any]:
    return DIALS.get(kind, {"folder": folder, "variant": "bern30"})


def many(name: str, num_envs: int, arguments: dict[str, Any]) -> ShopVectorEnv | VirtualTaobaoVectorEnv:
    made: VectorEnv[Any, Any, Any] = gymnasium.make_vec(name, num_envs=num_envs, **arguments)
    assert isinstance(made, ShopVectorEnv | VirtualTaobaoVectorEnv)
    return made


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)
    return np.array_equal(one, other)


def test_make_vec_makes_them_with_an_autoreset_mode(name: str, arguments: dict[str, Any]) -> None:
    environment = many(name, 1_000, arguments)
    assert environment.num_envs == 1_000
    assert environment.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    observations, _ = environment.reset(seed=3)
    for _ in range(25):
        assert environment.observation_space.contains(observations)
        observations, rewards, terminated, truncated, infos = environment.step(environment.action_space.sample())
        assert [array.shape for array in (rewards, terminated, truncated)] == [(1_000,)] * 3
        assert not infos


def test_one_of_many_is_the_single_environment(name: str, arguments: dict[str, Any]) -> None:
    """Both draw the same numbers, a session after the other."""
    single: gymnasium.Env[Any, Any] = gymnasium.make(name, **arguments)
    vector = many(name, 1, arguments)
    one, _ = single.reset(seed=5)
    several, _ = vector.reset(seed=5)
    single.action_space.seed(0)
    for _ in range(5):
        done = False
        while not done:
            [row] = iterate(vector.observation_space, several)
            assert same(one, row)
            action = single.action_space.sample()
            expected = vector.oracle_reward(np.array([action]))[0]
            assert expected == pytest.approx(single.get_wrapper_attr("oracle_reward")(action))
            one, reward, terminated, truncated, _ = single.step(action)
            several, rewards, all_terminated, all_truncated, _ = vector.step(np.array([action]))
            assert (reward, terminated, truncated) == (rewards[0], all_terminated[0], all_truncated[0])
            done = terminated or truncated
        assert vector.oracle_reward(np.array([action])) == 0.0
        one, _ = single.reset()
        several, rewards, all_terminated, all_truncated, _ = vector.step(np.array([action]))
        assert (rewards[0], all_terminated[0], all_truncated[0]) == (0.0, False, False)


def test_each_row_is_its_own_session(name: str, arguments: dict[str, Any]) -> None:
    vector = many(name, 50, arguments)
    observations, _ = vector.reset(seed=1)
    vector.action_space.seed(0)
    one_space = batch_space(vector.single_observation_space, 1)
    for _ in range(30):
        state, has_ended, actions = vector._state, vector._has_ended, vector.action_space.sample()
        before = vector._view.actions(state, actions)
        expected = vector.world.oracle_reward(state, before)[:, 0]
        assert vector.oracle_reward(actions) == pytest.approx(np.where(has_ended, 0.0, expected))
        for i, row in enumerate(iterate(vector.observation_space, observations)):
            [alone] = iterate(one_space, vector._view.observations(select(state, np.array([i]))))
            assert same(row, alone)
        observations, rewards, terminated, truncated, _ = vector.step(actions)
        kept = ~has_ended & ~(terminated | truncated)
        who = "user" if "user" in state else "features"
        assert np.array_equal(vector._state[who][kept], state[who][kept])
        assert not rewards[has_ended].any()
        assert not (terminated | truncated)[has_ended].any()


def test_all_sessions_of_the_shop_are_cut_and_start_again_together() -> None:
    vector = many("steadyrank/Shop-v0", 4, {})
    vector.reset(seed=0)
    cut = [vector.step(np.zeros(4, np.int64))[3].tolist() for _ in range(42)]
    assert [i for i, each in enumerate(cut) if any(each)] == [19, 40]
    assert cut[19] == [True] * 4


def test_a_seed_says_what_happens(name: str, arguments: dict[str, Any]) -> None:
    one, other = many(name, 8, arguments), many(name, 8, arguments)
    assert same(one.reset(seed=2)[0], other.reset(seed=2)[0])
    assert not same(one.reset(seed=3)[0], other.reset(seed=4)[0])


def test_the_shop_shows_one_item() -> None:
    with pytest.raises(WorldError, match="k = 3"):
        ShopVectorEnv(2, k=3)
