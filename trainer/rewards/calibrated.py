"""An estimator whose estimates go through a map that is fitted to fresh impressions as they come."""

import numpy as np
import torch
from torch import Tensor, nn

from trainer.networks import Embeddings
from trainer.replay.batch import TransitionBatch
from trainer.replay.statistics import NumberStatistics
from trainer.rewards.calibration import NUM_KNOTS, Calibration, Floats
from trainer.rewards.estimator import RewardEstimator
from trainer.state import Kept, OfParts

WINDOW = 8_192
"""Fresh impressions that the map is fitted to."""
MIN_FRESH = 1_000
"""Before so many the estimates stay as they are."""
FIT_EVERY = 512


class Calibrated(OfParts):
    """Any estimator, itself one.

    Only fresh impressions say how far an estimator is overfitted: what it has learned from, it estimates too well. The
    agent is better off with the estimates as they are where they are merely spread too far (docs/estimators.md).
    """

    def __init__(self, inner: RewardEstimator, calibration: Calibration) -> None:
        self.inner = inner
        self._window = Window()
        self._map = RisingMap()
        self._calibration = calibration

    @property
    def embeddings(self) -> Embeddings:
        return self.inner.embeddings

    def predict(self, batch: TransitionBatch) -> Tensor:
        mapped: Tensor = self._map(self.inner.predict(batch))
        return mapped

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        return self.inner.update(batch, num_examples)

    def observe(self, fresh: TransitionBatch) -> None:
        before = self._window.num_seen
        self._window.put(self.inner.predict(fresh), fresh.reward)
        self.inner.observe(fresh)
        seen = self._window.num_seen
        if seen >= MIN_FRESH and (not self._map.is_fitted or seen // FIT_EVERY > before // FIT_EVERY):
            estimate, reward = self._window.pairs()
            self._map.put(*self._calibration(estimate.double().numpy(), reward.double().numpy()))

    def rescale(self, statistics: NumberStatistics) -> None:
        self.inner.rescale(statistics)

    def _parts(self) -> dict[str, Kept]:
        return {"inner": self.inner, "window": self._window, "map": self._map}


class Window(nn.Module):
    """The newest estimates and rewards."""

    estimate: Tensor
    reward: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("estimate", torch.zeros(WINDOW))
        self.register_buffer("reward", torch.zeros(WINDOW))
        self.register_buffer("seen", torch.tensor(0))

    @property
    def num_seen(self) -> int:
        return int(self.seen)

    def put(self, estimate: Tensor, reward: Tensor) -> None:
        """Takes B of each, in the place of the oldest."""
        newest, num = estimate[-WINDOW:], self.num_seen
        places = torch.arange(num, num + len(newest)) % WINDOW
        self.estimate[places], self.reward[places] = newest, reward[-WINDOW:]
        self.seen += len(newest)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Estimates and rewards, [n]."""
        num = min(self.num_seen, WINDOW)
        return self.estimate[:num], self.reward[:num]


class RisingMap(nn.Module):
    """Linear between knots, constant beyond them; nothing is changed before there are any."""

    x: Tensor
    y: Tensor
    fitted: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("x", torch.zeros(NUM_KNOTS, dtype=torch.float64))
        self.register_buffer("y", torch.zeros(NUM_KNOTS, dtype=torch.float64))
        self.register_buffer("fitted", torch.tensor(False))

    @property
    def is_fitted(self) -> bool:
        return bool(self.fitted)

    def put(self, x: Floats, y: Floats) -> None:
        self.x.copy_(torch.from_numpy(x))
        self.y.copy_(torch.from_numpy(y))
        self.fitted.fill_(True)

    def forward(self, estimate: Tensor) -> Tensor:
        """[B] → [B]."""
        if not self.is_fitted:
            return estimate
        return torch.from_numpy(np.interp(estimate.numpy(), self.x.numpy(), self.y.numpy())).to(estimate.dtype)
