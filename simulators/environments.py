"""The worlds for gymnasium: call `register()`, then `gymnasium.make("steadyrank/Shop-v0")`.

`steadyrank/VirtualTaobao-v0` wants `folder=` with the simulator's weights. An environment is one session of its world
at a time; thousands in parallel are the worlds themselves (`simulators.world`).
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any, Generic, TypeVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from simulators.shop import NUM_CANDIDATES, NUM_ITEM_CATEGORIES, NUM_ITEMS, NUM_USERS, USER_CATEGORIES, Dials, Shop
from simulators.virtualtb import (
    MAX_CLICKS,
    MAX_INDEX,
    MAX_PAGE,
    NUM_USER_DIMS,
    NUM_WEIGHTS,
    Variant,
    VirtualTaobao,
    load_networks,
    one_hot,
)
from simulators.world import Actions, State, World, WorldError

Observation = TypeVar("Observation")
Action = TypeVar("Action")


class _SessionEnv(gymnasium.Env[Observation, Action], Generic[Observation, Action]):
    """One session of a world, and another with each `reset`."""

    def __init__(self, world: World) -> None:
        self.world = world

    @abstractmethod
    def _observe(self, state: State) -> Observation: ...

    @abstractmethod
    def _actions(self, action: Action) -> Actions: ...

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._state = self.world.start(1, self.np_random)
        return self._observe(self._state), {}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        outcome = self.world.step(self._state, self._actions(action), self.np_random)
        self._state = outcome.next_state
        is_cut = bool(outcome.done[0] and not outcome.terminated[0])
        return self._observe(self._state), float(outcome.rewards.sum()), bool(outcome.terminated[0]), is_cut, {}

    def oracle_reward(self, action: Action) -> float:
        """The exact E[r | s, a] of an action in the present state."""
        return float(self.world.oracle_reward(self._state, self._actions(action)).sum())


class ShopEnv(_SessionEnv[dict[str, Any], np.int64]):
    """`shop` at k = 1. The action is a place among the 10 candidates, whose places in the catalogue are observed."""

    def __init__(self, world_seed: int = 0, **dials: Any) -> None:
        """`dials` as those of `simulators.shop.Dials`."""
        shop = Shop(world_seed, Dials(**dials))
        if shop.dials.k != 1:
            raise WorldError(f"the environment shows one item a decision; found k = {shop.dials.k}")
        super().__init__(shop)
        self._truth = shop.truth
        self.action_space = spaces.Discrete(NUM_CANDIDATES)
        categories = {f"c{i}": spaces.Discrete(size) for i, size in enumerate(USER_CATEGORIES)}
        self.observation_space = spaces.Dict(
            {
                "user": spaces.Discrete(NUM_USERS),
                **categories,
                "sat": spaces.Box(-1.0, 1.0, (1,), np.float32),
                "candidates": spaces.MultiDiscrete([NUM_ITEMS] * NUM_CANDIDATES),
                "candidate_categories": spaces.MultiDiscrete([NUM_ITEM_CATEGORIES] * NUM_CANDIDATES),
            }
        )

    def _observe(self, state: State) -> dict[str, Any]:
        user, candidates = state["user"][0], state["candidates"][0]
        return {
            "user": user,
            **{f"c{i}": category for i, category in enumerate(self._truth.user_categories[user])},
            "sat": state["satisfaction"].astype(np.float32),
            "candidates": candidates.copy(),
            "candidate_categories": self._truth.item_categories[candidates],
        }

    def _actions(self, action: np.int64) -> Actions:
        return self._state["candidates"][:, [int(action)]]


class VirtualTaobaoEnv(_SessionEnv[NDArray[np.float32], NDArray[np.float32]]):
    """`virtualtb`: 91 numbers (88 of the user, one-hot; clicks and index of the page before; the page), 27 weights."""

    def __init__(self, folder: str | Path, variant: Variant = "native") -> None:
        super().__init__(VirtualTaobao(load_networks(Path(folder)), variant))
        high = np.array([1.0] * NUM_USER_DIMS + [MAX_CLICKS, MAX_INDEX, MAX_PAGE + 1], np.float32)
        self.observation_space = spaces.Box(np.zeros_like(high), high, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (NUM_WEIGHTS,), np.float32)

    def _observe(self, state: State) -> NDArray[np.float32]:
        numbers = [state[name][0] for name in ("clicks", "index", "num_pages")]
        return np.concatenate([one_hot(state["features"])[0], np.array(numbers, np.float32)])

    def _actions(self, action: NDArray[np.float32]) -> Actions:
        return np.asarray(action)[None, :]


def register() -> None:
    """Makes both known to gymnasium; harmless to repeat."""
    environments = {"steadyrank/Shop-v0": ShopEnv, "steadyrank/VirtualTaobao-v0": VirtualTaobaoEnv}
    for name, environment in environments.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point=f"{__name__}:{environment.__name__}")
