"""The observed range of rewards, so that one loss fits clicks, counts and revenue alike."""

import torch
from torch import Tensor, nn
from torch.nn import functional

_MIN_SHARE = 1e-6  # of the range, by which the mean stays away from its ends: the logit of 0 is infinite


class RewardRange(nn.Module):
    """Maps rewards into [0, 1] and logits back. While all rewards so far are the same, that one is the estimate.

    The loss is the cross-entropy with (r − low) / (high − low) as a soft label: its minimum is the conditional mean for
    any reward within the range (fractional logit: Papke and Wooldridge 1996), and for clicks in {0, 1} it is the usual
    one. A logit of 0 stands for the mean reward at the time when the range last grew, so that a model that has learned
    nothing yet, or meets a reward larger than all before, is about right on average.

    A single absurd reward widens the range for good and flattens the loss: refuse such feedback at the door.
    """

    low: Tensor
    high: Tensor
    offset: Tensor
    mean: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("high", torch.tensor(0.0))
        self.register_buffer("offset", torch.tensor(0.0))  # the logit of the mean reward within the range
        self.register_buffer("mean", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(0.0, dtype=torch.float64))

    @property
    def is_open(self) -> bool:
        """Whether two different rewards were seen: before, there is nothing to learn."""
        return bool(self.high > self.low)

    def observe(self, reward: Tensor) -> None:
        """Takes the rewards [B] of a batch into account."""
        # Floats: on single numbers an operation of torch costs ten times as much, and this is done at every update.
        low, high = (each.item() for each in reward.aminmax())
        before, mean, num = self.count.item(), self.mean.item(), len(reward)
        known_low, known_high = self.low.item(), self.high.item()
        if before:
            low, high = min(low, known_low), max(high, known_high)
        self.count.fill_(before + num)
        self.mean.fill_(mean + (reward.sum().item() / num - mean) * (num * (1.0 / (before + num))))
        if (low, high) != (known_low, known_high):
            self.low.fill_(low)
            self.high.fill_(high)
            share = ((self.mean - self.low) / (self.high - self.low)).nan_to_num(0.5)
            self.offset.copy_(torch.logit(share.clamp(_MIN_SHARE, 1 - _MIN_SHARE)))

    def loss(self, logits: Tensor, reward: Tensor) -> Tensor:
        """Mean cross-entropy of the estimates with the rewards, both [B]; the range must be open."""
        label = (reward - self.low) / (self.high - self.low)
        logits = logits + self.offset
        return functional.binary_cross_entropy_with_logits(logits, label, reduction="sum") / logits.numel()

    def estimate(self, logits: Tensor) -> Tensor:
        """Rewards from logits, [B]; zeros before any was seen."""
        if not self.is_open:
            return torch.full_like(logits, float(self.mean))
        return self.low + (self.high - self.low) * torch.sigmoid(logits + self.offset)
