"""Heads by name, those of `schemas.kinds.HEADS`: what distribution of the reward an estimator fits.

A head turns the outputs of a network into a loss and into the mean reward. What it keeps of the rewards seen so far
sets the unit in which the network counts, so that one learning rate fits clicks and revenue.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from schemas.loop_file import Loop
from trainer.rewards.reward_range import RewardRange

MAX_COUNT = 15
"""The largest reward that has a class of its own; what is larger is taken for it."""
_MIN_SHARE = 1e-6
_MIN_SIGMA = 0.05
_MAX_DEVIATIONS = 4.0


class RewardHead(Protocol):
    """`state_dict` and `load_state_dict` are for checkpoints."""

    num_outputs: int
    """m, of an impression."""

    @property
    def is_open(self) -> bool:
        """Whether two different rewards were seen: before, there is nothing to learn."""

    def observe(self, reward: Tensor) -> None:
        """Takes the rewards [B] of a batch into account."""

    def loss(self, outputs: Tensor, reward: Tensor) -> Tensor:
        """The mean loss of outputs [B, m] given rewards [B]; the head must be open."""

    def estimate(self, outputs: Tensor) -> Tensor:
        """The mean rewards [B] of outputs [B, m]; the only reward seen while the head is not open."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


class Bernoulli(RewardRange):
    """The cross-entropy over the observed range: for clicks the usual one, and right in the mean for any reward."""

    num_outputs = 1

    def loss(self, outputs: Tensor, reward: Tensor) -> Tensor:
        return super().loss(outputs.squeeze(1), reward)

    def estimate(self, outputs: Tensor) -> Tensor:
        return super().estimate(outputs.squeeze(1))


class Moments(nn.Module):
    """Mean, variance and the extremes of all numbers seen, each weighing the same (Chan et al. 1979)."""

    count: Tensor
    mean: Tensor
    squares: Tensor
    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("count", "mean", "squares", "low", "high"):
            self.register_buffer(name, torch.tensor(0.0, dtype=torch.float64))

    def observe(self, values: Tensor) -> None:
        """Takes B numbers into account; none is nothing."""
        if not len(values):
            return
        new, before, num = values.double(), self.count.clone(), len(values)
        self.low.copy_(torch.minimum(self.low, new.min()) if before else new.min())
        self.high.copy_(torch.maximum(self.high, new.max()) if before else new.max())
        delta = new.mean() - self.mean
        self.count += num
        self.mean += delta * num / self.count
        self.squares += (new - new.mean()).square().sum() + delta.square() * before * num / self.count

    @property
    def sd(self) -> float:
        return math.sqrt(float(self.squares / self.count)) if self.count else 0.0


class _OfMoments(nn.Module, ABC):
    """What heads have in common that keep the moments of the rewards."""

    num_outputs = 1

    def __init__(self) -> None:
        super().__init__()
        self.rewards = Moments()

    @property
    def is_open(self) -> bool:
        return bool(self.rewards.high > self.rewards.low)

    def observe(self, reward: Tensor) -> None:
        self.rewards.observe(reward)

    @abstractmethod
    def loss(self, outputs: Tensor, reward: Tensor) -> Tensor: ...

    def estimate(self, outputs: Tensor) -> Tensor:
        if not self.is_open:
            return torch.full_like(outputs[:, 0], float(self.rewards.mean))
        return self._mean(outputs)

    @abstractmethod
    def _mean(self, outputs: Tensor) -> Tensor: ...


class Gaussian(_OfMoments):
    """Squared error, in units of the rewards' deviation: for rewards that lie about a mean, negative ones too."""

    def loss(self, outputs: Tensor, reward: Tensor) -> Tensor:
        standard = (reward - float(self.rewards.mean)) / self.rewards.sd
        return 0.5 * (outputs.squeeze(1) - standard).square().mean()

    def _mean(self, outputs: Tensor) -> Tensor:
        return float(self.rewards.mean) + self.rewards.sd * outputs.squeeze(1)


