"""The residual-probe blend: raw rewards and estimates, mixed by what fresh data say of the estimator."""

from torch import Tensor

from schemas.loop_file import Loop
from trainer.replay.batch import TransitionBatch
from trainer.replay.statistics import NumberStatistics
from trainer.rewards.estimator import RewardEstimator
from trainer.rewards.evidence import Evidence
from trainer.rewards.probe import ResidualProbe
from trainer.state import Kept, OfParts

_NOISE_RATIO = 10.0
"""How much of a raw residual is worth its noise. With 80 a probe that makes good for a blind estimator (R of .04 to
.08) let three quarters of the noise through; with 10 rewards without noise (R near 1) still come through whole.
"""
_SIGNIFICANT_T = 2.0


class Blend(OfParts):
    """r̂ + ρ̂ + w (r − r̂ − ρ̂): the agent's reward, where ρ̂ is a probe's estimate of r − r̂.

    R, the probe's R² on fresh data, says how much of r − r̂ is not noise but the estimator's mistake. The more, the
    more of the raw reward is let through: w = R / (R + (1 − R) / 10). A probe that foretells nothing (R ≤ 0) is left
    out, and w is 0: SRS. While r̂ does not correlate with r on fresh data for certain, w is 1: raw.
    """

    def __init__(self, loop: Loop) -> None:
        self._probe = ResidualProbe(loop)
        self._evidence = Evidence()

    def rewards(self, batch: TransitionBatch, estimator: RewardEstimator) -> Tensor:
        weight = self.weight
        if weight == 1.0:
            return batch.reward
        estimate = estimator.predict(batch)
        if weight > 0.0:
            estimate = estimate + self._probe.predict(batch)
        return estimate + weight * (batch.reward - estimate)

    def fit(self, batch: TransitionBatch, estimator: RewardEstimator, num_examples: int) -> dict[str, float]:
        return self._probe.update(batch, batch.reward - estimator.predict(batch), num_examples)

    def observe(self, fresh: TransitionBatch, estimate: Tensor) -> None:
        self._evidence.observe(fresh.reward, estimate, self._probe.predict(fresh))

    @property
    def weight(self) -> float:
        """w, from 0 to 1."""
        return blend_weight(self._evidence.probe_r2, self._evidence.estimate_t)

    def figures(self) -> dict[str, float]:
        """probe_r2: R; estimate_t: of the correlation of r and r̂; blend_weight: w."""
        evidence = self._evidence
        return {"probe_r2": evidence.probe_r2, "estimate_t": evidence.estimate_t, "blend_weight": self.weight}

    def rescale(self, statistics: NumberStatistics) -> None:
        self._probe.rescale(statistics)

    def _parts(self) -> dict[str, Kept]:
        return {"probe": self._probe, "evidence": self._evidence}


def blend_weight(probe_r2: float, estimate_t: float) -> float:
    """The weight w by the probe's R² and the t statistic of the estimates' correlation with the rewards."""
    if estimate_t < _SIGNIFICANT_T:
        return 1.0
    r2 = max(probe_r2, 0.0)
    return r2 / (r2 + (1.0 - r2) / _NOISE_RATIO)
