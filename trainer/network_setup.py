"""What is set on a network rather than learned: where it starts, and how it scales numbers."""

from copy import deepcopy

import torch
from torch import nn

from trainer.networks import Embeddings, Mlp, SlateHead
from trainer.replay.statistics import NumberStatistics


def start_at_zero(head: SlateHead | Mlp) -> None:
    """Makes the output 0 everywhere, so that nothing is preferred before anything was learned."""
    for linear in [head.out] if isinstance(head, Mlp) else head.last_layers():
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)


@torch.no_grad()
def tempered(head: SlateHead, temperature: float) -> SlateHead:
    """A copy that scores `temperature` times as high: of logits, what a ranker that divides by it draws by."""
    served = deepcopy(head)
    for linear in served.last_layers():
        linear.weight.mul_(temperature)
        linear.bias.mul_(temperature)
    return served


@torch.no_grad()
def rescale(embeddings: Embeddings, statistics: NumberStatistics) -> None:
    """Sets by which mean and deviation numbers are normalised; they are part of the policy's tensors."""
    embeddings.state_mean.copy_(torch.from_numpy(statistics.state_mean))
    embeddings.state_scale.copy_(torch.from_numpy(statistics.state_std))
    embeddings.item_mean.copy_(torch.from_numpy(statistics.item_mean))
    embeddings.item_scale.copy_(torch.from_numpy(statistics.item_std))
