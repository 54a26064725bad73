"""`shop`: a shop whose users come back satisfied, or do not, and whose best clicks are not its best items.

1,000 users and 500 items with latent tastes. An item's clickbait draws clicks now; its quality, which goes against
clickbait, moves the user's satisfaction and so the clicks of all later decisions. A session is 20 decisions over 10
candidates each. Users, categories and satisfaction are observed, tastes, clickbait and quality are not; where the dial
`hidden` is turned, satisfaction is not either, and has to be told from what was shown and clicked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.loop_file import Loop, read_loop
from schemas.messages import Candidate, Recommendation, RecommendRequest
from schemas.sections import ItemsFeature, StateFeature
from simulators.world import Actions, Event, Floats, Ints, Outcome, State, WorldError

NUM_USERS = 1_000
NUM_ITEMS = 500
NUM_CANDIDATES = 10
MAX_DECISIONS = 20
USER_CATEGORIES = (12, 8, 5)
NUM_ITEM_CATEGORIES = 20
LATENT_DIM = 4
HISTORY_LENGTH = 10
NO_ITEM = -1
"""Where the history of a young session is not full yet."""

_LOOP = Path(__file__).with_name("shop.toml")


@dataclass(frozen=True, slots=True)
class Dials:
    """What may be turned; as it stands it is the shop of the loop file."""

    click_rate: float = 0.2
    """Mean click probability of a random item at satisfaction 0; sets b."""
    theta: float = 1.0
    """Noise, in (0, 1]: r = Bernoulli(θp) / θ. E[r | s, a] and with it all bounds stay as they are."""
    heavy: float = 0.0
    """Sd of the log of a lognormal factor of mean 1 on each reward: conversions of very different worth."""
    leave: float | None = None
    """With a number a session goes on only with probability σ(2.9 + leave · sat); at most 20 decisions either way."""
    k: int = 1
    """Items of a slate: each is shown and may be clicked; satisfaction moves by their mean."""
    deterministic: bool = False
    """The reward is the click probability itself."""
    gaussian: float = 0.0
    """Sd of Gaussian noise on each reward: the reward may be negative then."""
    satisfaction: float = 2.0
    """Weight of satisfaction in the click's logit: how much more than its clicks an item is worth."""
    hidden: bool = False
    """In place of satisfaction the context has the session's last 10 items, and which of them were clicked."""

    def __post_init__(self) -> None:
        is_noise = 0 < self.theta <= 1 and self.heavy >= 0 and self.gaussian >= 0
        if not (0 < self.click_rate < 1 and is_noise and 1 <= self.k <= NUM_CANDIDATES):
            raise WorldError(
                "shop takes click_rate in (0, 1), theta in (0, 1], heavy >= 0, gaussian >= 0, "
                f"k from 1 to {NUM_CANDIDATES}: {self}"
            )


