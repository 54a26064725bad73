"""The items that one request may rank."""

from collections.abc import Callable, Collection, Mapping, Sequence
from operator import itemgetter
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.features import Encoded, FeatureError, ItemEncoder
from policies.networks import Floats, ItemVectors
from policies.seeds import seed_of, uniforms
from policies.shortlists import Eligible
from schemas.messages import Candidate, Features, Id, RecommendRequest
from service.catalogue import ItemTable
from service.indexed import IndexedVectors
from service.problems import ProblemError, check_id, refused

MAX_SET = 10_000
"""Items of a whole catalogue that a policy for candidate sets scores; of a larger one it scores a sample."""
SAMPLE_SIZE = 1_000


Rows: TypeAlias = Sequence[int] | NDArray[np.intp]


class Given(msgspec.Struct, frozen=True, eq=False):
    """An item that the table does not speak for: unknown to it, or with features of the request's own."""

    item_id: str
    features: Features
    """The catalogue's and the request's together."""
    encoded: Encoded


class Pool(msgspec.Struct, frozen=True, eq=False):
    """N items, by position."""

    table: ItemTable
    rows: Rows | None  # [N] in the table, of no account where `given` has the item; None: all of the table
    given: Mapping[int, Given]  # by position
    gone: Sequence[int] = ()
    """Rows that are excluded all the same, sorted, where `rows` is None as picking out the others would cost too much:
    positions are rows then."""

    def __len__(self) -> int:
        return len(self.table) - len(self.gone) if self.rows is None else len(self.rows)

    @property
    def indexed(self) -> IndexedVectors | None:
        """By which a shortlist is made, where it is all of a large catalogue."""
        return self.table.vectors if self.rows is None and isinstance(self.table.vectors, IndexedVectors) else None

    @property
    def eligible(self) -> Eligible:
        """Its positions."""
        return Eligible(len(self) + len(self.gone), self.gone)

    def items(self, positions: Sequence[int]) -> list[tuple[str, Features]]:
        """Their ids and their features."""
        ids, features = self.table.ids, self.table.features
        rows = positions if self.rows is None else [self.rows[position] for position in positions]
        if not self.given:
            return [(ids[row], features[row]) for row in rows]
        given = [self.given.get(position) for position in positions]
        return [
            (ids[row], features[row]) if own is None else (own.item_id, own.features)
            for row, own in zip(rows, given, strict=True)
        ]

    def scores(
        self,
        score: Callable[[ItemVectors], Floats],
        make_vectors: Callable[[Sequence[Encoded]], ItemVectors],
        scores_a_pick: int,
    ) -> Floats:
        """[N], where `score` gives those of items that are known by their vectors, and `make_vectors` makes vectors of
        what the table has none of. Of a table of up to N · `scores_a_pick` items all are scored, as that costs less
        than to pick the vectors of N.
        """
        known, rows = self.table.vectors, self.rows
        assert known is not None  # the table is the policy's
        if rows is None:
            assert isinstance(known, ItemVectors)  # of an index there is a shortlist
            return score(known)
        if self.given:
            return score(self._vectors(known, rows, make_vectors([each.encoded for each in self.given.values()])))
        if isinstance(known, ItemVectors) and len(known) <= scores_a_pick * len(rows):
            return score(known).take(rows)
        return score(known.take(rows))

    def _vectors(self, known: ItemVectors | IndexedVectors, rows: Rows, given: ItemVectors) -> ItemVectors:
        if len(given) == len(rows):
            return given
        vectors, at = known.take(rows), list(self.given)
        vectors.vectors[:, at] = given.vectors
        vectors.biases[at] = given.biases
        return vectors

    def num_clipped(self) -> int:
        return sum(each.encoded.num_clipped for each in self.given.values()) if self.given else 0

    def num_unknown(self) -> int:
        return sum(each.encoded.num_unknown for each in self.given.values()) if self.given else 0


