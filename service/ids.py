"""Ids that the server makes."""

import itertools


class IdSource:
    """Ids that no other process makes: a random prefix of this one's, and a counter.

    One after another they lie side by side in the store's index, which random ids do not.
    """

    def __init__(self, entropy: bytes) -> None:
        """`entropy`: 12 bytes or more from the system's random source."""
        self._prefix = entropy.hex()
        self._counter = itertools.count()

    def __call__(self) -> str:
        return f"{self._prefix}-{next(self._counter):08x}"