@dataclass(frozen=True)
class Shop:
    """A shop drawn from `seed`; equal seeds and dials make equal shops."""

    seed: int = 0
    dials: Dials = field(default_factory=Dials)
    name: str = "shop"
    page_size: int | None = None

    @cached_property
    def loop(self) -> Loop:
        loop = read_loop(_LOOP)
        action = loop.action.model_copy(update={"size": self.dials.k})
        return loop.model_copy(update={"action": action, "state": self._observed(loop.state)})

    # -------------------------------------------------------------- the truth

    @cached_property
    def truth(self) -> "Truth":
        return Truth.draw(np.random.default_rng(self.seed), self.dials.click_rate)

    def click_probability(self, users: Ints, satisfaction: Floats, items: Ints) -> Floats:
        """σ(b + affinity + .7 clickbait + 2 sat), broadcast over all three."""
        return _sigmoid(self.truth.appeal[users, items] + self.dials.satisfaction * satisfaction)

    def next_satisfaction(self, users: Ints, satisfaction: Floats, items: Ints) -> Floats:
        """.85 sat + .15 tanh(1.2 quality + .4 affinity), broadcast, of one item shown alone."""
        return np.clip(0.85 * satisfaction + self.truth.delight[users, items], -1.0, 1.0)

    def stays(self, satisfaction: Floats) -> Floats:
        """The probability that a session goes on, given the satisfaction after the decision."""
        leave = self.dials.leave
        return np.ones_like(satisfaction) if leave is None else _sigmoid(2.9 + leave * satisfaction)

    # -------------------------------------------------------------- the world

    def catalogue(self) -> list[Candidate]:
        return [Candidate(_item_id(i), {"category": int(c)}) for i, c in enumerate(self.truth.item_categories)]

    def start(self, num_sessions: int, rng: np.random.Generator) -> State:
        """Columns `user`, `satisfaction`, `num_decisions` [n] and `candidates` [n, 10], places in the catalogue; with
        the dial `hidden` also `history` [n, 10], places or `NO_ITEM`, the newest last, and `clicked` [n, 10], flags.
        """
        state = {
            "user": rng.integers(NUM_USERS, size=num_sessions),
            "satisfaction": np.zeros(num_sessions),
            "num_decisions": np.zeros(num_sessions, np.int64),
            "candidates": _draw_candidates(num_sessions, rng),
        }
        if self.dials.hidden:
            state["history"] = np.full((num_sessions, HISTORY_LENGTH), NO_ITEM)
            state["clicked"] = np.zeros((num_sessions, HISTORY_LENGTH), np.bool_)
        return state

    def requests(self, state: State) -> list[RecommendRequest]:
        users, categories = state["user"].tolist(), self.truth.user_categories[state["user"]].tolist()
        return [
            RecommendRequest(
                user_id=f"user-{user}",
                context={"user": user, "c0": c0, "c1": c1, "c2": c2} | mood,
                candidates=[_item_id(i) for i in candidates],
            )
            for user, mood, (c0, c1, c2), candidates in zip(
                users, self._moods(state), categories, state["candidates"].tolist(), strict=True
            )
        ]

    def actions(self, answers: Sequence[Recommendation]) -> Actions:
        for answer in answers:
            if len(answer.items) != self.dials.k:
                raise WorldError(f"the shop shows {self.dials.k} items; the answer has {len(answer.items)}")
        return np.array([[self._place(item.item_id) for item in answer.items] for answer in answers])

    def random_actions(self, state: State, rng: np.random.Generator) -> Actions:
        # Candidates are in random order already, but a policy must not depend on how they came about.
        columns = rng.permuted(np.tile(np.arange(NUM_CANDIDATES), (len(state["user"]), 1)), axis=1)
        return np.take_along_axis(state["candidates"], columns[:, : self.dials.k], axis=1)

    def oracle_reward(self, state: State, actions: Actions) -> Floats:
        return self.click_probability(state["user"][:, None], state["satisfaction"][:, None], actions)

    def step(self, state: State, actions: Actions, rng: np.random.Generator) -> Outcome:
        rewards = self._draw_rewards(self.oracle_reward(state, actions), rng)
        after = self.next_satisfaction(state["user"][:, None], state["satisfaction"][:, None], actions).mean(axis=1)
        num_decisions = state["num_decisions"] + 1
        leaves = rng.random(len(after)) >= self.stays(after)
        is_cut = ~leaves & (num_decisions >= MAX_DECISIONS)
        next_state = {
            "user": state["user"],
            "satisfaction": after,
            "num_decisions": num_decisions,
            "candidates": _draw_candidates(len(after), rng),
        }
        if self.dials.hidden:
            next_state["history"] = np.hstack([state["history"], actions])[:, -HISTORY_LENGTH:]
            next_state["clicked"] = np.hstack([state["clicked"], rewards > 0])[:, -HISTORY_LENGTH:]
        return Outcome(rewards, leaves | is_cut, next_state, truncated=is_cut)

    def events(self, actions: Actions, outcome: Outcome) -> list[list[Event]]:
        """After 20 decisions nobody says "leave": nothing that is observed foretells it, and an agent that were told so
        would learn that any decision may be worth a fraction of itself (docs/decisions/0009).
        """
        rows = zip(actions.tolist(), outcome.rewards.tolist(), outcome.terminated.tolist(), strict=True)
        return [
            [Event("click", reward, _item_id(i)) for i, reward in zip(items, rewards, strict=True) if reward]
            + [Event("leave")] * leaves
            for items, rewards, leaves in rows
        ]

    def _observed(self, features: Mapping[str, StateFeature]) -> dict[str, StateFeature]:
        """The `[state]` of the loop, given that of the loop file."""
        if not self.dials.hidden:
            return {**features}
        items = ItemsFeature(kind="items", length=HISTORY_LENGTH)
        return {name: each for name, each in features.items() if name != "sat"} | {"history": items, "clicked": items}

    def _moods(self, state: State) -> list[dict[str, Any]]:
        """[n] the part of the context that tells of satisfaction."""
        if not self.dials.hidden:
            return [{"sat": satisfaction} for satisfaction in state["satisfaction"].tolist()]
        clicked = np.where(state["clicked"], state["history"], NO_ITEM)
        rows = zip(state["history"].tolist(), clicked.tolist(), strict=True)
        return [{"history": _item_ids(of_session), "clicked": _item_ids(those)} for of_session, those in rows]

    def _draw_rewards(self, p: Floats, rng: np.random.Generator) -> Floats:
        theta, heavy, gaussian = self.dials.theta, self.dials.heavy, self.dials.gaussian
        rewards = p if self.dials.deterministic else (rng.random(p.shape) < theta * p) / theta
        if heavy:
            rewards = rewards * rng.lognormal(-heavy * heavy / 2, heavy, p.shape)
        return rewards + rng.normal(0.0, gaussian, p.shape) if gaussian else rewards

    @cached_property
    def _places(self) -> dict[str, int]:
        return {_item_id(i): i for i in range(NUM_ITEMS)}

    def _place(self, item_id: str) -> int:
        if item_id not in self._places:
            raise WorldError(f"the shop has no item {item_id!r}")
        return self._places[item_id]


