"""Whose users the shoppers are: those of a world, whose clicks have a truth, or of any loop file, whose are made up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import numpy as np

from schemas.loop_file import Loop
from schemas.messages import Candidate, Recommendation, RecommendRequest
from schemas.sections import (
    CategoriesFeature,
    CategoryFeature,
    ItemFeature,
    ItemsFeature,
    NumberFeature,
    StateFeature,
)
from simulators.world import Event, World, random_reward

MEAN_PAGES = 8
"""Of a session, geometric."""
NEXT_KIND = 0.1
"""The probability of a kind given the one before it, in the order of the loop file: of a click's purchase."""
READ_ON = 0.85
"""The probability that who saw an item looks at the next one too."""
UNBOUNDED = 100.0
"""Up to which numbers go that the loop file gives no maximum."""

_RANDOM_REWARD_SESSIONS = 5_000


@dataclass(frozen=True, slots=True)
class Response:
    """What a user did about a page."""

    events: Sequence[Event]
    is_last: bool
    reward: float | None = None
    """None: clicks are made up, and mean nothing."""


class Visit(Protocol):
    """One session of one user, page by page."""

    def request(self) -> RecommendRequest:
        """For the next page, without ids."""

    def respond(self, answer: Recommendation) -> Response: ...


class Product(Protocol):
    @property
    def random_reward(self) -> float | None:
        """A decision's, of the uniformly random policy; None: rewards mean nothing."""

    def catalogue(self) -> list[Candidate]:
        """What `PUT /items` is to hold before anybody comes."""

    def visit(self, rng: np.random.Generator) -> Visit: ...


# ------------------------------------------------------------------ a world


class WorldProduct:
    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self.random_reward = random_reward(world, _RANDOM_REWARD_SESSIONS, np.random.default_rng([seed, 2]))

    def catalogue(self) -> list[Candidate]:
        return self._world.catalogue()

    def visit(self, rng: np.random.Generator) -> "WorldVisit":
        return WorldVisit(self._world, rng)


class WorldVisit:
    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self._world, self._rng, self._state = world, rng, world.start(1, rng)

    def request(self) -> RecommendRequest:
        [request] = self._world.requests(self._state)
        return request

    def respond(self, answer: Recommendation) -> Response:
        """Raises `WorldError` where the answer means no action of the world."""
        actions = self._world.actions([answer])
        outcome = self._world.step(self._state, actions, self._rng)
        self._state = outcome.next_state
        [events] = self._world.events(actions, outcome)
        return Response(events, bool(outcome.done[0]), float(outcome.rewards.sum()))


# ------------------------------------------------------------------ a loop file


class LoopProduct:
    """Random users of the product that a loop file describes; a looked-at item is clicked with probability
    `click_rate`, whatever it is. With `num_items` the catalogue is made up too; else it is the ranker's own.
    """

    random_reward = None

    def __init__(self, loop: Loop, click_rate: float, num_items: int, seed: int) -> None:
        self.loop, self.click_rate = loop, click_rate
        self._num_items, self._seed, self._users = num_items, seed, count()

    def catalogue(self) -> list[Candidate]:
        rng = np.random.default_rng([self._seed, 1])
        return [Candidate(f"load-{i}", dict(self._item_features(rng))) for i in range(self._num_items)]

    def visit(self, rng: np.random.Generator) -> "LoopVisit":
        return LoopVisit(self, f"load-user-{next(self._users)}", rng)

    def _item_features(self, rng: np.random.Generator) -> Iterator[tuple[str, Any]]:
        return ((name, draw(feature, rng, ())) for name, feature in self.loop.item.items() if name != "id")


class LoopVisit:
    def __init__(self, product: LoopProduct, user_id: str, rng: np.random.Generator) -> None:
        self._product, self._user_id, self._rng = product, user_id, rng
        self._clicked: list[str] = []

    def request(self) -> RecommendRequest:
        state = self._product.loop.state.items()
        context = {name: draw(feature, self._rng, self._clicked) for name, feature in state}
        return RecommendRequest(user_id=self._user_id, context=context)

    def respond(self, answer: Recommendation) -> Response:
        events, is_last = list(self._events(answer)), self._rng.random() < 1 / MEAN_PAGES
        if is_last and self._product.loop.session.ends:
            events.append(Event(self._product.loop.session.ends[0]))
        return Response(events, is_last)

    def _events(self, answer: Recommendation) -> Iterator[Event]:
        """From the top down, until the user has seen enough. Without items events speak of the whole decision."""
        seen = self._product.loop.reward.seen
        shown: list[str | None] = [item.item_id for item in answer.items]
        for item_id in shown or [None]:
            if seen is not None:
                yield Event(seen, item_id=item_id)
            kinds = list(self._kinds())
            if kinds and item_id is not None:
                self._clicked.append(item_id)
            yield from (Event(kind, item_id=item_id) for kind in kinds)
            if self._rng.random() > READ_ON:
                return

    def _kinds(self) -> Iterator[str]:
        reward, rate = self._product.loop.reward, self._product.click_rate
        for kind in reward.of_kind:
            if kind == reward.seen or kind in self._product.loop.session.ends:
                continue
            if self._rng.random() >= rate:
                return
            yield kind
            rate = NEXT_KIND


def draw(feature: StateFeature | ItemFeature, rng: np.random.Generator, clicked: Sequence[str]) -> Any:
    """A value that the feature takes; of `items` those clicked in this session."""
    if isinstance(feature, NumberFeature):
        low = feature.low or 0.0
        high = low + UNBOUNDED if feature.max is None else feature.max
        return float(rng.uniform(low, high))
    if isinstance(feature, ItemsFeature):
        return list(clicked[-feature.length :])
    if isinstance(feature, CategoriesFeature):
        return list({_category(feature, rng): None for _ in range(min(3, feature.length))})
    if isinstance(feature, CategoryFeature):
        return _category(feature, rng)
    return rng.normal(size=feature.dim).tolist()


def _category(feature: CategoryFeature, rng: np.random.Generator) -> str | int:
    if feature.values is not None:
        return str(rng.choice(feature.values))
    return int(rng.integers(feature.size or feature.buckets or 1))
