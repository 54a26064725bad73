"""Slates drawn from scores, with their exact propensities.

A slate is drawn position by position without replacement, from what is left: with probability 1 − ε by the scores
(softmax, or the best), with probability ε uniformly. An item's propensity is the probability of drawing it at its
position given the items above it, so that their product is the slate's.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.seeds import uniforms
from schemas.sections import GreedyExploration, SoftmaxExploration

# At temperatures below this part of the scores' spread, Gumbel noise would drown in rounding and ties would no longer
# be drawn evenly. Scores are float32, whose neighbours then still lie 60 temperatures apart: the softmax is the same.
_MIN_TEMPERATURE_OF_SPREAD = 1e-9
_LEAST_LOGIT = -600.0
"""From here on exp(logit), and sums of it, are doubles of full precision; far below they would underflow."""


class DrawnSlate(msgspec.Struct, frozen=True):
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
    keys = logits + _gumbel(numbers[k:]) if softmax else logits.copy()
    coins = numbers[:k].tolist()
    indices = _drawn(keys, coins, exploration.epsilon)
    return DrawnSlate(indices, _propensities(logits, indices, exploration), min(coins) < exploration.epsilon)


def _gumbel(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gumbel noise −log(−log u) of uniform numbers u, which it overwrites."""
    for _ in range(2):
        np.log(numbers, out=numbers)
        np.negative(numbers, out=numbers)
    return numbers


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
    indices: list[int] = []
    for number in uniforms(seed, k).tolist():
        indices.append(_uniform_of_left(indices, number, n))
    return DrawnSlate(indices, [1.0 / (n - position) for position in range(k)], explored=k > 0)


def _drawn(keys: NDArray[np.float64], coins: list[float], epsilon: float) -> list[int]:
    """One index a coin [K]: below epsilon a uniform one of what is left, else that of the largest key [N] left.

    Overwrites the keys of what is drawn.
    """
    indices: list[int] = []
    for coin in coins:
        # A coin below epsilon is, divided by it, uniform again.
        i = _uniform_of_left(indices, coin / epsilon, len(keys)) if coin < epsilon else int(keys.argmax())
        keys[i] = -math.inf
        indices.append(i)
    return indices


def _uniform_of_left(taken: Sequence[int], number: float, n: int) -> int:
    """Of 0 … n − 1 without `taken`, the one at the part `number` of the way."""
    ordered, left = sorted(taken), n - len(taken)
    rank = min(int(number * left), left - 1)
    # ordered[j] − j of those left lie below ordered[j]: where that is at most the rank, it lies below the one wanted.
    return rank + bisect_right(range(len(ordered)), rank, key=lambda j: ordered[j] - j)


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

    The sums run from what is never drawn upwards: nothing is subtracted, so nothing cancels.
    """
    at = np.array(indices, np.intp)
    if logits[logits.argmin()] < _LEAST_LOGIT:
        return _softmax_shares_of_far_apart(logits, at)
    weights = np.exp(logits)
    drawn = weights[at].tolist()
    weights[at] = 0.0
    left, shares = float(np.add.reduce(weights)), []
    for weight in reversed(drawn):
        left += weight
        shares.append(weight / left)
    shares.reverse()
    return shares


def _softmax_shares_of_far_apart(logits: NDArray[np.float64], at: NDArray[np.intp]) -> list[float]:
    """The same in logarithms, at three times the cost: nothing underflows."""
    drawn = logits[at]
    log_left = np.empty(len(drawn) + 1)  # of what is left after the last position, after the one before it, …
    log_left[0] = _log_sum_of_others(logits, at)
    log_left[1:] = drawn[::-1]
    np.logaddexp.accumulate(log_left, out=log_left)
    return np.exp(drawn - log_left[:0:-1]).tolist()  # type: ignore[no-any-return]  # numpy's stubs say Any


def _log_sum_of_others(logits: NDArray[np.float64], at: NDArray[np.intp]) -> float:
    if len(at) == len(logits):
        return -math.inf
    others = logits.copy()
    others[at] = -math.inf
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