@dataclass(frozen=True, slots=True)
class Truth:
    """What the recommender does not see, and the categories, which it does."""

    user_categories: Ints
    """[1000, 3]"""
    item_categories: Ints
    """[500]"""
    appeal: Floats
    """[1000, 500] the logit of a click at satisfaction 0."""
    delight: Floats
    """[1000, 500] what an item adds to satisfaction."""

    @classmethod
    def draw(cls, rng: np.random.Generator, click_rate: float) -> "Truth":
        user_categories = np.stack([rng.integers(size, size=NUM_USERS) for size in USER_CATEGORIES], axis=1)
        item_categories = rng.integers(NUM_ITEM_CATEGORIES, size=NUM_ITEMS)
        tastes = [rng.standard_normal((size, LATENT_DIM)) for size in USER_CATEGORIES]
        # Both kinds of latents have variance 1: 3 · .48² + .55² = .8² + .6² = 1, so affinity has too.
        users = 0.48 * sum(taste[user_categories[:, i]] for i, taste in enumerate(tastes))
        users = users + 0.55 * rng.standard_normal((NUM_USERS, LATENT_DIM))
        items = 0.8 * rng.standard_normal((NUM_ITEM_CATEGORIES, LATENT_DIM))[item_categories]
        items = items + 0.6 * rng.standard_normal((NUM_ITEMS, LATENT_DIM))
        clickbait = rng.standard_normal(NUM_ITEMS)
        quality = -0.7 * clickbait + 0.71 * rng.standard_normal(NUM_ITEMS)
        affinity = users @ items.T / np.sqrt(LATENT_DIM)
        appeal = affinity + 0.7 * clickbait
        delight = 0.15 * np.tanh(1.2 * quality + 0.4 * affinity)
        return cls(user_categories, item_categories, appeal + _intercept(appeal, click_rate), delight)


def _intercept(logits: Floats, click_rate: float) -> float:
    """The b at which the mean of σ(b + logits) is `click_rate`, by Newton's method."""
    b = float(np.log(click_rate / (1 - click_rate)))
    for _ in range(8):
        p = _sigmoid(b + logits)
        b += (click_rate - float(p.mean())) / float((p * (1 - p)).mean())
    return b


def _draw_candidates(num_sessions: int, rng: np.random.Generator) -> Ints:
    """[n, 10] distinct items a row, uniformly: rows with a repeat, one in eleven, are drawn again."""
    candidates = rng.integers(NUM_ITEMS, size=(num_sessions, NUM_CANDIDATES))
    while (again := _has_repeat(candidates)).any():
        candidates[again] = rng.integers(NUM_ITEMS, size=(int(again.sum()), NUM_CANDIDATES))
    return candidates


def _has_repeat(rows: Ints) -> NDArray[np.bool_]:
    ordered = np.sort(rows, axis=1)
    return np.asarray((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))


def _item_id(place: int) -> str:
    return f"item-{place}"


def _item_ids(places: Sequence[int]) -> list[str]:
    return [_item_id(place) for place in places if place != NO_ITEM]


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))
