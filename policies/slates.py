"""Slates drawn from scores, with their exact propensities.

A slate is drawn position by position without replacement, from what is left: with probability 1 − ε by the scores
(softmax, or the best), with probability ε uniformly. An item's propensity is the probability of drawing it at its
position given the items above it, so that their product is the slate's.
"""

import math
from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.seeds import uniforms
from schemas.sections import GreedyExploration, SoftmaxExploration

# At temperatures below this part of the scores' spread, Gumbel noise would drown in rounding and ties would no longer
# be drawn evenly. Scores are float32, whose neighbours then still lie 60 temperatures apart: the softmax is the same.
_MIN_TEMPERATURE_OF_SPREAD = 1e-9


@dataclass(frozen=True, slots=True)
class DrawnSlate:
    indices: list[int]  # [K], in the order drawn
    propensities: list[float]  # [K]
    explored: bool
    """Whether any position was drawn from the uniform part."""


def draw_slate(
    scores: NDArray[np.floating] | None,
    k: int,
    exploration: SoftmaxExploration | GreedyExploration,
    seed: int,
    num_candidates: int | None = None,
) -> DrawnSlate:
    """A slate of min(k, N) of N candidates; the same seed gives the same slate.

    Args:
        scores: [N], or None for the uniform policy (fallback, control).
        k: the slate's size.
        exploration: softmax or ε-greedy; of no account to the uniform policy.
        seed: from 0 to 2^64 − 1.
        num_candidates: N; needed where there are no scores.

    Raises:
        ValueError: scores that are not finite, or neither scores nor `num_candidates`.
    """
    if scores is None:
        if num_candidates is None:
            raise ValueError("without scores, num_candidates must say of how many to draw")
        return _draw_uniformly(num_candidates, k, seed)
    n = len(scores)
    k = min(k, n)
    if k == 0:
        return DrawnSlate([], [], explored=False)
    logits = _logits(scores, exploration)
    softmax = isinstance(exploration, SoftmaxExploration)
    numbers = uniforms(seed, k + n if softmax else k)
    # The largest of logit + Gumbel noise is a draw of the softmax, and the largest of what is left one of the softmax
    # over what is left (Yellott 1977), whatever was taken from it uniformly in between.
    keys = logits - np.log(-np.log(numbers[k:])) if softmax else logits.copy()
    coins = numbers[:k].tolist()
    indices = _drawn(keys, coins, exploration.epsilon)
    return DrawnSlate(indices, _propensities(logits, indices, exploration), min(coins) < exploration.epsilon)


def slate_propensities(
    scores: NDArray[np.floating], indices: Sequence[int], exploration: SoftmaxExploration | GreedyExploration
) -> list[float]:
    """The propensity [K] of each item of a slate (indices [K] into scores [N]), given the items above it.

    Raises:
        ValueError: scores that are not finite.
    """
    return _propensities(_logits(scores, exploration), indices, exploration)


def _draw_uniformly(n: int, k: int, seed: int) -> DrawnSlate:
    k = min(k, n)
    taken: list[int] = []
    indices = [_take_uniformly(taken, number, n) for number in uniforms(seed, k).tolist()]
    return DrawnSlate(indices, [1.0 / (n - position) for position in range(k)], explored=k > 0)


def _drawn(keys: NDArray[np.float64], coins: list[float], epsilon: float) -> list[int]:
    """One index a coin [K]: below epsilon a uniform one of what is left, else that of the largest key [N] left.

    Overwrites the keys of what is drawn.
    """
    taken: list[int] = []
    indices = []
    for coin in coins:
        if coin < epsilon:
            i = _take_uniformly(taken, coin / epsilon, len(keys))  # uniform again, given that it lies below epsilon
        else:
            i = int(keys.argmax())
            insort(taken, i)
        keys[i] = -math.inf
        indices.append(i)
    return indices


def _take_uniformly(taken: list[int], number: float, n: int) -> int:
    """Of 0 … n − 1 without `taken`, which is sorted, the one at the part `number` of the way; adds it to them."""
    left = n - len(taken)
    rank = min(int(number * left), left - 1)
    # taken[j] − j of those left lie below taken[j]: where that is at most the rank, taken[j] lies below the one wanted.
    i = rank + bisect_right(range(len(taken)), rank, key=lambda j: taken[j] - j)
    insort(taken, i)
    return i


def _logits(scores: NDArray[np.floating], exploration: SoftmaxExploration | GreedyExploration) -> NDArray[np.float64]:
    """Scores less the best, over the temperature [N]: float64, for sums in float32 would round propensities."""
    logits = scores.astype(np.float64)
    best, worst = logits[logits.argmax()], logits[logits.argmin()]  # NaN is both where there is one
    if not (math.isfinite(best) and math.isfinite(worst)):
        raise ValueError("the scores are not finite")
    logits -= best
    if isinstance(exploration, SoftmaxExploration):
        logits /= max(exploration.temperature, (best - worst) * _MIN_TEMPERATURE_OF_SPREAD)
    return logits


def _propensities(
    logits: NDArray[np.float64], indices: Sequence[int], exploration: SoftmaxExploration | GreedyExploration
) -> list[float]:
    softmax = isinstance(exploration, SoftmaxExploration)
    shares = _softmax_shares(logits, indices) if softmax else _greedy_shares(logits, indices)
    n, epsilon = len(logits), exploration.epsilon
    return [(1.0 - epsilon) * share + epsilon / (n - position) for position, share in enumerate(shares)]


def _softmax_shares(logits: NDArray[np.float64], indices: Sequence[int]) -> list[float]:
    """exp(zᵢ) / Σ exp(z) over what is left, for each position [K].

    The sums run from what is never drawn upwards, in logarithms: nothing is subtracted, and nothing underflows.
    """
    drawn: NDArray[np.float64] = logits[list(indices)]
    log_left = np.empty(len(drawn) + 1)  # of what is left after the last position, after the one before it, …
    log_left[0] = _log_sum_of_others(logits, indices)
    log_left[1:] = drawn[::-1]
    np.logaddexp.accumulate(log_left, out=log_left)
    return np.exp(drawn - log_left[:0:-1]).tolist()  # type: ignore[no-any-return]  # numpy's stubs say Any


def _log_sum_of_others(logits: NDArray[np.float64], indices: Sequence[int]) -> float:
    if len(indices) == len(logits):
        return -math.inf
    others = logits.copy()
    others[list(indices)] = -math.inf
    largest = others[others.argmax()]
    others -= largest
    return float(largest) + math.log(np.exp(others, out=others).sum())


def _greedy_shares(logits: NDArray[np.float64], indices: Sequence[int]) -> list[float]:
    """1 for each position [K] that has the best of what is left (of equals the first), else 0."""
    left = logits.copy()
    shares = []
    for i in indices:
        shares.append(float(i == left.argmax()))
        left[i] = -math.inf
    return shares
