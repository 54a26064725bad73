"""Impressions that the agent has not seen yet, newest first."""

import numpy as np
from numpy.typing import NDArray

_MAX_FRESH = 65_536  # the oldest beyond it are left to chance


class FreshQueue:
    """Codes of impressions: row · K + position."""

    def __init__(self, num_positions: int, rng: np.random.Generator) -> None:
        self._num_positions = num_positions
        self._rng = rng
        self._codes = np.zeros(0, np.int64)  # the last is taken first

    def __len__(self) -> int:
        return len(self._codes)

    def put(self, codes: NDArray[np.int64]) -> None:
        """In front of all others; in turn one impression of each decision, so that each decision is seen soon."""
        codes = self._rng.permutation(codes)
        by_row = codes[np.argsort(codes // self._num_positions, kind="stable")]
        rows = by_row // self._num_positions
        first_of_row = np.searchsorted(rows, rows)
        turn = np.arange(len(rows)) - first_of_row
        self._codes = np.concatenate([self._codes, by_row[np.argsort(-turn, kind="stable")]])[-_MAX_FRESH:]

    def take(self, num: int) -> NDArray[np.int64]:
        """The next `num`, fewer if there are fewer."""
        at = max(len(self._codes) - num, 0)
        taken, self._codes = self._codes[at:], self._codes[:at]
        return taken

    def clear(self) -> None:
        self._codes = self._codes[:0]