class Poisson(_OfMoments):
    """Counts without a bound: the log of the rate is linear in the output. Rewards below 0 are taken for 0.

    The rate is at most the largest reward seen, since exp of an unlucky output knows no end.
    """

    def observe(self, reward: Tensor) -> None:
        super().observe(reward.clamp(min=0.0))

    def loss(self, outputs: Tensor, reward: Tensor) -> Tensor:
        """(λ − r log λ) / mean reward: the likelihood of counts, and right in the mean of any rewards of one unit."""
        log_rate = self._log_rate(outputs)
        return (log_rate.exp() - reward.clamp(min=0.0) * log_rate).mean() / float(self.rewards.mean)

    def _mean(self, outputs: Tensor) -> Tensor:
        return self._log_rate(outputs).exp()

    def _log_rate(self, outputs: Tensor) -> Tensor:
        log_rate = outputs.squeeze(1) + math.log(float(self.rewards.mean))
        return log_rate.clamp(max=math.log(float(self.rewards.high)))


class Categorical(_OfMoments):
    """A class for each of 0 … 15: for small counts of any distribution. Other rewards are taken for the nearest."""

    num_outputs = MAX_COUNT + 1
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(self.num_outputs))

    def observe(self, reward: Tensor) -> None:
        classes = _classes(reward)
        super().observe(classes)
        self.counts += functional.one_hot(classes, self.num_outputs).sum(dim=0)

    def loss(self, outputs: Tensor, reward: Tensor) -> Tensor:
        return functional.cross_entropy(self._logits(outputs), _classes(reward))

    def _mean(self, outputs: Tensor) -> Tensor:
        return self._logits(outputs).softmax(dim=1) @ torch.arange(float(self.num_outputs))

    def _logits(self, outputs: Tensor) -> Tensor:
        """An output of 0 stands for the share that a class has of all; a class never seen has next to none."""
        return outputs + (self.counts / self.counts.sum()).clamp(min=_MIN_SHARE).log()


class Ziln(_OfMoments):
    """The zero-inflated lognormal (arXiv 1912.07753): few conversions, of very different worth.

    A reward is 0 with probability 1 − p, else lognormal of μ and σ; its mean is p · exp(μ + σ²/2). Outputs are of p's
    logit, of μ in deviations of the logs seen, and of σ. So that no lucky sale explodes, σ stays below twice and μ
    within four deviations of the logs seen, and no estimate is larger than the largest reward. Rewards below 0 are
    taken for 0.
    """

    num_outputs = 3

    def __init__(self) -> None:
        super().__init__()
        self.logs = Moments()

    def observe(self, reward: Tensor) -> None:
        super().observe(reward.clamp(min=0.0))
        self.logs.observe(reward[reward > 0].log())

    def loss(self, outputs: Tensor, reward: Tensor) -> Tensor:
        """Equation 5 of the paper without its constants."""
        logit, mu, sigma = self._distribution(outputs)
        sold = reward > 0
        loss = functional.binary_cross_entropy_with_logits(logit, sold.to(logit.dtype))
        deviation = (reward[sold].log() - mu[sold]) / sigma[sold]
        return loss + (0.5 * deviation.square() + sigma[sold].log()).sum() / len(reward)

    def _mean(self, outputs: Tensor) -> Tensor:
        logit, mu, sigma = self._distribution(outputs)
        return (logit.sigmoid() * (mu + 0.5 * sigma.square()).exp()).clamp(max=float(self.rewards.high))

    def _distribution(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The logit of p, μ and σ, each [B]."""
        share = min(max(float(self.logs.count / self.rewards.count), _MIN_SHARE), 1 - _MIN_SHARE)
        unit = max(self.logs.sd, _MIN_SIGMA)
        within = _MAX_DEVIATIONS * torch.tanh(outputs[:, 1] / _MAX_DEVIATIONS)
        logit = outputs[:, 0] + math.log(share / (1 - share))
        return logit, float(self.logs.mean) + unit * within, 2 * unit * outputs[:, 2].sigmoid() + _MIN_SIGMA


HEADS: dict[str, Callable[[], RewardHead]] = {
    "auto": Bernoulli,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "gaussian": Gaussian,
    "poisson": Poisson,
    "ziln": Ziln,
}


def make_head(loop: Loop) -> RewardHead:
    """That of `learner.head`."""
    return HEADS[loop.learner.head]()


def _classes(reward: Tensor) -> Tensor:
    return reward.round().clamp(0, MAX_COUNT).long()
