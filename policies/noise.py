"""Action vectors drawn around a mean, with the exact density of what was drawn.

The noise is a truncated normal within [−1, 1] in each dimension, all of one standard deviation, which is `sd` or with
probability `wide_share` `wide_sd`. The density is the mixture's:
p(a) = (1 − w) Π N(aᵢ; μᵢ, sd) / Zᵢ + w Π N(aᵢ; μᵢ, wide_sd) / Z′ᵢ, where Z is the normal's mass within [−1, 1].
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from policies.seeds import uniforms
from schemas.sections import GaussianExploration

# Outside of these a normal is a point or a uniform to float64, and its mass within [−1, 1] would round to nothing.
_MIN_SD, _MAX_SD = 1e-6, 1e6
_SQRT_2 = math.sqrt(2.0)
_LOG_SQRT_2_PI = 0.5 * math.log(2.0 * math.pi)
_LARGEST_BELOW_1 = math.nextafter(1.0, 0.0)
_STANDARD_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class DrawnAction:
    action: list[float]  # [A] in [−1, 1]
    log_density: float
    """Of the whole mixture at `action`, natural logarithm, summed over the dimensions."""
    explored: bool
    """Whether it was drawn from the wide (or the uniform) part."""


def draw_action(mean: Iterable[float], exploration: GaussianExploration, seed: int) -> DrawnAction:
    """An action [A] around `mean` [A] in [−1, 1], by inversion; the same seed gives the same action.

    Raises:
        ValueError: the mean is not within [−1, 1], or not finite.
    """
    means = [float(each) for each in mean]
    if not all(-1.0 <= m <= 1.0 for m in means):
        raise ValueError("the mean action is not within [-1, 1]")
    choice, *numbers = uniforms(seed, 1 + len(means)).tolist()
    explored = choice < exploration.wide_share
    narrow, wide = _TruncatedNormal(means, exploration.sd), _TruncatedNormal(means, exploration.wide_sd)
    action = (wide if explored else narrow).quantiles(numbers)
    return DrawnAction(action, _mixed(narrow, wide, action, exploration.wide_share), explored)


def uniform_action(dim: int, seed: int) -> DrawnAction:
    """A uniform action [dim] in [−1, 1] (fallback, control)."""
    action = (2.0 * uniforms(seed, dim) - 1.0).tolist()
    return DrawnAction(action, -dim * math.log(2.0), explored=True)


def log_density(action: Sequence[float], mean: Sequence[float], exploration: GaussianExploration) -> float:
    """The logarithm of the mixture's density at `action` [A] in [−1, 1], around `mean` [A] in [−1, 1]."""
    narrow, wide = _TruncatedNormal(mean, exploration.sd), _TruncatedNormal(mean, exploration.wide_sd)
    return _mixed(narrow, wide, action, exploration.wide_share)


class _TruncatedNormal:
    """Independent normals around `means` [A], truncated to [−1, 1], all of one standard deviation."""

    def __init__(self, means: Sequence[float], sd: float) -> None:
        self._means = means
        self._sd = min(max(sd, _MIN_SD), _MAX_SD)
        scale = 1.0 / (self._sd * _SQRT_2)
        self._below = [0.5 - 0.5 * math.erf((1.0 + m) * scale) for m in means]  # mass of the normal below −1
        self._mass = [0.5 * (math.erf((1.0 - m) * scale) + math.erf((1.0 + m) * scale)) for m in means]

    def quantiles(self, numbers: Sequence[float]) -> list[float]:
        """Draws [A] from uniform numbers [A] in (0, 1)."""
        inverse, sd = _STANDARD_NORMAL.inv_cdf, self._sd
        shares = [below + u * mass for below, mass, u in zip(self._below, self._mass, numbers, strict=True)]
        values = [
            m + sd * inverse(p if p < 1.0 else _LARGEST_BELOW_1) for m, p in zip(self._means, shares, strict=True)
        ]
        return [x if -1.0 <= x <= 1.0 else math.copysign(1.0, x) for x in values]

    def log_density(self, action: Sequence[float]) -> float:
        distance = math.dist(action, self._means) / self._sd
        log_mass = sum(map(math.log, self._mass))
        return -0.5 * distance**2 - log_mass - len(action) * (math.log(self._sd) + _LOG_SQRT_2_PI)


def _mixed(narrow: _TruncatedNormal, wide: _TruncatedNormal, action: Sequence[float], wide_share: float) -> float:
    """log((1 − w) narrow + w wide) of the densities at `action`, by logsumexp: either alone may underflow."""
    parts = ((1.0 - wide_share, narrow), (wide_share, wide))
    logs = [math.log(share) + part.log_density(action) for share, part in parts if share > 0]
    largest = max(logs)
    return largest + math.log(sum(math.exp(each - largest) for each in logs))
