"""Encoded items, each kept once: slates and candidates in the buffer are rows of this table."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from policies.features import Encoded

PADDING = 0
"""The row of no item: all zero."""
_MIN_ROOM = 64
_T = TypeVar("_T", np.int32, np.float32)


class ItemTable:
    """Grows by doubling; `compact` forgets what nothing uses any more."""

    def __init__(self, num_slots: int, num_numbers: int) -> None:
        self.slots = np.zeros((_MIN_ROOM, num_slots), np.int32)  # [M, Si]
        self.numbers = np.zeros((_MIN_ROOM, num_numbers), np.float32)  # [M, Gi]
        self._rows: dict[bytes, int] = {}

    def __len__(self) -> int:
        """Rows in use, the padding among them."""
        return 1 + len(self._rows)

    def intern(self, encoded: Encoded) -> int:
        """The row of an item that encodes like this: to a network two such items are one."""
        numbers = np.array(encoded.numbers, np.float32)
        key = np.array(encoded.slots, np.int32).tobytes() + numbers.tobytes()
        row = self._rows.get(key)
        if row is None:
            row = len(self)
            if row == len(self.slots):
                self.slots, self.numbers = _with_room(self.slots), _with_room(self.numbers)
            self.slots[row] = encoded.slots
            self.numbers[row] = numbers
            self._rows[key] = row
        return row

    def compact(self, used: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Keep the rows where `used` [M or more]. Returns the new row of each old one; that of a forgotten one is 0."""
        kept = used[: len(self)].copy()
        kept[PADDING] = True
        moved = np.where(kept, np.cumsum(kept) - 1, PADDING).astype(np.int32)
        old = np.flatnonzero(kept)
        self.slots = _with_room(self.slots[old])
        self.numbers = _with_room(self.numbers[old])
        self._rows = {key: int(moved[row]) for key, row in self._rows.items() if kept[row]}
        return moved


def _with_room(rows: NDArray[_T]) -> NDArray[_T]:
    return np.concatenate([rows, np.zeros((max(_MIN_ROOM, len(rows)), rows.shape[1]), rows.dtype)])
