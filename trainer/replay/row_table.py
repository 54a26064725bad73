"""A hash table of rows, in arrays: a dict of five million strings takes a gigabyte."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


class RowTable:
    """Finds rows [0, N) by 64-bit hashes, which the caller keeps; several rows may have the same."""

    def __init__(self, hashes: NDArray[np.int64]) -> None:
        """`hashes` [N]: that of a row must stay as it is while the row is in the table."""
        self._hashes = hashes
        self._first = np.zeros(len(hashes), np.int32)  # of a chain: row + 1; 0 where there is none
        self._next = np.zeros(len(hashes), np.int32)  # in the chain: the same

    def put(self, row: int) -> None:
        """Takes in a row that is not there."""
        chain = self._chain(self._hashes[row])
        self._next[row] = self._first[chain]
        self._first[chain] = row + 1

    def remove(self, row: int) -> None:
        """Takes out a row that is there."""
        chain = self._chain(self._hashes[row])
        at = int(self._first[chain]) - 1
        if at == row:
            self._first[chain] = self._next[row]
            return
        while (following := int(self._next[at]) - 1) != row:
            at = following
        self._next[at] = self._next[row]

    def find(self, hash_: int) -> Iterator[int]:
        """The rows with this hash."""
        at = int(self._first[self._chain(hash_)])
        while at:
            if self._hashes[at - 1] == hash_:
                yield at - 1
            at = int(self._next[at - 1])

    def _chain(self, hash_: int) -> int:
        return int(hash_) % len(self._first)
