"""What fresh data say of the estimator and of the probe of its residual: how far either may be trusted."""

from collections.abc import Mapping

import torch
from torch import Tensor

_HALF_LIFE = 680.0
"""Informative impressions after which one counts half. Clicks of 20 % have 3.25 impressions to an informative one, so
this is the window of 3,200 that the prototypes were tuned with, and ever longer where clicks are rarer."""
_MAX_DEVIATIONS = 3.0
"""Beyond which a reward counts as this far from the mean, where it is correlated with estimates: of conversions that
pay a lognormal value a few large ones would drown for tens of thousands of decisions what all others say.
"""


class Evidence:
    """Test, then train: impressions are seen here before anything has learned from them.

    They are forgotten by information, not by number: n impressions of kurtosis κ hold n / κ informative ones. For
    clicks of a rate p that is about n · p: at 1 % a window of thousands of impressions holds but some tens of clicks,
    and nothing could ever be told from it.
    """

    def __init__(self) -> None:
        # Of 1, c, r̂, c², r̂², c·r̂ with c = r within its bounds, of δ², (δ − ρ̂)² with δ = r − r̂, and of r, d², d⁴ with
        # d = r − mean r.
        self._sums = torch.zeros(11, dtype=torch.float64)

    def observe(self, reward: Tensor, estimate: Tensor, probed: Tensor) -> None:
        """Takes B fresh impressions into account: r, r̂ and the probe's ρ̂ of r − r̂, all [B]."""
        r, e, rho = reward.double(), estimate.double(), probed.double()
        delta = r - e
        num = self._sums[0] + len(r)
        mean = (self._sums[8] + r.sum()) / num
        squares = (r - mean).square()
        reach = _MAX_DEVIATIONS * ((self._sums[9] + squares.sum()) / num).sqrt()
        c = r.clamp(mean - reach, mean + reach)
        added = [torch.ones_like(r), c, e, c * c, e * e, c * e, delta.square(), (delta - rho).square()]
        new = torch.stack([*added, r, squares, squares.square()]).sum(dim=1)
        self._sums *= 0.5 ** (_information(len(r), self._sums + new) / _HALF_LIFE)
        self._sums += new

    @property
    def probe_r2(self) -> float:
        """The share of the variation of r − r̂ that the probe foretold: 1 − Σ(δ − ρ̂)² / Σδ². 0 before any is there."""
        total, left = self._sums[6].item(), self._sums[7].item()
        return 1.0 - left / total if total > 0 else 0.0

    @property
    def estimate_t(self) -> float:
        """The t statistic of the correlation of c and r̂ (for a small one): corr · √n. 0 where there is none."""
        n, c, e, cc, ee, ce = self._sums[:6].tolist()
        if n < 2:
            return 0.0
        variances = (cc - c * c / n) * (ee - e * e / n)
        return float((ce - c * e / n) / variances**0.5 * n**0.5) if variances > 0 else 0.0

    def state_dict(self) -> dict[str, Tensor]:
        return {"sums": self._sums}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._sums.copy_(state["sums"])


def _information(num: int, sums: Tensor) -> float:
    """Informative impressions among `num`: num / kurtosis. None while all rewards are the same."""
    n, squares, fourths = sums[0].item(), sums[9].item(), sums[10].item()
    return num * squares * squares / (n * fourths) if fourths > 0 else 0.0
