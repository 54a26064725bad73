"""Thousands of sessions of a world at once, for gymnasium: `gymnasium.make_vec("steadyrank/Shop-v0", num_envs=1000)`.

No session waits for another: the step after its last one starts a new one (gymnasium's autoreset of the next step). The
action of that step does nothing, and its reward is 0.
"""

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from simulators.environments import ShopView, TaobaoView, View
from simulators.shop import Dials, Shop
from simulators.virtualtb import Variant, VirtualTaobao, load_networks
from simulators.world import Flags, Floats, State, select

Observation = TypeVar("Observation")
Action = TypeVar("Action")


class _SessionsEnv(VectorEnv[Observation, Any, NDArray[Any]]):
    """n sessions of a world."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012  so gymnasium declares it

    def __init__(self, view: View[Observation, Action], num_envs: int) -> None:
        self.world, self.num_envs = view.world, num_envs
        self.single_observation_space, self.single_action_space = view.observation_space, view.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._view = view

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._state = self.world.start(self.num_envs, self.np_random)
        self._has_ended = np.zeros(self.num_envs, np.bool_)
        return self._view.observations(self._state), {}

    def step(self, actions: Any) -> tuple[Observation, Floats, Flags, Flags, dict[str, Any]]:
        goes_on = ~self._has_ended
        going = select(self._state, goes_on)
        outcome = self.world.step(going, self._view.actions(going, np.asarray(actions)[goes_on]), self.np_random)
        new = self.world.start(int(self._has_ended.sum()), self.np_random)
        self._state = _merged(goes_on, outcome.next_state, new)
        rewards, terminated, done = np.zeros(self.num_envs), np.zeros_like(goes_on), np.zeros_like(goes_on)
        rewards[goes_on] = outcome.rewards.sum(axis=1)
        terminated[goes_on], done[goes_on] = outcome.terminated, outcome.done
        self._has_ended = done
        return self._view.observations(self._state), rewards, terminated, done & ~terminated, {}

    def oracle_reward(self, actions: Any) -> Floats:
        """[n] the exact E[r | s, a] of actions in the present states: 0 where a session has ended."""
        expected = self.world.oracle_reward(self._state, self._view.actions(self._state, actions)).sum(axis=1)
        return np.where(self._has_ended, 0.0, expected)


class ShopVectorEnv(_SessionsEnv[dict[str, Any]]):
    """`shop` at k = 1."""

    def __init__(self, num_envs: int = 1, world_seed: int = 0, **dials: Any) -> None:
        """`dials` as those of `simulators.shop.Dials`."""
        super().__init__(ShopView(Shop(world_seed, Dials(**dials))), num_envs)


class VirtualTaobaoVectorEnv(_SessionsEnv[NDArray[np.float32]]):
    """`virtualtb`."""

    def __init__(self, folder: str | Path, num_envs: int = 1, variant: Variant = "native") -> None:
        super().__init__(TaobaoView(VirtualTaobao(load_networks(Path(folder)), variant)), num_envs)


def _merged(mask: Flags, where: State, elsewhere: State) -> State:
    """A state whose rows [n] come from one where `mask` [n], and from the other elsewhere."""
    merged = {}
    for name, column in where.items():
        merged[name] = np.empty((len(mask), *column.shape[1:]), column.dtype)
        merged[name][mask], merged[name][~mask] = column, elsewhere[name]
    return merged
