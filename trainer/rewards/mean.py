"""The mean reward of each item, shrunk towards that of all by empirical Bayes (Morris 1983)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from policies.features import ITEM_ID_TABLE
from schemas.loop_file import Loop
from trainer.networks import Embeddings
from trainer.replay.batch import TransitionBatch
from trainer.replay.statistics import NumberStatistics


class MeanEstimator:
    """Blind to the state: what there is to gain by more than popularity is what another estimator does better.

    Minibatches show an impression several times, so n of an item is its share of the impressions shown, times how many
    there are to learn from.
    """

    def __init__(self, loop: Loop) -> None:
        self.embeddings = Embeddings(loop)
        """Never trained."""
        [table] = [table for table in self.embeddings.item_layout.tables if table.name == ITEM_ID_TABLE]
        self._slots = table.slots
        self._sums = ItemSums(table.cardinality)

    def predict(self, batch: TransitionBatch) -> Tensor:
        return self._sums.means()[self._ids(batch)].float()

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        if batch.stabilized:
            raise ValueError("an estimator is fitted to raw rewards, and this batch's are stabilized")
        loss = (self.predict(batch) - batch.reward).square().mean()
        self._sums.add(self._ids(batch), batch.reward, num_examples)
        return {"estimator_loss": loss.item()}

    def observe(self, fresh: TransitionBatch) -> None:
        """Learns from `update` only."""

    def rescale(self, statistics: NumberStatistics) -> None:
        """Sees no numbers."""

    def state_dict(self) -> dict[str, Tensor]:
        return self._sums.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._sums.load_state_dict(state)

    def _ids(self, batch: TransitionBatch) -> Tensor:
        return batch.item_slots[:, self._slots].squeeze(1)


class ItemSums(nn.Module):
    """Numbers and sums of rewards by item, [cardinality], and of their squares over all."""

    count: Tensor
    total: Tensor
    squares: Tensor
    num_examples: Tensor

    def __init__(self, cardinality: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(cardinality, dtype=torch.float64))
        self.register_buffer("total", torch.zeros(cardinality, dtype=torch.float64))
        self.register_buffer("squares", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("num_examples", torch.tensor(0.0, dtype=torch.float64))

    def add(self, ids: Tensor, reward: Tensor, num_examples: int) -> None:
        """Takes the rewards [B] of items [B] into account."""
        r = reward.double()
        self.count.index_add_(0, ids, torch.ones_like(r))
        self.total.index_add_(0, ids, r)
        self.squares += r.square().sum()
        self.num_examples.fill_(num_examples)

    def means(self) -> Tensor:
        """The shrunk mean of each item, [cardinality]; zeros before any reward."""
        num_shown = self.count.sum()
        if not num_shown:
            return torch.zeros_like(self.total)
        scale = (self.num_examples / num_shown).clamp(max=1.0)
        return shrunk_means(self.count * scale, self.total * scale, self.squares * scale)


def shrunk_means(count: Tensor, total: Tensor, squares: Tensor) -> Tensor:
    """μ + τ² / (τ² + σ² / n) (mean − μ) of each group, all [I] but the sum of squares.

    σ² is the variance within groups, τ² between them, both by the moments of a one-way analysis of variance with
    groups of unequal size (Searle, Casella and McCulloch 1992, §3.6). A group without rewards gets μ, the mean of all.
    """
    n, mean = count.sum(), total.sum() / count.sum()
    group_mean = torch.where(count > 0, total / count.clamp(min=1e-12), mean)
    num_groups = (count > 0).sum()
    among = (count * (group_mean - mean).square()).sum()
    within = (squares - (count * group_mean.square()).sum()).clamp(min=0.0) / (n - num_groups).clamp(min=1.0)
    spread = (n - count.square().sum() / n).clamp(min=1e-12)
    between = ((among - (num_groups - 1) * within) / spread).clamp(min=0.0)
    share = between * count / (between * count + within).clamp(min=1e-12)
    return mean + share * (group_mean - mean)
