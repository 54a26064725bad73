"""The formulas that policy gradient agents learn by: pure functions of tensors.

B: impressions of a batch (decisions for `weights`); C: candidates; A: action dimensions.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.sections import GaussianExploration
from trainer.agents.losses import log_shares

_LOG_SQRT_2_PI = 0.5 * math.log(2.0 * math.pi)
_MIN_SD, _MAX_SD = 1e-6, 1e6  # as in policies.noise
_MAX_LOG_RATIO = 10.0
"""Densities differ by more than exp can hold; a ratio this large is clipped, or shrinks, whatever it is exactly."""


def slate_log_prob(logits: Tensor, mask: Tensor, chosen: Tensor, epsilon: float) -> Tensor:
    """log((1 − ε) softmax(logits) + ε / N) at the chosen item, over the N items left: what `policies.slates` does. [B]

    Args:
        logits: [B, C] scores over the temperature
        mask: [B, C] True where an item was left at this position
        chosen: [B] its column
        epsilon: the share drawn uniformly
    """
    scored = log_shares(logits, mask).gather(1, chosen.unsqueeze(1)).squeeze(1) + _log(1.0 - epsilon)
    return torch.logaddexp(scored, _log(epsilon) - mask.sum(dim=1).log())


def noise_log_density(action: Tensor, mean: Tensor, exploration: GaussianExploration) -> Tensor:
    """The logarithm [B] of the density of `policies.noise` at actions [B, A] around means [B, A], all in [−1, 1].

    In float64, and so the result: (a − μ) / sd is squared.
    """
    parts = ((1.0 - exploration.wide_share, exploration.sd), (exploration.wide_share, exploration.wide_sd))
    action, mean = action.double(), mean.double()
    logs = [_log(share) + _truncated_normal(action, mean, sd) for share, sd in parts if share > 0]
    return torch.logsumexp(torch.stack(logs), dim=0)


def _truncated_normal(action: Tensor, mean: Tensor, sd: float) -> Tensor:
    """The log density [B] of independent normals that are truncated to [−1, 1]."""
    sd = min(max(sd, _MIN_SD), _MAX_SD)
    scale = 1.0 / (sd * math.sqrt(2.0))
    mass = 0.5 * (torch.erf((1.0 - mean) * scale) + torch.erf((1.0 + mean) * scale))
    logs = -0.5 * ((action - mean) / sd).square() - mass.log() - (math.log(sd) + _LOG_SQRT_2_PI)
    return logs.sum(dim=1)


def _log(share: float) -> float:
    return math.log(share) if share > 0 else -math.inf


def generalized_advantages(
    error: Tensor, rows: NDArray[np.int64], next_rows: NDArray[np.int64], decay: float
) -> Tensor:
    """Aᵢ = δᵢ + γλ · mean A of the impressions of the next decision, 0 where that is not in the batch. [B]

    This is GAE (arXiv 1506.02438, eq. 16) along each session, with the mean of DESIGN §7.9 from slate to slate. The sum
    of a chain of L decisions is taken in log₂ L rounds: each adds the 2ᵏ terms that begin 2ᵏ decisions later.

    Args:
        error: [B] δ = r + γ V(s′) − V(s), without V(s′) where the session terminated
        rows: [B] the decisions
        next_rows: [B] the next ones
        decay: γλ
    """
    decisions, place = np.unique(rows, return_inverse=True)  # [D], [B]
    num = len(decisions)  # as a place: none
    at = np.minimum(np.searchsorted(decisions, next_rows), num - 1)
    following = np.where(decisions[at] == next_rows, at, num)  # [B]
    then = np.full(num + 1, num)
    then[place] = following
    count = torch.from_numpy(np.bincount(place, minlength=num + 1)).clamp(min=1)
    total = torch.zeros(num + 1).index_add(0, torch.from_numpy(place), error) / count
    reach = decay
    while (then < num).any():
        total = total + reach * total[then]
        reach, then = reach * reach, then[then]
    return error + decay * total[following]


def normalized(advantage: Tensor) -> Tensor:
    """With mean 0 and deviation 1 [B]: then one learning rate suits rewards of any size."""
    return (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)


def clipped_loss(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """−mean min(ρ A, clip(ρ, 1 − c, 1 + c) A): PPO (arXiv 1707.06347, eq. 7). ρ = exp(log_ratio); both [B]."""
    ratio = log_ratio.clamp(max=_MAX_LOG_RATIO).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage).mean()


def capped_weight(log_ratio: Tensor, max_weight: float) -> Tensor:
    """min(π / β, max_weight) [B], without a gradient (arXiv 1812.02353, eq. 2 and §4.4)."""
    return log_ratio.detach().clamp(max=math.log(max_weight)).exp()


def weighted_policy_loss(log_prob: Tensor, weight: Tensor, advantage: Tensor) -> Tensor:
    """−mean w · A · log π(a | s): its gradient is the off-policy REINFORCE one (arXiv 1812.02353, eq. 2). All [B]."""
    return -(weight * advantage.detach() * log_prob).mean()


def weighted_squared_error(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean of w · (V − target)²: V of the learned policy, by actions of another (V-trace, arXiv 1802.01561, n = 1)."""
    return (weight * (predicted - target.detach()).square()).mean()
