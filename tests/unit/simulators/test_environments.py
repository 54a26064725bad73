"""The worlds as gymnasium environments: its own checker is content, and the truth is at hand."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from simulators.environments import ShopEnv, register
from simulators.world import WorldError


@pytest.fixture(autouse=True)
def registered() -> None:
    register()
    register()  # harmless to repeat


def test_gymnasium_finds_no_fault_in_the_shop() -> None:
    check_env(gymnasium.make("steadyrank/Shop-v0").unwrapped)
    check_env(gymnasium.make("steadyrank/Shop-v0", hidden=True).unwrapped)


def test_gymnasium_finds_no_fault_in_virtual_taobao(folder: Path) -> None:
    check_env(gymnasium.make("steadyrank/VirtualTaobao-v0", folder=folder).unwrapped)


def test_an_action_shows_the_candidate_at_that_place() -> None:
    environment = ShopEnv(theta=1.0)
    observation, _ = environment.reset(seed=4)
    item = observation["candidates"][3]
    p = environment.world.oracle_reward(environment._state, np.array([[item]]))
    assert environment.oracle_reward(np.int64(3)) == p[0, 0]
    assert 0 < p[0, 0] < 1


def test_a_session_of_the_shop_lasts_20_decisions_and_rewards_are_clicks() -> None:
    environment: gymnasium.Env[Any, Any] = gymnasium.make("steadyrank/Shop-v0", click_rate=0.5)
    environment.reset(seed=1)
    steps = [environment.step(np.int64(0)) for _ in range(20)]
    assert [truncated for _, _, _, truncated, _ in steps] == [False] * 19 + [True]
    assert not any(terminated for _, _, terminated, _, _ in steps)
    assert {reward for _, reward, _, _, _ in steps} == {0.0, 1.0}


def test_hidden_satisfaction_is_observed_by_what_was_shown_and_clicked() -> None:
    environment = ShopEnv(hidden=True, click_rate=0.5)
    observation, _ = environment.reset(seed=1)
    assert observation["history"].tolist() == [-1] * 10
    shown, clicked = [], []
    for _ in range(12):
        shown.append(observation["candidates"][2])
        observation, reward, _, _, _ = environment.step(np.int64(2))
        clicked.append(int(reward))
        assert "sat" not in observation
    assert observation["history"].tolist() == shown[-10:]
    assert observation["clicked"].tolist() == clicked[-10:]
    assert set(clicked) == {0, 1}


def test_the_shop_environment_shows_one_item() -> None:
    with pytest.raises(WorldError, match="k = 3"):
        ShopEnv(k=3)


def test_a_whole_session_raises_no_warning_of_gymnasium(folder: Path) -> None:
    """`make` wraps a checker around every step, whose warnings are errors here."""
    for name, arguments in (("Shop", {"leave": 1.0}), ("VirtualTaobao", {"folder": folder, "variant": "bern30"})):
        environment: gymnasium.Env[Any, Any] = gymnasium.make(f"steadyrank/{name}-v0", **arguments)
        environment.reset(seed=0)
        environment.action_space.seed(0)
        done = False
        while not done:
            action = environment.action_space.sample()
            assert environment.get_wrapper_attr("oracle_reward")(action) >= 0
            _, _, terminated, truncated, _ = environment.step(action)
            done = terminated or truncated
