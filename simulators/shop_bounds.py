"""What can be had in a shop: the reward a session of the random, the best myopic and the optimal policy.

Scores of policies are told between them: (J − random) / (optimal − random).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulators.shop import MAX_DECISIONS, NUM_CANDIDATES, NUM_ITEMS, NUM_USERS, Shop
from simulators.world import Floats, WorldError


@dataclass(frozen=True, slots=True)
class Bounds:
    """Expected reward a session."""

    random: float
    myopic: float
    """Shows what is most likely clicked now, by the true probability."""
    optimal: float


def shop_bounds(
    shop: Shop, rng: np.random.Generator, num_users: int = 100, num_draws: int = 25, grid_size: int = 21
) -> Bounds:
    """By backward induction over satisfaction, on the truth: for each of some users, each decision, and some draws of
    the candidates. Satisfaction is a grid on [-1, 1], with linear interpolation in between. The best policies here see
    it; where the dial `hidden` is turned, what can be had is less.

    Raises:
        WorldError: the shop shows more than one item a decision.
    """
    if shop.dials.k != 1:
        raise WorldError(f"bounds are known for one item a decision; found k = {shop.dials.k}")
    users = rng.choice(NUM_USERS, num_users, replace=False)[:, None, None]
    values = np.zeros((3, num_users, grid_size))  # of random, myopic, optimal: the reward still to come
    for _ in range(MAX_DECISIONS):
        items = rng.integers(NUM_ITEMS, size=(num_users, num_draws, NUM_CANDIDATES))
        levels = np.linspace(-1.0, 1.0, grid_size)
        values = np.stack([_values_before(shop, users, items, level, values) for level in levels], axis=2)
    random, myopic, optimal = values[:, :, grid_size // 2].mean(axis=1).tolist()
    return Bounds(random, myopic, optimal)


def _values_before(
    shop: Shop, users: NDArray[np.int64], items: NDArray[np.int64], level: float, later: Floats
) -> Floats:
    """[3, U] the three policies' reward to come at one level of satisfaction, given that `later` [3, U, G]."""
    satisfaction = np.array(level)
    clicks = shop.click_probability(users, satisfaction, items)  # [U, draws, candidates]
    after = shop.next_satisfaction(users, satisfaction, items)
    totals = clicks + shop.stays(after) * _interpolate(later, after)  # [3, U, draws, candidates]
    myopic = np.take_along_axis(totals[1], clicks.argmax(axis=2)[..., None], axis=2)
    return np.stack([totals[0].mean(axis=(1, 2)), myopic.mean(axis=(1, 2)), totals[2].max(axis=2).mean(axis=1)])


def _interpolate(values: Floats, satisfaction: Floats) -> Floats:
    """[3, U, G] at satisfaction [U, draws, candidates] → [3, U, draws, candidates]"""
    last = values.shape[2] - 1
    place = (satisfaction + 1.0) * last / 2
    left = np.minimum(place.astype(np.int64), last - 1)
    share, users = place - left, np.arange(values.shape[1])[:, None, None]
    return np.asarray(values[:, users, left] * (1 - share) + values[:, users, left + 1] * share)
