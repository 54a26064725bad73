"""What the ranker would choose for all sessions at once: by the rules of `policies.slates` (for a slate of one) and of
`policies.noise`, with numpy's random numbers in place of a seed a decision.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from schemas.sections import GaussianExploration, GreedyExploration, SoftmaxExploration
from simulators.world import Actions, Floats, Ints
from trainer.agents.policy_losses import noise_log_density

_MIN_SD, _MAX_SD = 1e-6, 1e6  # as in policies.noise
_LARGEST_BELOW_1 = math.nextafter(1.0, 0.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """One action of every session, and how likely it was."""

    actions: Actions
    """[n, 1] places in the catalogue, or [n, A] weights."""
    propensities: Floats
    """[n, 1]; 1 for weights, as in the replay's columns."""
    log_densities: Floats
    """[n]; 0 for a slate."""


# ------------------------------------------------------------------ slates


def uniform_shares(num_sessions: int, num_candidates: int) -> Floats:
    """[n, C]"""
    return np.full((num_sessions, num_candidates), 1.0 / num_candidates)


def slate_shares(scores: Floats, exploration: SoftmaxExploration | GreedyExploration) -> Floats:
    """The probability of each candidate, [n, C], given scores [n, C]."""
    num_sessions, num_candidates = scores.shape
    best = scores.max(axis=1, keepdims=True)
    if isinstance(exploration, SoftmaxExploration):
        shares = np.exp((scores - best) / exploration.temperature)
    else:
        shares = (np.arange(num_candidates) == scores.argmax(axis=1)[:, None]).astype(np.float64)
    shares /= shares.sum(axis=1, keepdims=True)
    uniform = uniform_shares(num_sessions, num_candidates)
    mixed: Floats = (1 - exploration.epsilon) * shares + exploration.epsilon * uniform
    return mixed


def draw_items(shares: Floats, candidates: Ints, rng: np.random.Generator) -> Choice:
    """One of the candidates [n, C] by its share [n, C]."""
    column = (shares.cumsum(axis=1) > rng.random((len(shares), 1))).argmax(axis=1)[:, None]
    actions, propensities = np.take_along_axis(candidates, column, axis=1), np.take_along_axis(shares, column, axis=1)
    return Choice(actions, propensities, np.zeros(len(shares)))


# ------------------------------------------------------------------ weights


def uniform_weights(num_sessions: int, dim: int, rng: np.random.Generator) -> Choice:
    """As `policies.noise.uniform_action`."""
    actions = rng.uniform(-1.0, 1.0, (num_sessions, dim))
    return Choice(actions, np.ones((num_sessions, 1)), np.full(num_sessions, -dim * math.log(2.0)))


def draw_weights(means: Floats, exploration: GaussianExploration, numbers: Floats) -> Choice:
    """As `policies.noise.draw_action`.

    Args:
        means: [n, A] in [−1, 1].
        exploration: the noise.
        numbers: [n, 1 + A] uniform in (0, 1), of which the first says whether the noise is wide.
    """
    mean, drawn = torch.from_numpy(means), torch.from_numpy(numbers)
    sd = np.where(numbers[:, :1] < exploration.wide_share, exploration.wide_sd, exploration.sd)  # [n, 1]
    actions = _truncated_normals(mean, torch.from_numpy(sd).clamp(_MIN_SD, _MAX_SD), drawn[:, 1:])
    densities = noise_log_density(actions, mean, exploration)
    return Choice(actions.numpy(), np.ones((len(means), 1)), densities.numpy())


def _truncated_normals(means: Tensor, sd: Tensor, numbers: Tensor) -> Tensor:
    """Draws [n, A] of normals around means [n, A], of deviations [n, 1], truncated to [−1, 1], by uniform numbers."""
    scale = 1.0 / (sd * math.sqrt(2.0))
    above, below = torch.erf((1.0 - means) * scale), torch.erf((1.0 + means) * scale)
    shares = (0.5 - 0.5 * below + numbers * 0.5 * (above + below)).clamp(max=_LARGEST_BELOW_1)
    values: Tensor = means + sd * torch.special.ndtri(shares)
    return values.clamp(-1.0, 1.0)
