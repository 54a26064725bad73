"""The estimate, corrected by the raw reward where the policy that acted chose seldom (after arXiv 1103.4601)."""

import math

import torch
from torch import Tensor

from trainer.replay.batch import TransitionBatch
from trainer.rewards.estimator import RewardEstimator
from trainer.rewards.stabilizer import Stateless


class DoublyRobust(Stateless):
    """r̂ + c (r − r̂), with c = min(1, π₀ / p): p the propensity, π₀ that of the uniform policy.

    Where an action was chosen often, the estimator has seen much like it and is trusted; where it was chosen seldom,
    the raw reward has its say. Over what was chosen, c is the weight that makes it an average over all candidates, so
    that a bias of the estimator is corrected in the mean of the actions that policies would otherwise be blind to. The
    weight is cut at 1, since more would add noise in place of taking it away. A right estimator stays right.

    The mean of 1 / p over decisions is the number of candidates, and so 1 / π₀ is taken as the batch's mean of 1 / p;
    for `weights`, where p is a density, as that too.
    """

    def rewards(self, batch: TransitionBatch, estimator: RewardEstimator) -> Tensor:
        estimate = estimator.predict(batch)
        return estimate + _correction(batch.propensity, batch.log_density) * (batch.reward - estimate)


def _correction(propensity: Tensor, log_density: Tensor) -> Tensor:
    """min(1, π₀ / p), [B], in logarithms: densities of many dimensions overflow."""
    log_p = propensity.log() + log_density
    log_uniform = math.log(len(log_p)) - torch.logsumexp(-log_p, dim=0)
    return (log_uniform - log_p).clamp(max=0.0).exp()
