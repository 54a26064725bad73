"""A set of small integers from which one can draw uniformly, and which changes many members at a time."""

import numpy as np
from numpy.typing import NDArray


class IndexSet:
    """Members are in [0, size). `set_members` costs what it changes; `draw` costs what it draws."""

    def __init__(self, size: int) -> None:
        narrow = np.int32 if size < 2**31 else np.int64
        self._members: NDArray[np.integer] = np.zeros(size, narrow)  # the first `_num` are the set
        self._place: NDArray[np.integer] = np.zeros(size, narrow)  # 1 + where in `_members`; 0: not a member
        self._num = 0

    def __len__(self) -> int:
        return self._num

    def contains(self, values: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.asarray(self._place[values] > 0)

    def draw(self, num: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """`num` members, uniform, with replacement; the set must not be empty."""
        return self._members[rng.integers(0, self._num, num)].astype(np.int64)

    def set_members(self, values: NDArray[np.int64], wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Each value (none twice) is a member afterwards where `wanted`. Returns those that were added."""
        inside = self.contains(values)
        self._remove(values[inside & ~wanted])
        added = values[wanted & ~inside]
        end = self._num + len(added)
        self._members[self._num : end] = added
        self._place[added] = np.arange(self._num, end) + 1
        self._num = end
        return np.asarray(added)

    def _remove(self, values: NDArray[np.int64]) -> None:
        """Members from the end move into the holes."""
        end = self._num - len(values)
        places = self._place[values] - 1
        self._place[values] = 0
        tail = self._members[end : self._num]
        moved = tail[self._place[tail] > 0]
        holes = places[places < end]
        self._members[holes] = moved
        self._place[moved] = holes + 1
        self._num = end
