"""What the runs of several seeds say: means, paired differences, and how soon a level is reached."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from simulators.world import Floats


@dataclass(frozen=True, slots=True)
class Difference:
    """Of paired numbers."""

    mean: float
    sd: float
    t: float
    """The paired t statistic; 0 where nothing differs, nan of a single pair."""
    half_width: float
    """Of the 95 % interval of the mean; nan of a single pair."""

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ± {self.half_width:.3f} (t {self.t:+.1f})"


def paired(values: ArrayLike, reference: ArrayLike) -> Difference:
    """Values − reference, both [seeds], by Student's paired t test."""
    gain = np.asarray(values, float) - np.asarray(reference, float)
    n, mean = len(gain), float(gain.mean())
    if n < 2:
        return Difference(mean, 0.0, float("nan"), float("nan"))
    sd = float(gain.std(ddof=1))
    error = sd / n**0.5
    t = mean / error if error else 0.0
    return Difference(mean, sd, t, float(stats.t.ppf(0.975, n - 1)) * error)


def told(values: ArrayLike, digits: int = 3) -> str:
    """Mean ± sd over seeds."""
    numbers = np.asarray(values, float)
    sd = float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0
    return f"{numbers.mean():.{digits}f} ± {sd:.{digits}f}"


def area(curves: ArrayLike) -> Floats:
    """The mean of learning curves [seeds, P] over their P points, evenly spaced: [seeds]."""
    mean: Floats = np.asarray(curves, float).mean(axis=1)
    return mean


def final(curves: ArrayLike) -> Floats:
    """The mean of the last two points, [seeds]: one is noisy."""
    mean: Floats = np.asarray(curves, float)[:, -2:].mean(axis=1)
    return mean


def reached_after(curve: Sequence[float] | Floats, level: float) -> float:
    """When a curve [P] over (0, 1] first reaches a level, as a share of its length; infinity if it does not.

    Between points it is a straight line, which starts at (0, 0).
    """
    heights = np.concatenate([[0.0], np.asarray(curve, float)])
    above = np.flatnonzero(heights >= level)
    if not len(above):
        return float("inf")
    i = int(above[0])
    if i == 0:
        return 0.0
    part = (level - heights[i - 1]) / (heights[i] - heights[i - 1])
    return float((i - 1 + part) / (len(heights) - 1))


def times_fewer(curves: ArrayLike, reference: ArrayLike, share: float = 1.0) -> float:
    """By how much fewer interactions the mean curve reaches `share` of the final level of the mean reference curve.

    Both [seeds, P]. Means, since single curves are too noisy to say when a level was reached. 0: never reached; nan:
    the reference ends no better than it began.
    """
    mine, theirs = np.asarray(curves, float).mean(axis=0), np.asarray(reference, float).mean(axis=0)
    level = share * float(theirs[-2:].mean())
    return reached_after(theirs, level) / reached_after(mine, level) if level > 0 else float("nan")


def times_fewer_interval(
    curves: ArrayLike, reference: ArrayLike, share: float = 1.0, num_draws: int = 2_000
) -> tuple[float, float]:
    """The 95 % interval of `times_fewer`, by resampling the seeds (percentile bootstrap, Efron 1979)."""
    mine, theirs = np.asarray(curves, float), np.asarray(reference, float)
    draws = np.random.default_rng(0).integers(0, len(mine), (num_draws, len(mine)))
    ratios = [times_fewer(mine[rows], theirs[rows], share) for rows in draws]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def gap_recovered(values: ArrayLike, reference: ArrayLike, oracle: ArrayLike) -> float:
    """The share of the mean gap between the reference and the oracle that is closed."""
    mine, low, high = (float(np.mean(np.asarray(each, float))) for each in (values, reference, oracle))
    return (mine - low) / (high - low)