def pool_of(
    request: RecommendRequest, table: ItemTable, encoder: ItemEncoder, decision_id: str, *, is_for_sets: bool
) -> Pool:
    """What `request` may rank. Empty only where it names no candidates and the catalogue has none.

    Args:
        request: its candidates, else all of `table`, less what it excludes.
        table: the catalogue.
        encoder: for candidates that the catalogue does not speak for.
        decision_id: what a sample is drawn by.
        is_for_sets: whether of a catalogue of more than `MAX_SET` items a sample is taken.

    Raises:
        ProblemError: 422, a candidate is there twice or has features that do not fit, or everything is excluded.
    """
    excluded = frozenset(request.exclude or ())
    if request.candidates is not None:
        return _listed(request.candidates, excluded, table, encoder)
    pool = _all_but(excluded, table)
    return _sample(pool, decision_id) if is_for_sets and len(pool) > MAX_SET else pool


def _all_but(excluded: Collection[str], table: ItemTable) -> Pool:
    gone = [table.rows[item_id] for item_id in excluded if item_id in table.rows]
    if not gone:
        return Pool(table, None, {})
    if len(gone) == len(table):
        raise _all_excluded(excluded)
    if table.vectors is None or isinstance(table.vectors, IndexedVectors):
        return Pool(table, None, {}, sorted(gone))
    return Pool(table, np.delete(np.arange(len(table)), gone), {})


def _sample(pool: Pool, decision_id: str) -> Pool:
    """Uniform, without replacement: of twice as many draws the first ones that differ."""
    draws = (uniforms(seed_of(f"sample of {decision_id}"), 2 * SAMPLE_SIZE) * len(pool)).astype(np.intp)
    _, first = np.unique(draws, return_index=True)
    picked = draws[np.sort(first)[:SAMPLE_SIZE]]
    return Pool(pool.table, picked if pool.rows is None else np.asarray(pool.rows)[picked], {})


def _listed(
    candidates: Sequence[Id | Candidate], excluded: Collection[str], table: ItemTable, encoder: ItemEncoder
) -> Pool:
    if not excluded:
        try:  # the usual case, at a fifth of the cost: ids that the catalogue knows, each once
            rows: Rows = itemgetter(*candidates)(table.rows) if len(candidates) > 1 else ()  # a Candidate: TypeError
            if rows and len(set(rows)) == len(rows):
                return Pool(table, rows, {})
        except (KeyError, TypeError):
            pass
    return _listed_one_by_one(candidates, excluded, table, encoder)


def _listed_one_by_one(
    candidates: Sequence[Id | Candidate], excluded: Collection[str], table: ItemTable, encoder: ItemEncoder
) -> Pool:
    rows: list[int] = []
    given: dict[int, Given] = {}
    seen: set[str] = set()
    for place, candidate in enumerate(candidates):
        item_id, features = (candidate, {}) if isinstance(candidate, str) else (candidate.item_id, candidate.features)
        if item_id in seen:
            raise refused(("body", "candidates", place), "this candidate is there twice", item_id)
        seen.add(item_id)
        if item_id in excluded:
            continue
        row = table.rows.get(item_id)
        if row is None or features:
            given[len(rows)] = _given(place, item_id, features, {} if row is None else table.features[row], encoder)
        rows.append(row or 0)
    if not rows:
        raise _all_excluded(excluded)
    return Pool(table, np.array(rows, np.intp), given)


def _given(place: int, item_id: str, features: Features, stored: Features, encoder: ItemEncoder) -> Given:
    check_id(item_id, ("body", "candidates", place))
    try:
        encoded = encoder.encode(item_id, features)
    except FeatureError as error:
        raise refused(("body", "candidates", place, "features", *error.loc), error.message, error.given) from error
    if not stored:
        return Given(item_id, features, encoded)
    both = {**stored, **{name: value for name, value in features.items() if value is not None}}
    return Given(item_id, both, encoder.encode(item_id, both, lenient=True))


def _all_excluded(excluded: Collection[str]) -> ProblemError:
    return refused(("body", "exclude"), "this excludes every candidate", sorted(excluded))
