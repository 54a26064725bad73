"""The formulas that agents learn by: pure functions of tensors.

B: impressions of a batch (decisions for `weights`); C: candidates of the next decision; A: action dimensions.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

_SMOOTHING_CLIP = 2.5  # in sd: the paper's .5 at its .2
_LOG_SQRT_2_PI = 0.5 * math.log(2.0 * math.pi)


def mean(values: Tensor) -> Tensor:
    """[] of any shape, at a third of what torch's own costs on a few hundred numbers."""
    return values.sum() / values.numel()


def bootstrapped(reward: Tensor, terminated: Tensor, discount: float, next_value: Tensor) -> Tensor:
    """The target r + γ · next value, or r where the session terminated. All [B]."""
    return reward + discount * next_value.masked_fill(terminated, 0.0)


def slate_value(online_next: Tensor, target_next: Tensor, next_mask: Tensor, next_size: Tensor) -> Tensor:
    """Mean of the target network's Q over the `next_size` next items that the online network ranks first. [B]

    With `next_size` 1 this is the next value of Double DQN (van Hasselt et al., arXiv 1509.06461, eq. 4). The mean, not
    the sum: each impression of a slate bootstraps from the slate after it, so the sum over a slate counts the future
    once (a decomposition after SlateQ, arXiv 1905.12767). Without candidates the future is worth nothing.

    Args:
        online_next: [B, C] Q of the next candidates by the online network
        target_next: [B, C] the same by the target network
        next_mask: [B, C] True where there is a candidate
        next_size: [B] items that the next slate shows
    """
    num_ranked = min(int(next_size.max()), online_next.shape[1])
    ranked = online_next.masked_fill(~next_mask, -torch.inf).topk(num_ranked, dim=1).indices  # [B, num_ranked]
    num_chosen = torch.minimum(next_size, next_mask.sum(dim=1))  # [B]
    chosen = torch.arange(num_ranked) < num_chosen.unsqueeze(1)  # [B, num_ranked]
    total = target_next.gather(1, ranked).masked_fill(~chosen, 0.0).sum(dim=1)
    return total / num_chosen.clamp(min=1)


def mean_squared_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared, not Huber's: what is wanted is the mean of a skewed reward, and Huber's loss pulls to its median."""
    return functional.mse_loss(predicted, target.detach(), reduction="sum") / predicted.numel()


def actor_loss(value: Tensor, pre_tanh: Tensor, action_penalty: float) -> Tensor:
    """Descends −mean Q(s, tanh z) + penalty · mean z²: the deterministic policy gradient (arXiv 1509.02971, eq. 6).

    Without the L2 penalty on z, tanh saturates into a corner that the actor cannot leave.

    Args:
        value: [B] the critic's Q(s, tanh z)
        pre_tanh: [B, A] the actor's z
        action_penalty: weight of the penalty
    """
    return action_penalty * mean(pre_tanh * pre_tanh) - mean(value)


def expected_value(scores: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Σᵢ softmax(scores)ᵢ · valuesᵢ over the items of each set [B]; all [B, C], mask True where there is an item."""
    return (log_shares(scores, mask).exp() * values).masked_fill(~mask, 0.0).sum(dim=1)


def smoothed_action(action: Tensor, noise: Tensor, sd: float) -> Tensor:
    """clip(a + clip(sd · noise, ± 2.5 sd), ± 1): TD3's target policy smoothing (arXiv 1802.09477, eq. 14). [B, A]

    Args:
        action: [B, A] what the target actor plays, in [−1, 1]
        noise: [B, A] standard normal
        sd: of the noise, in units of the action
    """
    clipped = noise.clamp(-_SMOOTHING_CLIP, _SMOOTHING_CLIP) * sd
    return (action + clipped).clamp(-1.0, 1.0)


def tanh_gaussian_log_density(mean: Tensor, log_sd: Tensor, pre_tanh: Tensor) -> Tensor:
    """The log density [B] of tanh z: Σ log N(zᵢ) − log(1 − tanh² zᵢ), z [B, A] being normal (arXiv 1801.01290, eq. 21).

    The last term is computed as 2 (log 2 − z − softplus(−2z)), which does not round to log 0 at large z.
    """
    standard = (pre_tanh - mean) * torch.exp(-log_sd)
    normal = -0.5 * standard.square() - log_sd - _LOG_SQRT_2_PI
    return (normal - 2.0 * (math.log(2.0) - pre_tanh - functional.softplus(-2.0 * pre_tanh))).sum(dim=1)


def soft_actor_loss(
    value: Tensor, log_density: Tensor, temperature: Tensor, mean: Tensor, action_penalty: float
) -> Tensor:
    """α · mean log π − mean Q (arXiv 1801.01290, eq. 12), and the penalty of `actor_loss` on the mean.

    Args:
        value: [B] the critics' Q(s, tanh z)
        log_density: [B] log π(tanh z | s)
        temperature: [] α
        mean: [B, A] of z
        action_penalty: weight of the penalty
    """
    return (temperature.detach() * log_density).mean() + actor_loss(value, mean, action_penalty)


def temperature_loss(log_temperature: Tensor, entropy: Tensor, target: Tensor | float) -> Tensor:
    """Descends log α · mean(H − target) by log α: α falls where the policy has more entropy than the target.

    The logarithm in place of α (arXiv 1812.05905, eq. 18) has the same zero, and keeps α positive.

    Args:
        log_temperature: [] log α
        entropy: [B] of the policy, or −log π of what was drawn from it, in nats
        target: [B], or one for all
    """
    return log_temperature * (entropy - target).mean().detach()


def log_shares(logits: Tensor, mask: Tensor) -> Tensor:
    """The log softmax [B, C] of logits over the candidates; 0 where there is none, which is not to be counted.

    Args:
        logits: [B, C]
        mask: [B, C] True where there is a candidate
    """
    shares = torch.log_softmax(logits.masked_fill(~mask, torch.finfo(logits.dtype).min), dim=1)
    return shares.masked_fill(~mask, 0.0)


def slate_entropy(logs: Tensor, mask: Tensor) -> Tensor:
    """−Σ π log π over the candidates, in nats; 0 without candidates. [B]

    Args:
        logs: [B, C] of `log_shares`
        mask: [B, C] True where there is a candidate
    """
    return -(logs.exp() * logs).masked_fill(~mask, 0.0).sum(dim=1)


def soft_slate_value(q: Tensor, logs: Tensor, mask: Tensor, temperature: Tensor) -> Tensor:
    """Σ π (Q − α log π) over the candidates (arXiv 1910.07207, eq. 10); 0 without candidates. [B]

    Args:
        q: [B, C] the critics' Q
        logs: [B, C] of `log_shares`: log π
        mask: [B, C] True where there is a candidate
        temperature: [] α
    """
    return (logs.exp() * q).masked_fill(~mask, 0.0).sum(dim=1) + temperature.detach() * slate_entropy(logs, mask)


@torch.no_grad()
def polyak_update(targets: Sequence[Tensor], onlines: Sequence[Tensor], rate: float) -> None:
    """Moves the targets, in place, towards the online tensors by the share `rate`."""
    torch._foreach_lerp_(list(targets), list(onlines), rate)
