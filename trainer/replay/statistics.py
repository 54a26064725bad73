"""Mean and spread of the numbers that have no range of their own and are scaled as data come (DESIGN §4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MIN_STD = 1e-6  # below it a number is constant, and dividing by it would blow up the first that is not


@dataclass(frozen=True, slots=True)
class NumberStatistics:
    """Of the numbers that data scale; mean 0 and deviation 1 for all others, and while there are no data."""

    state_mean: NDArray[np.float32]  # [G]
    state_std: NDArray[np.float32]  # [G]; 1 where a number is constant
    item_mean: NDArray[np.float32]  # [Gi]
    item_std: NDArray[np.float32]  # [Gi]


def mean_and_std(
    numbers: NDArray[np.float32], scaled_by_data: Sequence[bool]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of each column of `numbers` [N, G] that `scaled_by_data` [G] names."""
    mean, std = np.zeros(len(scaled_by_data)), np.ones(len(scaled_by_data))
    scaled = np.flatnonzero(scaled_by_data)
    if len(numbers) and len(scaled):
        sample = numbers[:, scaled].astype(np.float64)
        spread = sample.std(axis=0)
        mean[scaled] = sample.mean(axis=0)
        std[scaled] = np.where(spread > _MIN_STD, spread, 1.0)
    return mean.astype(np.float32), std.astype(np.float32)
