"""How much of the reward is noise: what a stabilizer can do for this loop, in numbers for people."""

from collections.abc import Mapping

import torch
from torch import Tensor

_HALF_LIFE = 5_000
"""Impressions after which one counts half: long enough for rare clicks, short enough to follow a learner."""


class NoiseMeter:
    """Compares raw rewards r with estimates r̂ that were made before the estimator had seen those rewards.

    An estimator that knew E[r | s, a] would leave Var(r) − Var(r̂) unexplained: the noise. A real one knows less, so
    the noise share is an upper bound.
    """

    def __init__(self) -> None:
        self._sums = torch.zeros(6, dtype=torch.float64)  # of 1, r, r̂, r², r̂², r·r̂, older ones weighing less

    def observe(self, reward: Tensor, estimate: Tensor) -> None:
        """Takes B fresh impressions into account: rewards [B] and the estimates [B] made before learning from them."""
        r, e = reward.double(), estimate.double()
        self._sums *= 0.5 ** (len(r) / _HALF_LIFE)
        self._sums += torch.stack([torch.ones_like(r), r, e, r * r, e * e, r * e]).sum(dim=1)

    def figures(self) -> dict[str, float]:
        """Variances and, where they are defined:

        noise_share: 1 − Var(r̂) / Var(r), within [0, 1]
        reward_correlation: of r and r̂; 0 is an estimator that knows nothing
        calibration_slope: Cov(r, r̂) / Var(r̂); 1 is calibrated, below 1 the estimates are spread too far
        """
        num, r, e, rr, ee, re = self._sums.tolist()
        if num < 2:
            return {}
        reward_variance = _variance(rr / num, r / num)
        estimate_variance = _variance(ee / num, e / num)
        covariance = re / num - r * e / num**2
        figures = {
            "reward_mean": r / num,
            "estimate_mean": e / num,
            "reward_variance": reward_variance,
            "estimate_variance": estimate_variance,
        }
        if reward_variance > 0:
            figures["noise_share"] = min(max(1 - estimate_variance / reward_variance, 0.0), 1.0)
        if reward_variance > 0 and estimate_variance > 0:
            figures["reward_correlation"] = covariance / (reward_variance * estimate_variance) ** 0.5
            figures["calibration_slope"] = covariance / estimate_variance
        return figures

    def state_dict(self) -> dict[str, Tensor]:
        return {"sums": self._sums}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._sums.copy_(state["sums"])


def _variance(mean_square: float, mean: float) -> float:
    variance = mean_square - mean**2
    return variance if variance > 1e-14 * mean_square else 0.0  # the rest is rounding
