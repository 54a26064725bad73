"""What every world offers: sessions in parallel, the truth behind them, and the loop that a recommender needs.

A world holds no sessions. It hands out their `State`, columns of one row a session, and `step` makes the next from it:
one shape serves a shopper that is alone with its session (n = 1) and a study that runs thousands as arrays.

In shapes n is the number of sessions, K the rewards of a decision: one an impression of its slate, or one in all where
the action is a vector of weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.loop_file import Loop
from schemas.messages import Candidate, Recommendation, RecommendRequest

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]
Actions: TypeAlias = NDArray[Any]
"""[n, k] places of the chosen items in the catalogue (int), or [n, dim] weights in [-1, 1] (float)."""
State: TypeAlias = dict[str, NDArray[Any]]
"""Columns with one row a session: all that a session is at one decision, hidden parts included."""


class WorldError(ValueError):
    """A world that cannot be had; the text says what was given and what would be right."""


class Event(msgspec.Struct, frozen=True):
    """What a shopper did; `item_id` is None where it speaks of the whole decision."""

    kind: str
    value: float = 1.0
    item_id: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one decision of each of n sessions."""

    rewards: Floats
    """[n, K], as the loop's reward rule makes them of the events."""
    done: Flags
    """[n]: the session ended at this decision."""
    next_state: State
    """Where `done`, the rows mean nothing."""
    truncated: Flags | None = None
    """[n] of those done, the ones that were only cut off, by nothing that was shown; None: all of them left."""

    @property
    def terminated(self) -> Flags:
        """[n]: the user left."""
        return self.done if self.truncated is None else self.done & ~self.truncated


class World(Protocol):
    """A simulator whose truth is known, drawn once from a seed. What happens is drawn from the generators given."""

    @property
    def name(self) -> str: ...

    @property
    def loop(self) -> Loop:
        """The loop that a recommender for this world needs."""

    @property
    def page_size(self) -> int | None:
        """Where the reward counts the clicks of a page: its items, so that CTR = reward / decisions / page_size."""

    def catalogue(self) -> list[Candidate]:
        """What `PUT /items` is to hold, empty without a catalogue."""

    def start(self, num_sessions: int, rng: np.random.Generator) -> State:
        """New sessions at their first decision."""

    def requests(self, state: State) -> list[RecommendRequest]:
        """[n] what a product would ask: user, context, candidates."""

    def actions(self, answers: Sequence[Recommendation]) -> Actions:
        """[n, …] the actions that the answers mean; raises `WorldError` where one means none."""

    def random_actions(self, state: State, rng: np.random.Generator) -> Actions:
        """[n, …] the uniformly random policy."""

    def oracle_reward(self, state: State, actions: Actions) -> Floats:
        """[n, K] the exact E[r | s, a]."""

    def step(self, state: State, actions: Actions, rng: np.random.Generator) -> Outcome:
        """One decision of every session; `state` stays as it was."""

    def events(self, actions: Actions, outcome: Outcome) -> list[list[Event]]:
        """[n] the feedback on each decision, in the order it happened; of a user who left the last event says so."""


def select(state: State, rows: NDArray[Any]) -> State:
    """Some rows of a state, by mask or by index; a copy."""
    return {name: column[rows] for name, column in state.items()}


def renew(world: World, outcome: Outcome, rng: np.random.Generator) -> State:
    """The next state, with a new session in place of each that is done: for studies that keep n sessions going."""
    num_done = int(outcome.done.sum())
    if num_done == 0:
        return outcome.next_state
    fresh = world.start(num_done, rng)
    state = {name: column.copy() for name, column in outcome.next_state.items()}
    for name, column in state.items():
        column[outcome.done] = fresh[name]
    return state


def random_reward(world: World, num_sessions: int, rng: np.random.Generator) -> float:
    """The uniformly random policy's mean true expected reward a decision, over whole sessions."""
    state, total, num_decisions = world.start(num_sessions, rng), 0.0, 0
    num_left = num_sessions
    while num_left:
        actions = world.random_actions(state, rng)
        total += float(world.oracle_reward(state, actions).sum())
        num_decisions += num_left
        outcome = world.step(state, actions, rng)
        state = select(outcome.next_state, ~outcome.done)
        num_left -= int(outcome.done.sum())
    return total / num_decisions
