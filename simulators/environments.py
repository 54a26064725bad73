"""The worlds for gymnasium: call `register()`, then `gymnasium.make("steadyrank/Shop-v0")`.

`steadyrank/VirtualTaobao-v0` wants `folder=` with the simulator's weights. An environment is one session of its world
at a time; `gymnasium.make_vec` makes thousands in parallel (`simulators.vector_environments`).
"""

from pathlib import Path
from typing import Any, Protocol, TypeVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray

from simulators.shop import (
    HISTORY_LENGTH,
    NO_ITEM,
    NUM_CANDIDATES,
    NUM_ITEM_CATEGORIES,
    NUM_ITEMS,
    NUM_USERS,
    USER_CATEGORIES,
    Dials,
    Shop,
)
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


class View(Protocol[Observation, Action]):
    """How a world looks to gymnasium: the spaces of one session, and what many observe and do at once."""

    world: World
    observation_space: spaces.Space[Observation]
    action_space: spaces.Space[Action]

    def observations(self, state: State) -> Observation:
        """Of all n sessions: as of one, each array with a first axis of n."""

    def actions(self, state: State, actions: Any) -> Actions:
        """[n, …] of the action space → those of the world."""


class ShopView(View[dict[str, Any], np.int64]):
    """The action is a place among the 10 candidates, whose places in the catalogue are observed.

    With the dial `hidden` the last items of the session are too, the newest last, -1 where there is none, and which of
    them were clicked; without it, satisfaction is.
    """

    def __init__(self, shop: Shop) -> None:
        if shop.dials.k != 1:
            raise WorldError(f"the environment shows one item a decision; found k = {shop.dials.k}")
        self.world = shop
        self._truth, self._is_hidden = shop.truth, shop.dials.hidden
        self.action_space = spaces.Discrete(NUM_CANDIDATES)
        categories = {f"c{i}": spaces.Discrete(size) for i, size in enumerate(USER_CATEGORIES)}
        self.observation_space = spaces.Dict(
            {
                "user": spaces.Discrete(NUM_USERS),
                **categories,
                **_mood_spaces(self._is_hidden),
                "candidates": spaces.MultiDiscrete([NUM_ITEMS] * NUM_CANDIDATES),
                "candidate_categories": spaces.MultiDiscrete([NUM_ITEM_CATEGORIES] * NUM_CANDIDATES),
            }
        )

    def observations(self, state: State) -> dict[str, Any]:
        users, candidates = state["user"], state["candidates"]
        categories = self._truth.user_categories[users]
        return {
            "user": users.copy(),
            **{f"c{i}": categories[:, i] for i in range(len(USER_CATEGORIES))},
            **self._moods(state),
            "candidates": candidates.copy(),
            "candidate_categories": self._truth.item_categories[candidates],
        }

    def _moods(self, state: State) -> dict[str, Any]:
        if self._is_hidden:
            return {"history": state["history"].copy(), "clicked": state["clicked"].astype(np.int8)}
        return {"sat": state["satisfaction"][:, None].astype(np.float32)}

    def actions(self, state: State, actions: Any) -> Actions:
        return np.take_along_axis(state["candidates"], np.asarray(actions)[:, None], axis=1)


def _mood_spaces(is_hidden: bool) -> dict[str, spaces.Space[Any]]:
    if not is_hidden:
        return {"sat": spaces.Box(-1.0, 1.0, (1,), np.float32)}
    items = spaces.MultiDiscrete([NUM_ITEMS - NO_ITEM] * HISTORY_LENGTH, start=[NO_ITEM] * HISTORY_LENGTH)
    return {"history": items, "clicked": spaces.MultiBinary(HISTORY_LENGTH)}


class TaobaoView(View[NDArray[np.float32], NDArray[np.float32]]):
    """91 numbers (88 of the user, one-hot; clicks and index of the page before; the page), 27 weights."""

    def __init__(self, world: VirtualTaobao) -> None:
        self.world = world
        high = np.array([1.0] * NUM_USER_DIMS + [MAX_CLICKS, MAX_INDEX, MAX_PAGE + 1], np.float32)
        self.observation_space = spaces.Box(np.zeros_like(high), high, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (NUM_WEIGHTS,), np.float32)

    def observations(self, state: State) -> NDArray[np.float32]:
        numbers = [state[name].astype(np.float32) for name in ("clicks", "index", "num_pages")]
        return np.column_stack([one_hot(state["features"]), *numbers])

    def actions(self, state: State, actions: Any) -> Actions:  # noqa: ARG002  weights are weights in any state
        return np.asarray(actions)


class _SessionEnv(gymnasium.Env[Observation, Action]):
    """One session of a world, and another with each `reset`."""

    def __init__(self, view: View[Observation, Action]) -> None:
        self.world = view.world
        self.observation_space, self.action_space = view.observation_space, view.action_space
        self._view, self._one = view, batch_space(view.observation_space, 1)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._state = self.world.start(1, self.np_random)
        return self._observe(), {}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        outcome = self.world.step(self._state, self._actions(action), self.np_random)
        self._state = outcome.next_state
        is_cut = bool(outcome.done[0] and not outcome.terminated[0])
        return self._observe(), float(outcome.rewards.sum()), bool(outcome.terminated[0]), is_cut, {}

    def oracle_reward(self, action: Action) -> float:
        """The exact E[r | s, a] of an action in the present state."""
        return float(self.world.oracle_reward(self._state, self._actions(action)).sum())

    def _observe(self) -> Observation:
        observation: Observation = next(iter(iterate(self._one, self._view.observations(self._state))))
        return observation

    def _actions(self, action: Action) -> Actions:
        return self._view.actions(self._state, np.array([action]))


class ShopEnv(_SessionEnv[dict[str, Any], np.int64]):
    """`shop` at k = 1."""

    def __init__(self, world_seed: int = 0, **dials: Any) -> None:
        """`dials` as those of `simulators.shop.Dials`."""
        super().__init__(ShopView(Shop(world_seed, Dials(**dials))))


class VirtualTaobaoEnv(_SessionEnv[NDArray[np.float32], NDArray[np.float32]]):
    """`virtualtb`."""

    def __init__(self, folder: str | Path, variant: Variant = "native") -> None:
        super().__init__(TaobaoView(VirtualTaobao(load_networks(Path(folder)), variant)))


def register() -> None:
    """Makes both known to gymnasium; harmless to repeat."""
    for name in ("Shop", "VirtualTaobao"):
        if f"steadyrank/{name}-v0" not in gymnasium.registry:
            gymnasium.register(
                f"steadyrank/{name}-v0",
                entry_point=f"simulators.environments:{name}Env",
                vector_entry_point=f"simulators.vector_environments:{name}VectorEnv",
            )
