"""Slates drawn from scores, with their exact propensities.

A slate is drawn position by position without replacement, from what is left: with probability 1 − ε by the scores
(softmax, or the best), with probability ε uniformly. An item's propensity is the probability of drawing it at its
position given the items above it, so that their product is the slate's.
"""

import math
from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.seeds import uniforms, uniforms_of
from schemas.sections import GreedyExploration, SoftmaxExploration

# At temperatures below this part of the scores' spread, Gumbel noise would drown in rounding and ties would no longer
# be drawn evenly. Scores are float32, whose neighbours then still lie 60 temperatures apart: the softmax is the same.
_MIN_TEMPERATURE_OF_SPREAD = 1e-9
_MIN_LOGIT = -600.0
"""Below the best, above which exp keeps all its digits; it does so down to −708."""
_FEW = 256
"""Candidates, of which all are sorted; of more only the best."""

Exploration = SoftmaxExploration | GreedyExploration


@dataclass(frozen=True, slots=True)
class DrawnSlate:
    indices: list[int]  # [K], in the order drawn
    propensities: list[float]  # [K]
    explored: bool
    """Whether any position was drawn from the uniform part."""


class DrawnSlates(NamedTuple):
    """B of them."""

    indices: NDArray[np.intp]  # [B, K]
    propensities: NDArray[np.float64]  # [B, K]
    explored: NDArray[np.bool_]  # [B]


def draw_slates(scores: NDArray[np.floating], k: int, exploration: Exploration, seeds: Sequence[int]) -> DrawnSlates:
    """For each of B requests a slate of K = min(k, N) of its N candidates; the same seed gives the same slate, alone or
    among others. Many at once cost little more than one.

    Args:
        scores: [B, N]
        k: the slates' size.
        exploration: softmax or ε-greedy.
        seeds: [B], from 0 to 2^64 − 1.

    Raises:
        ValueError: scores that are not finite.
    """
    b, n = scores.shape
    k = min(k, n)
    if k == 0:
        return DrawnSlates(np.empty((b, 0), np.intp), np.empty((b, 0)), np.zeros(b, np.bool_))
    logits = exploration_logits(scores, exploration)
    softmax = isinstance(exploration, SoftmaxExploration)
    numbers = uniforms_of(seeds, k + n if softmax else k)  # [B, …]
    # The largest of logit + Gumbel noise is a draw of the softmax, and the largest of what is left one of the softmax
    # over what is left (Yellott 1977), whatever was taken from it uniformly in between.
    keys = logits - np.log(-np.log(numbers[:, k:])) if softmax else logits
    indices = _largest(keys, k, can_tie=not softmax)
    is_chance = numbers[:, :k] < exploration.epsilon
    for row, position in np.argwhere(is_chance).tolist():  # from above, as each changes what is below it
        # Uniform again, given that it lies below epsilon.
        number = float(numbers[row, position]) / exploration.epsilon
        indices[row] = _with_chance(indices[row].tolist(), position, number, n)
    explored = np.logical_or.reduce(is_chance, axis=1)
    return DrawnSlates(indices, _propensities(logits, indices, exploration), explored)


def draw_uniform_slate(num_candidates: int, k: int, seed: int, gone: Sequence[int] = ()) -> DrawnSlate:
    """A slate by the uniform policy (fallback, control): of the candidates 0 … num_candidates − 1 but for those `gone`,
    which are sorted, k or as many as are left.
    """
    num_left = num_candidates - len(gone)
    k, taken = min(k, num_left), [*gone]
    indices = [take_uniformly(taken, number, num_candidates) for number in uniforms(seed, k).tolist()]
    return DrawnSlate(indices, [1.0 / (num_left - position) for position in range(k)], explored=k > 0)


def slate_propensities(scores: NDArray[np.floating], indices: Sequence[int], exploration: Exploration) -> list[float]:
    """The propensity [K] of each item of a slate (indices [K] into scores [N]), given the items above it.

    Raises:
        ValueError: scores that are not finite.
    """
    slates = np.array([indices], np.intp)
    propensities: list[float] = _propensities(exploration_logits(scores[None], exploration), slates, exploration)[
        0
    ].tolist()
    return propensities


def _largest(keys: NDArray[np.float64], k: int, *, can_tie: bool) -> NDArray[np.intp]:
    """The indices [B, K] of the largest keys [B, N], the largest first, of equals the first."""
    n = keys.shape[1]
    if n <= _FEW:
        # Noise leaves no ties, and a sort that need not be stable takes a third of the time.
        return np.argsort(-keys, axis=1, kind="stable" if can_tie else None)[:, :k]
    least = np.partition(keys, n - k, axis=1)[:, n - k]  # the k-th largest
    ranked = [np.flatnonzero(of_row >= bound) for of_row, bound in zip(keys, least, strict=True)]
    return np.array([some[np.argsort(-keys[row, some], kind="stable")[:k]] for row, some in enumerate(ranked)])


