"""Whether estimates mean what they say, and monotone maps that make them.

A map is fitted to estimates that were made before their rewards were seen, and applied to later ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NUM_KNOTS = 64
"""Of a map: between them it is linear."""
_MIN_SHARE = 1e-6
_MAX_SHARPNESS = 10.0
_NUM_NEWTON_STEPS = 20


Calibration: TypeAlias = Callable[[Floats, Floats], tuple[Floats, Floats]]
"""From estimates and rewards [n] to knots (x, y), both [64] and rising, of the map from estimates to mean rewards."""


def temperature_knots(estimate: Floats, reward: Floats) -> tuple[Floats, Floats]:
    """σ(c + (z − c) / T) with z the logit of the estimate within the rewards' range, c that of the mean reward.

    Temperature scaling (arXiv 1706.04599) for rare rewards: about c, since about 0 a larger T would draw the estimates
    of clicks of 5 % towards 50 %. T is the one of the least cross-entropy.
    """
    low, high = reward.min(), reward.max()
    knots = _knots(estimate)
    if high <= low:
        return knots, knots
    centre = float(_logit(np.array((reward.mean() - low) / (high - low))))
    sharpness = fit_sharpness(_logit((estimate - low) / (high - low)) - centre, (reward - low) / (high - low), centre)
    logits = _logit((knots - low) / (high - low)) - centre
    return knots, low + (high - low) * _sigmoid(centre + sharpness * logits)


def fit_sharpness(deviation: Floats, label: Floats, centre: float) -> float:
    """1 / T, of the least cross-entropy of σ(centre + deviation / T) [n] with labels [n] in [0, 1], by Newton's steps.

    The loss is convex in 1 / T; kept within 0 (all alike) and 10.
    """
    sharpness = 1.0
    for _ in range(_NUM_NEWTON_STEPS):
        p = _sigmoid(centre + sharpness * deviation)
        slope = float(((p - label) * deviation).mean())
        curvature = float((p * (1 - p) * deviation**2).mean())
        if curvature <= 0:
            break
        step = min(max(slope / curvature, -0.5), 0.5)
        sharpness = min(max(sharpness - step, 0.0), _MAX_SHARPNESS)
    return sharpness


def isotonic_knots(estimate: Floats, reward: Floats) -> tuple[Floats, Floats]:
    """The rising map of the least squared error (Zadrozny and Elkan 2002), at the quantiles of the estimates.

    Raises:
        ImportError: scikit-learn is not installed; it comes with steadyrank[studies].
    """
    from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415  only who asks for it needs it

    knots = _knots(estimate)
    fitted = IsotonicRegression(out_of_bounds="clip").fit(estimate, reward)
    return knots, np.asarray(fitted.predict(knots), np.float64)


CALIBRATIONS: dict[str, Calibration] = {
    "temperature": temperature_knots,
    "isotonic": isotonic_knots,
}
"""By name, those of `schemas.kinds.CALIBRATIONS` but for `none`."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """K bins of equally many impressions each, by their estimates."""

    estimate: Floats
    """[K] the mean of each bin."""
    reward: Floats
    """[K]"""
    count: NDArray[np.int64]
    """[K]"""

    @property
    def error(self) -> float:
        """The expected calibration error Σ n_k / n |estimate_k − reward_k|, in the unit of the reward."""
        return float(np.average(np.abs(self.estimate - self.reward), weights=self.count))


def reliability(estimate: Floats, reward: Floats, num_bins: int = 15) -> Reliability:
    """Of estimates and rewards [n], n at least 1; with fewer than `num_bins` each has its own bin.

    Bins of equal mass (arXiv 1909.10155): with those of equal width nearly all clicks of 5 % lie in one.
    """
    order = np.argsort(estimate, kind="stable")
    bins = np.array_split(order, min(num_bins, len(order)))
    return Reliability(
        np.array([estimate[each].mean() for each in bins]),
        np.array([reward[each].mean() for each in bins]),
        np.array([len(each) for each in bins]),
    )


def _knots(estimate: Floats) -> Floats:
    return np.quantile(estimate, np.linspace(0.0, 1.0, NUM_KNOTS))


def _logit(share: Floats) -> Floats:
    clipped = np.clip(share, _MIN_SHARE, 1 - _MIN_SHARE)
    logit: Floats = np.log(clipped / (1 - clipped))
    return logit


def _sigmoid(logit: Floats) -> Floats:
    share: Floats = 0.5 * (1.0 + np.tanh(0.5 * logit))
    return share
