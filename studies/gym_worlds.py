"""Two standard tasks of gymnasium as worlds, by arrays: what an agent is worth where everyone knows the answer.

`CartPole` is CartPole-v1 with a slate of one of two items, `Pendulum` is Pendulum-v1 with one weight. Their rewards are
not noisy; tests/learning/test_gym_worlds.py holds their steps against gymnasium's.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from schemas.loop_file import Loop
from schemas.messages import Candidate, Recommendation, RecommendRequest
from simulators.world import Actions, Event, Flags, Floats, Outcome, State, WorldError

_REWARD = {"reward": 1.0, "wait": "2s", "closes": ["reward"]}


class GymWorld(ABC):
    """States have the columns `physics` [n, P] and `num_steps` [n]; the context is the vector `observation`."""

    name: str
    page_size: int | None = None
    max_steps: int
    """After which a session is cut off."""

    @property
    @abstractmethod
    def loop(self) -> Loop: ...

    @abstractmethod
    def catalogue(self) -> list[Candidate]: ...

    @abstractmethod
    def actions(self, answers: Sequence[Recommendation]) -> Actions: ...

    @abstractmethod
    def random_actions(self, state: State, rng: np.random.Generator) -> Actions: ...

    @abstractmethod
    def oracle_reward(self, state: State, actions: Actions) -> Floats: ...

    @abstractmethod
    def observations(self, state: State) -> Floats:
        """[n, O]"""

    @abstractmethod
    def _draw(self, num_sessions: int, rng: np.random.Generator) -> Floats:
        """[n, P] the physics of new sessions."""

    @abstractmethod
    def _move(self, physics: Floats, actions: Actions) -> Floats:
        """[n, P] → [n, P]"""

    @abstractmethod
    def _has_failed(self, physics: Floats) -> Flags:
        """[n]"""

    def start(self, num_sessions: int, rng: np.random.Generator) -> State:
        return {"physics": self._draw(num_sessions, rng), "num_steps": np.zeros(num_sessions, np.int64)}

    def requests(self, state: State) -> list[RecommendRequest]:
        items: list[str | Candidate] | None = [item.item_id for item in self.catalogue()] or None
        contexts = ({"observation": each} for each in self.observations(state).tolist())
        return [RecommendRequest(context=context, candidates=items) for context in contexts]

    def step(self, state: State, actions: Actions, _rng: np.random.Generator) -> Outcome:
        physics, num_steps = self._move(state["physics"], actions), state["num_steps"] + 1
        failed = self._has_failed(physics)
        is_cut = ~failed & (num_steps >= self.max_steps)
        rewards = self.oracle_reward(state, actions)
        return Outcome(rewards, failed | is_cut, {"physics": physics, "num_steps": num_steps}, truncated=is_cut)

    def events(self, actions: Actions, outcome: Outcome) -> list[list[Event]]:
        items = [item.item_id for item in self.catalogue()]
        shown = [items[place] for place in actions[:, 0]] if items else [None] * len(actions)
        rows = zip(shown, outcome.rewards[:, 0].tolist(), outcome.terminated.tolist(), strict=True)
        return [[Event("reward", reward, item)] + [Event("failed")] * failed for item, reward, failed in rows]


class CartPole(GymWorld):
    """CartPole-v1 (Barto, Sutton, Anderson 1983), Euler steps of .02 s: physics are x, ẋ, θ, θ̇; an item is a push."""

    name = "cartpole"
    max_steps = 500

    @cached_property
    def loop(self) -> Loop:
        return Loop.model_validate(
            {
                "name": self.name,
                "state": {"observation": {"kind": "vector", "dim": 4}},
                "item": {"id": {"kind": "category", "size": 2}},
                "action": {"kind": "slate", "size": 1},
                "reward": _REWARD,
                "session": {"ends": ["failed"]},
                "network": {"interaction": "mlp", "hidden": [64]},
                "learner": {
                    "agent": "dqn",
                    "stabilizer": "raw",
                    "discount": 0.99,
                    "batch_size": 64,
                    "decisions_per_update": 2.0,
                    "learning_rate": 1e-3,
                    "polyak": 0.01,
                },
                "exploration": {"kind": "greedy", "epsilon": 0.1},
            }
        )

    def catalogue(self) -> list[Candidate]:
        return [Candidate("0"), Candidate("1")]

    def actions(self, answers: Sequence[Recommendation]) -> Actions:
        return np.array([[int(item.item_id) for item in answer.items] for answer in answers])

    def random_actions(self, state: State, rng: np.random.Generator) -> Actions:
        return rng.integers(2, size=(len(state["num_steps"]), 1))

    def oracle_reward(self, state: State, actions: Actions) -> Floats:  # noqa: ARG002  every step is worth 1
        return np.ones((len(state["num_steps"]), 1))

    def observations(self, state: State) -> Floats:
        return state["physics"]

    def _draw(self, num_sessions: int, rng: np.random.Generator) -> Floats:
        return rng.uniform(-0.05, 0.05, (num_sessions, 4))

    def _move(self, physics: Floats, actions: Actions) -> Floats:
        """A cart of 1 kg, a pole of .1 kg whose centre lies .5 m up, a push of 10 N."""
        _, speed, angle, turn = physics.T
        push = np.where(actions[:, 0] == 1, 10.0, -10.0)
        cos, sin = np.cos(angle), np.sin(angle)
        common = (push + 0.05 * turn**2 * sin) / 1.1
        turning = (9.8 * sin - cos * common) / (0.5 * (4.0 / 3.0 - 0.1 * cos**2 / 1.1))
        pushing = common - 0.05 * turning * cos / 1.1
        return physics + 0.02 * np.stack([speed, pushing, turn, turning], axis=1)

    def _has_failed(self, physics: Floats) -> Flags:
        return np.asarray((np.abs(physics[:, 0]) > 2.4) | (np.abs(physics[:, 2]) > np.radians(12)))


class Pendulum(GymWorld):
    """Pendulum-v1, steps of .05 s: physics are θ, which is 0 upright, and θ̇; the weight is the torque over 2 N m."""

    name = "pendulum"
    max_steps = 200

    @cached_property
    def loop(self) -> Loop:
        return Loop.model_validate(
            {
                "name": self.name,
                "state": {"observation": {"kind": "vector", "dim": 3}},
                "action": {"kind": "weights", "dim": 1},
                "reward": _REWARD,
                "session": {"ends": ["failed"]},
                "network": {"hidden": [64, 64]},
                "learner": {
                    "agent": "ddpg",
                    "stabilizer": "raw",
                    "discount": 0.98,
                    "batch_size": 64,
                    "decisions_per_update": 1.0,
                    "learning_rate": 1e-3,
                    "polyak": 0.01,
                    "action_penalty": 0.0,
                },
                "exploration": {"kind": "gaussian", "sd": 0.2, "wide_share": 0.0},
            }
        )

    def catalogue(self) -> list[Candidate]:
        return []

    def actions(self, answers: Sequence[Recommendation]) -> Actions:
        actions = [answer.action for answer in answers]
        for action in actions:
            if action is None or len(action) != 1:
                raise WorldError(f"the pendulum needs an action of one weight; the answer has {action}")
        return np.array(actions)

    def random_actions(self, state: State, rng: np.random.Generator) -> Actions:
        return rng.uniform(-1.0, 1.0, (len(state["num_steps"]), 1))

    def oracle_reward(self, state: State, actions: Actions) -> Floats:
        angle, turn = state["physics"].T
        off = (angle + np.pi) % (2 * np.pi) - np.pi
        cost: Floats = off**2 + 0.1 * turn**2 + 0.001 * _torque(actions) ** 2
        return -cost[:, None]

    def observations(self, state: State) -> Floats:
        angle, turn = state["physics"].T
        return np.stack([np.cos(angle), np.sin(angle), turn], axis=1)

    def _draw(self, num_sessions: int, rng: np.random.Generator) -> Floats:
        return rng.uniform(-1.0, 1.0, (num_sessions, 2)) * [np.pi, 1.0]

    def _move(self, physics: Floats, actions: Actions) -> Floats:
        """1 kg at 1 m, gravity of 10 m/s²; at most 8 rad/s."""
        angle, turn = physics.T
        turn = np.clip(turn + (15.0 * np.sin(angle) + 3.0 * _torque(actions)) * 0.05, -8.0, 8.0)
        return np.stack([angle + turn * 0.05, turn], axis=1)

    def _has_failed(self, physics: Floats) -> Flags:
        return np.zeros(len(physics), np.bool_)


def _torque(actions: Actions) -> Floats:
    """[n] in N m."""
    return np.asarray(2.0 * np.clip(actions[:, 0], -1.0, 1.0))
