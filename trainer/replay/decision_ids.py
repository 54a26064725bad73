"""The ids of the buffer's rows, and the rows of ids."""

import numpy as np

from trainer.replay.row_table import RowTable

_SHORT = 40
"""Bytes that an id has room for in the array: those that the ranker makes take 33."""


class DecisionIds:
    """Of rows [0, N). Ids that clients made and that are longer cost as much as they are long."""

    def __init__(self, num_rows: int) -> None:
        self._short = np.zeros(num_rows, f"S{_SHORT}")
        self._long: dict[int, str] = {}
        self._hashes = np.zeros(num_rows, np.int64)
        self._rows = RowTable(self._hashes)

    def __getitem__(self, row: int) -> str:
        """The id that was put there."""
        return self._long.get(row) or self._short[row].decode()

    def row(self, decision_id: str) -> int | None:
        """Where it was put, if it was."""
        return next((row for row in self._rows.find(hash(decision_id)) if self[row] == decision_id), None)

    def put(self, row: int, decision_id: str) -> None:
        """Into a row that has none."""
        encoded = decision_id.encode()
        if len(encoded) > _SHORT:
            self._long[row] = decision_id
        else:
            self._short[row] = encoded
        self._hashes[row] = hash(decision_id)
        self._rows.put(row)

    def remove(self, row: int) -> None:
        self._rows.remove(row)
        self._long.pop(row, None)
