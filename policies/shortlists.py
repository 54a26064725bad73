"""Slates of a large catalogue: the policy draws from a shortlist of it, chance from all of it.

As in `policies.slates`, position by position from what is left: with probability 1 − ε by the scores over what is left
of the shortlist, with probability ε uniformly over what is left of the catalogue; once nothing of the shortlist is
left, uniformly always. Nothing here costs more for a larger catalogue.
"""

import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.seeds import uniforms
from policies.slates import (
    DrawnSlate,
    draw_uniform_slate,
    exploration_logits,
    greedy_shares,
    softmax_shares,
    take_uniformly,
)
from schemas.sections import GreedyExploration, SoftmaxExploration


@dataclass(frozen=True, slots=True)
class Eligible:
    """Of the rows 0 … num_rows − 1 all but those `gone`."""

    num_rows: int
    gone: Sequence[int] = ()
    """Sorted, none twice."""

    def __len__(self) -> int:
        return self.num_rows - len(self.gone)


@dataclass(frozen=True, slots=True)
class Shortlist:
    """S eligible rows that the policy scored."""

    rows: NDArray[np.intp]  # [S]
    scores: NDArray[np.float32]  # [S]


def draw_with_shortlist(
    shortlist: Shortlist, eligible: Eligible, k: int, exploration: SoftmaxExploration | GreedyExploration, seed: int
) -> DrawnSlate:
    """A slate of min(k, N) rows; the same seed gives the same slate.

    Raises:
        ValueError: scores that are not finite.
    """
    k = min(k, len(eligible))
    if not len(shortlist.rows) or k == 0:
        return draw_uniform_slate(eligible.num_rows, k, seed, eligible.gone)
    [logits] = exploration_logits(shortlist.scores[None], exploration)
    numbers = uniforms(seed, k + len(logits))
    keys = logits.copy()
    if isinstance(exploration, SoftmaxExploration):
        keys -= np.log(-np.log(numbers[k:]))
    rows, places, num_by_policy = _drawn(keys, shortlist.rows, eligible, numbers[:k].tolist(), exploration.epsilon)
    return DrawnSlate(rows, _propensities(logits, places, len(eligible), exploration), explored=num_by_policy < k)


def shortlist_propensities(
    shortlist: Shortlist, num_eligible: int, rows: Sequence[int], exploration: SoftmaxExploration | GreedyExploration
) -> list[float]:
    """The propensity [K] of each row of a slate, given those above it; raises ValueError as `draw_with_shortlist`."""
    [logits] = exploration_logits(shortlist.scores[None], exploration)
    return _propensities(logits, [_place(shortlist.rows, row) for row in rows], num_eligible, exploration)


def _drawn(
    keys: NDArray[np.float64], listed: NDArray[np.intp], eligible: Eligible, coins: list[float], epsilon: float
) -> tuple[list[int], list[int | None], int]:
    """A row a coin [K], the places of the rows on the list, and how many the scores chose. Overwrites the keys [S] of
    what is drawn.
    """
    taken: list[int] = [*eligible.gone]
    rows, places = list[int](), list[int | None]()
    num_by_policy = 0
    for coin in coins:
        best: int | None = int(keys.argmax())
        if coin < epsilon or keys[best] == -math.inf:
            # Uniform again, given on which side of epsilon it lies.
            number = coin / epsilon if coin < epsilon else (coin - epsilon) / (1.0 - epsilon)
            row = take_uniformly(taken, number, eligible.num_rows)
            best = _place(listed, row)
        else:
            row = int(listed[best])
            insort(taken, row)
            num_by_policy += 1
        if best is not None:
            keys[best] = -math.inf
        rows.append(row)
        places.append(best)
    return rows, places, num_by_policy


def _place(listed: NDArray[np.intp], row: int) -> int | None:
    found = np.flatnonzero(listed == row)
    return int(found[0]) if len(found) else None


def _propensities(
    logits: NDArray[np.float64],
    places: Sequence[int | None],
    num_eligible: int,
    exploration: SoftmaxExploration | GreedyExploration,
) -> list[float]:
    """Of rows with these places [K] on the list, None of one that is not there."""
    listed = [place for place in places if place is not None]
    of_policy = softmax_shares if isinstance(exploration, SoftmaxExploration) else greedy_shares
    shares = iter(of_policy(logits[None], np.array([listed], np.intp))[0].tolist() if listed else ())
    num_left = len(logits)
    propensities = []
    for position, place in enumerate(places):
        epsilon = exploration.epsilon if num_left else 1.0
        share = 0.0
        if place is not None:
            share = next(shares)
            num_left -= 1
        propensities.append((1.0 - epsilon) * share + epsilon / (num_eligible - position))
    return propensities
