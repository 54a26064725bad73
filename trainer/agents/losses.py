"""The formulas that agents learn by: pure functions of tensors.

B: impressions of a batch (decisions for `weights`); C: candidates of the next decision; A: action dimensions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


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
    return torch.nn.functional.mse_loss(predicted, target.detach())


def actor_loss(value: Tensor, pre_tanh: Tensor, action_penalty: float) -> Tensor:
    """Descends −mean Q(s, tanh z) + penalty · mean z²: the deterministic policy gradient (arXiv 1509.02971, eq. 6).

    Without the L2 penalty on z, tanh saturates into a corner that the actor cannot leave.

    Args:
        value: [B] the critic's Q(s, tanh z)
        pre_tanh: [B, A] the actor's z
        action_penalty: weight of the penalty
    """
    return action_penalty * pre_tanh.square().mean() - value.mean()


def expected_value(scores: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Σᵢ softmax(scores)ᵢ · valuesᵢ over the items of each set [B]; all [B, C], mask True where there is an item."""
    shares = torch.softmax(scores.masked_fill(~mask, -1e9), dim=1).masked_fill(~mask, 0.0)
    return (shares * values.masked_fill(~mask, 0.0)).sum(dim=1)


@torch.no_grad()
def polyak_update(targets: Sequence[Tensor], onlines: Sequence[Tensor], rate: float) -> None:
    """Moves the targets, in place, towards the online tensors by the share `rate`."""
    torch._foreach_lerp_(list(targets), list(onlines), rate)
