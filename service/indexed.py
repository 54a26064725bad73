"""The vectors of a large catalogue: most lie in the index of the policy's files, those of what was put since here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from policies.index import SHORTLIST, ItemIndex, fingerprints_of
from policies.networks import Floats, ItemVectors
from policies.policy import SlatePolicy
from policies.shortlists import Shortlist

_AT_ONCE = 1_024  # items, in about a quarter of a millisecond


@dataclass(frozen=True, slots=True)
class IndexedVectors:
    """Of the N rows of an item table. M items are in the index, F rows are fresh: they are not, or were put since."""

    index: ItemIndex
    places: NDArray[np.int32]  # [N] of a row in the index; −1 − f where it is the fresh one f
    rows: NDArray[np.int32]  # [M] of a place in the table, −1 where the item is deleted or fresh
    biases: Floats  # [M] −inf where there is no row, so that a search does not find it
    fresh: ItemVectors  # [D, F]
    fresh_rows: NDArray[np.intp]  # [F]

    @classmethod
    def of(cls, index: ItemIndex, places: NDArray[np.int32], fresh: ItemVectors) -> "IndexedVectors":
        """With places that name some of `fresh`, in any order."""
        is_fresh = places < 0
        fresh_rows, indexed = np.flatnonzero(is_fresh), np.flatnonzero(~is_fresh)
        fresh, places = fresh.take(-1 - places[fresh_rows]), places.copy()
        places[fresh_rows] = -1 - np.arange(len(fresh_rows), dtype=np.int32)
        rows = np.full(len(index), -1, np.int32)
        rows[places[indexed]] = indexed
        biases = np.where(rows >= 0, index.biases, np.float32(-np.inf))
        return cls(index, places, rows, biases, fresh, fresh_rows)

    def __len__(self) -> int:
        return len(self.places)

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> ItemVectors:
        """The vectors of some of the rows, in their order."""
        places = self.places.take(rows)
        vectors = np.empty((self.index.vectors.shape[1], len(places)), np.float32)
        biases = np.empty(len(places), np.float32)
        is_fresh = places < 0
        indexed, fresh = places[~is_fresh], -1 - places[is_fresh]
        vectors[:, ~is_fresh], biases[~is_fresh] = self.index.vectors[indexed].T, self.index.biases[indexed]
        vectors[:, is_fresh], biases[is_fresh] = self.fresh.vectors[:, fresh], self.fresh.biases[fresh]
        return ItemVectors(vectors, biases)

    def shortlist(self, state_vector: Floats, gone: NDArray[np.intp]) -> Shortlist:
        """The best `SHORTLIST` rows that are not `gone`, as far as the index finds them, with exact scores."""
        places, scores = self.index.top(state_vector, self.biases, SHORTLIST + len(gone))
        of_fresh = state_vector @ self.fresh.vectors
        of_fresh += self.fresh.biases
        rows: NDArray[np.intp] = np.concatenate((self.rows[places], self.fresh_rows))
        scores = np.concatenate((scores, of_fresh))
        kept = rows >= 0
        if len(gone):
            kept &= ~np.isin(rows, gone)
        rows, scores = rows[kept], scores[kept]
        if len(rows) > SHORTLIST:
            best = scores.argpartition(-SHORTLIST)[-SHORTLIST:]
            rows, scores = rows[best], scores[best]
        return Shortlist(rows, scores)

    def put(self, num: int, at: NDArray[np.intp], new: ItemVectors) -> "IndexedVectors":
        """Of a table of `num` rows, those `at` with the vectors `new`."""
        num_fresh = len(self.fresh)
        places = np.empty(num, np.int32)
        places[: len(self)] = self.places
        places[at] = -1 - num_fresh - np.arange(len(at), dtype=np.int32)
        vectors = np.concatenate((self.fresh.vectors, new.vectors), axis=1)
        return self.of(self.index, places, ItemVectors(vectors, np.concatenate((self.fresh.biases, new.biases))))

    def moved(self, order: NDArray[np.intp]) -> "IndexedVectors":
        """Of a table whose row i was row `order[i]`."""
        return self.of(self.index, self.places[order], self.fresh)


def indexed_vectors(
    index: ItemIndex, policy: SlatePolicy, rows: Mapping[str, int], slots: NDArray[np.intp], numbers: Floats
) -> IndexedVectors:
    """Of the table with these rows by id, slots [N, Si] and numbers [N, Gi]. Made in slices, with rests between."""
    row_of = _rows_of(index, rows)
    places, biases = np.full(len(slots), -1, np.int32), np.empty(len(index), np.float32)
    for some in _slices(len(index)):
        here = row_of[some]
        _forget_changed(here, index.fingerprints[some], slots, numbers)
        is_here = here >= 0
        places[here[is_here]] = some.start + np.flatnonzero(is_here)
        biases[some] = np.where(is_here, index.biases[some], np.float32(-np.inf))
        index.rest()
    index.release()
    fresh = np.flatnonzero(places < 0)
    places[fresh] = -1 - np.arange(len(fresh), dtype=np.int32)
    vectors = policy.network.item_vectors(slots[fresh], numbers[fresh])
    return IndexedVectors(index, places, row_of, biases, vectors, fresh)


def _rows_of(index: ItemIndex, rows: Mapping[str, int]) -> NDArray[np.int32]:
    """The rows [M] of the items of an index, −1 of those that have none."""
    found, first = np.empty(len(index), np.int32), 0
    for ids in index.ids():
        found[first : first + len(ids)] = np.fromiter(map(rows.get, ids, repeat(-1)), np.int32, len(ids))
        first += len(ids)
        index.rest()
    return found


def _forget_changed(
    here: NDArray[np.int32], fingerprints: NDArray[np.uint64], slots: NDArray[np.intp], numbers: Floats
) -> None:
    """Makes −1 of the rows, in place, whose items were put since: what the index has of them is of old."""
    known = np.flatnonzero(here >= 0)
    at = here[known]
    here[known[fingerprints_of(slots[at], numbers[at]) != fingerprints[known]]] = -1


def _slices(num: int) -> Iterator[slice]:
    return (slice(start, min(start + _AT_ONCE, num)) for start in range(0, num, _AT_ONCE))
