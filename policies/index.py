"""An approximate index of item vectors: the items of most v · s + b, without looking at all of them.

Items lie in lists (an inverted file; Jégou, Douze, Schmid 2011): a list holds the items whose vector, with the bias as
one more number (so that the score is one inner product; Bachrach et al. 2014), is nearest to its centroid. A search
scores the centroids, and exactly all items of the best lists. Items of a list lie together, so that a list is one
stretch of memory. How many lists a search must look at is measured, not assumed: on vectors without clusters none but
nearly all would do, and then all items are scored, in blocks.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from policies.networks import Floats, ItemVectors
from policies.rests import Rest, rest

INDEX_THRESHOLD = 20_000
"""Items from which on an index is made: below, scoring all of them costs no more than a search."""
SHORTLIST = 256
"""Items that a search finds at most: what a decision may log of them."""
MIN_RECALL = 0.98
"""Of the ten best, the part that a search must find on average."""
NUM_BEST = 10
CHUNK = 256
"""Items whose ids are taken at once: about a quarter of a millisecond, in which no other thread runs Python."""

_SAMPLES_PER_LIST = 48
_ROUNDS = 6
_MAX_SHARE = 0.25  # of the items that a search looks at; beyond, scoring all in order is as quick
_BLOCK = 65_536
_ROWS_AT_ONCE = 16_384
_SEPARATOR = "\n"  # no id holds a control character


class Memory(Protocol):
    """What can be given back, and comes again when it is read; `policies.index_files.MappedFile` is one."""

    def release(self) -> None: ...


@dataclass(frozen=True, slots=True)
class IndexTensors:
    """What lies in the file. N items in L lists, by list; P queries to measure a search by."""

    vectors: Floats  # [N, D]
    biases: Floats  # [N]
    fingerprints: NDArray[np.uint64]  # [N] of the encoded items: one that differs was put since
    centroids: Floats  # [D + 1, L] the last row is of the biases
    starts: NDArray[np.int64]  # [L + 1] where each list starts
    ids: NDArray[np.uint8]  # UTF-8, a separator after each
    id_starts: NDArray[np.int64]  # [⌈N / CHUNK⌉ + 1] where each chunk of ids starts
    queries: Floats  # [P, D] state vectors
    tenth_best: Floats  # [P] the score of the query's tenth best item


def build_index(
    ids: Sequence[str], items: ItemVectors, fingerprints: NDArray[np.uint64], queries: Floats, seed: int = 0
) -> IndexTensors:
    """The index of N ≥ `NUM_BEST` items, with P ≥ 1 state vectors [P, D] such as will be asked for."""
    points = np.column_stack((items.vectors.T, items.biases))  # [N, D + 1]
    centroids = _centroids(points, max(1, round(math.sqrt(len(ids)))), np.random.default_rng(seed))
    lists = _nearest(points, centroids)
    order = np.argsort(lists, kind="stable")
    text, id_starts = _packed([ids[i] for i in order.tolist()])
    vectors = np.ascontiguousarray(points[order, :-1])
    biases = items.biases[order]
    return IndexTensors(
        vectors=vectors,
        biases=biases,
        fingerprints=fingerprints[order],
        centroids=np.ascontiguousarray(centroids.T),
        starts=np.searchsorted(lists[order], np.arange(len(centroids) + 1)).astype(np.int64),
        ids=text,
        id_starts=id_starts,
        queries=queries,
        tenth_best=_tenth_best(vectors, biases, queries),
    )


def _centroids(points: Floats, num: int, rng: np.random.Generator) -> Floats:
    """k-means (Lloyd) on a sample: [num, D + 1]. A list that loses all its points starts anew from one drawn."""
    sample = points[rng.choice(len(points), min(len(points), num * _SAMPLES_PER_LIST), replace=False)]
    centroids = sample[:num].copy()
    for _ in range(_ROUNDS):
        lists = _nearest(sample, centroids)
        order, counts = np.argsort(lists, kind="stable"), np.bincount(lists, minlength=num)
        used = np.flatnonzero(counts)
        sums = np.add.reduceat(sample[order], (np.cumsum(counts) - counts)[used], axis=0)
        centroids[used] = sums / counts[used, None].astype(np.float32)
        lost = np.flatnonzero(counts == 0)
        centroids[lost] = sample[rng.integers(len(sample), size=len(lost))]
    return centroids


def _nearest(points: Floats, centroids: Floats) -> NDArray[np.intp]:
    """The centroid [N] nearest to each point: of least |c|² / 2 − c · x."""
    halves = (centroids * centroids).sum(axis=1) / np.float32(2)
    nearest = np.empty(len(points), np.intp)
    for start in range(0, len(points), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        closeness = points[some] @ centroids.T
        closeness -= halves
        nearest[some] = closeness.argmax(axis=1)
    return nearest


def _packed(ids: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    chunks = [
        "".join(f"{item_id}{_SEPARATOR}" for item_id in ids[start : start + CHUNK]).encode("utf-8", "surrogatepass")
        for start in range(0, len(ids), CHUNK)
    ]
    return np.frombuffer(b"".join(chunks), np.uint8), np.cumsum([0, *map(len, chunks)])


def _tenth_best(vectors: Floats, biases: Floats, queries: Floats) -> Floats:
    best = np.full((len(queries), NUM_BEST), -np.inf, np.float32)
    for start in range(0, len(vectors), _BLOCK):
        some = slice(start, start + _BLOCK)
        scores = np.concatenate((best, queries @ vectors[some].T + biases[some]), axis=1)
        best = np.partition(scores, -NUM_BEST, axis=1)[:, -NUM_BEST:]
    tenth: Floats = best.min(axis=1)
    return tenth


def fingerprints_of(slots: NDArray[np.integer], numbers: Floats) -> NDArray[np.uint64]:
    """[N] what tells apart items of slots [N, Si] and numbers [N, Gi] (FNV-1a on 64 bits, a column a step)."""
    found = np.full(len(slots), 0xCBF29CE484222325, np.uint64)
    for columns in (slots.astype(np.uint64), np.ascontiguousarray(numbers, np.float32).view(np.uint32)):
        for column in columns.T:
            found ^= column
            found *= np.uint64(0x100000001B3)
            found ^= found >> np.uint64(29)
    return found


class ItemIndex:
    """Searches in the lists of a file."""

    def __init__(self, tensors: IndexTensors, memory: Memory | None = None, rest: Rest = rest) -> None:
        """Measures how many lists a search must look at. `memory` is where the tensors lie, if not in the heap; `rest`
        is called between slices of the work, here and by those who read all of it.
        """
        self._memory = memory
        self.rest = rest
        self.vectors = tensors.vectors
        self.biases = tensors.biases
        self.fingerprints = tensors.fingerprints
        self._tensors = tensors
        self._centroids, self._of_bias = np.ascontiguousarray(tensors.centroids[:-1]), tensors.centroids[-1].copy()
        self._starts = tensors.starts.copy()
        self.num_probes, self.recall = self._measured()
        """Lists that a search looks at, 0 for all items; and the part of the ten best that it finds."""
        self.release()  # what was measured by need not stay while an older index serves

    def __len__(self) -> int:
        return len(self.biases)

    def release(self) -> None:
        """Gives back the memory of what was read once; what is asked for again comes again, slower the first time."""
        if self._memory is not None:
            self._memory.release()

    def ids(self) -> Iterator[list[str]]:
        """By place, `CHUNK` at a time."""
        for start, end in pairwise(self._tensors.id_starts.tolist()):
            text = self._tensors.ids[start:end].tobytes().decode("utf-8", "surrogatepass")
            yield text.split(_SEPARATOR)[:-1]

    def top(self, query: Floats, biases: Floats, num: int) -> tuple[NDArray[np.intp], Floats]:
        """Places and scores of the best, at most `num`, in no order.

        Args:
            query: [D] a state's vector.
            biases: [N] those of the items; −inf for one that must not be found.
            num: how many at most.
        """
        if not self.num_probes:
            return _top_of_all(self.vectors, biases, query, num)
        return self._top(query, biases, num, self.num_probes)

    def _top(self, query: Floats, biases: Floats, num: int, num_probes: int) -> tuple[NDArray[np.intp], Floats]:
        closeness = query @ self._centroids
        closeness += self._of_bias
        lists = closeness.argpartition(-num_probes)[-num_probes:]
        starts, ends = self._starts[lists], self._starts[lists + 1]
        offsets = np.cumsum(ends - starts)
        scores = np.empty(int(offsets[-1]), np.float32)
        at = 0
        for start, end, stop in zip(starts.tolist(), ends.tolist(), offsets.tolist(), strict=True):
            found = scores[at:stop]
            np.dot(self.vectors[start:end], query, out=found)
            found += biases[start:end]
            at = stop
        best = _best(scores, num)
        of_list = offsets.searchsorted(best, side="right")
        return best + (ends - offsets)[of_list], scores[best]

    def _measured(self) -> tuple[int, float]:
        """As many lists as make sure that what is found of other queries too is `MIN_RECALL`, within two deviations."""
        num_lists, probes = len(self._of_bias), 1
        while probes <= num_lists * _MAX_SHARE:
            found = self._found(probes)
            if found.mean() - 2 * found.std() / math.sqrt(len(found)) >= MIN_RECALL:
                return probes, float(found.mean())
            probes += max(1, probes // 3)
        return 0, 1.0

    def _found(self, num_probes: int) -> NDArray[np.float64]:
        """The part [P] found of the best `NUM_BEST` of each query. Equal scores are as good as each other."""
        found = []
        for query, tenth in zip(self._tensors.queries, self._tensors.tenth_best.tolist(), strict=True):
            _, scores = self._top(query, self.biases, NUM_BEST, num_probes)
            self.rest()
            found.append(min(NUM_BEST, int((scores >= tenth - 1e-5 * max(1.0, abs(tenth))).sum())))
        return np.array(found) / NUM_BEST


def _best(scores: Floats, num: int) -> NDArray[np.intp]:
    """Where the `num` largest are, in no order."""
    return scores.argpartition(-num)[-num:] if num < len(scores) else np.arange(len(scores))


def _top_of_all(vectors: Floats, biases: Floats, query: Floats, num: int) -> tuple[NDArray[np.intp], Floats]:
    """Of each block, what is above the worst of the best so far; so that little is sorted."""
    places, best = np.empty(0, np.intp), np.empty(0, np.float32)
    for start in range(0, len(vectors), _BLOCK):
        scores = vectors[start : start + _BLOCK] @ query
        scores += biases[start : start + _BLOCK]
        worst = best.min() if len(best) >= num else -np.inf
        above = np.flatnonzero(~(scores < worst))  # NaN too: it is to be seen
        places, best = np.concatenate((places, above + start)), np.concatenate((best, scores[above]))
        kept = _best(best, num)
        places, best = places[kept], best[kept]
    return places, best