def _with_chance(slate: list[int], position: int, number: float, n: int) -> list[int]:
    """The slate [K] with a uniform one of what is left at the position; what comes below moves on."""
    above = slate[:position]
    picked = take_uniformly(sorted(above), number, n)
    return [*above, picked, *[each for each in slate[position:] if each != picked]][: len(slate)]


def take_uniformly(taken: list[int], number: float, n: int) -> int:
    """Of 0 … n − 1 without `taken`, which is sorted, the one at the part `number` of the way; adds it to them."""
    left = n - len(taken)
    rank = min(int(number * left), left - 1)
    # taken[j] − j of those left lie below taken[j]: where that is at most the rank, taken[j] lies below the one wanted.
    i = rank + bisect_right(range(len(taken)), rank, key=lambda j: taken[j] - j)
    insort(taken, i)
    return i


def exploration_logits(scores: NDArray[np.floating], exploration: Exploration) -> NDArray[np.float64]:
    """Scores less the best, over the temperature [B, N]: float64, for sums in float32 would round propensities."""
    logits = scores.astype(np.float64)
    best, worst = logits.max(axis=1, keepdims=True), logits.min(axis=1, keepdims=True)  # NaN is both where there is one
    if not (np.isfinite(best).all() and np.isfinite(worst).all()):
        raise ValueError("the scores are not finite")
    logits -= best
    if isinstance(exploration, SoftmaxExploration):
        logits /= np.maximum(exploration.temperature, (best - worst) * _MIN_TEMPERATURE_OF_SPREAD)
    return logits


def _propensities(
    logits: NDArray[np.float64], indices: NDArray[np.intp], exploration: Exploration
) -> NDArray[np.float64]:
    """[B, K] of logits [B, N] and slates [B, K]."""
    softmax = isinstance(exploration, SoftmaxExploration)
    shares = softmax_shares(logits, indices) if softmax else greedy_shares(logits, indices)
    left = logits.shape[1] - np.arange(indices.shape[1])
    propensities: NDArray[np.float64] = (1.0 - exploration.epsilon) * shares + exploration.epsilon / left
    return propensities


def softmax_shares(logits: NDArray[np.float64], indices: NDArray[np.intp]) -> NDArray[np.float64]:
    """exp(zᵢ) / Σ exp(z) over what is left, for each position [B, K].

    The sums run from what is never drawn upwards: nothing is subtracted. Where exp would underflow they are sums of
    logarithms, which cost several times as much.
    """
    rows = np.arange(len(logits))[:, None]
    if logits.min() < _MIN_LOGIT:
        return np.array([_shares_by_logarithms(*each) for each in zip(logits, indices, strict=True)])
    weights = np.exp(logits)
    drawn = weights[rows, indices]
    weights[rows, indices] = 0.0
    left = drawn[:, ::-1].copy()
    left[:, 0] += weights.sum(axis=1)
    shares: NDArray[np.float64] = drawn / np.cumsum(left, axis=1)[:, ::-1]
    return shares


def _shares_by_logarithms(logits: NDArray[np.float64], indices: NDArray[np.intp]) -> NDArray[np.float64]:
    """The same for one slate, [K]; nothing underflows."""
    drawn = logits[indices]
    log_left = np.empty(len(drawn) + 1)  # of what is left after the last position, after the one before it, …
    log_left[0] = _log_sum_of_others(logits, indices)
    log_left[1:] = drawn[::-1]
    np.logaddexp.accumulate(log_left, out=log_left)
    shares: NDArray[np.float64] = np.exp(drawn - log_left[:0:-1])
    return shares


def _log_sum_of_others(logits: NDArray[np.float64], indices: NDArray[np.intp]) -> float:
    if len(indices) == len(logits):
        return -math.inf
    others = logits.copy()
    others[indices] = -math.inf
    largest = others.max()
    others -= largest
    return float(largest) + math.log(np.exp(others, out=others).sum())


def greedy_shares(logits: NDArray[np.float64], indices: NDArray[np.intp]) -> NDArray[np.float64]:
    """1 for each position [B, K] that has the best of what is left (of equals the first), else 0."""
    left, rows = logits.copy(), np.arange(len(logits))
    shares = np.empty(indices.shape)
    for position, picked in enumerate(indices.T):
        shares[:, position] = picked == left.argmax(axis=1)
        left[rows, picked] = -math.inf
    return shares
