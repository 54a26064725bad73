"""Items by id: the catalogue as it is now, and rows of the item table for what decisions logged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from policies.features import FeatureError, ItemEncoder, network_layouts
from schemas.loop_file import Loop
from schemas.messages import Candidate, Features
from storage.catalogue import StoredItem
from storage.reward_tail import RewardedDecision
from trainer.replay.item_table import ItemTable


class ItemSource(Protocol):
    """Where the catalogue's changes come from; `storage.catalogue.Catalogue` is one."""

    def changed_since(self, revision: int) -> tuple[Sequence[StoredItem], int]: ...


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class CatalogueItems:
    """The N items of the catalogue, encoded."""

    ids: list[str]
    slots: NDArray[np.int32]  # [N, Si]
    numbers: NDArray[np.float32]  # [N, Gi]


@dataclass(slots=True)
class _Known:
    features: Features
    row: int


class Items:
    """Of the loop's items; for `weights`, whose networks read none, all of it stays empty.

    Encoding an item costs a hundred times a look into a dict, so the last encoding of each id is remembered.
    """

    def __init__(self, loop: Loop, source: ItemSource, rng: np.random.Generator) -> None:
        _, layout = network_layouts(loop)
        self.table = ItemTable(layout.num_slots, layout.num_numbers)
        self._encoder = ItemEncoder(loop)
        self._is_needed = loop.action.kind == "slate"
        self._source = source
        self._rng = rng
        self._revision = 0
        self._catalogue: dict[str, _Known] = {}
        self._ids: list[str] = []  # of the catalogue, to draw from
        self._last: dict[str, _Known] = {}  # as logged or requested

    def refresh(self) -> None:
        """Follows the catalogue. An item put under an older loop file is taken as far as it fits this one."""
        if not self._is_needed:
            return
        changed, self._revision = self._source.changed_since(self._revision)
        for item in changed:
            self._catalogue.pop(item.item_id, None)
            if not item.deleted:
                row = self.table.intern(self._encoder.encode(item.item_id, item.features, lenient=True))
                self._catalogue[item.item_id] = _Known(item.features, row)
        if changed:
            self._ids = list(self._catalogue)

    def catalogue(self) -> CatalogueItems:
        """As it was at the last refresh."""
        rows = np.fromiter((known.row for known in self._catalogue.values()), np.intp, len(self._catalogue))
        return CatalogueItems(self._ids, self.table.slots[rows], self.table.numbers[rows])

    def row(self, item_id: str, features: Features, *, lenient: bool) -> int:
        """The row of an item with all its features; raises `FeatureError`, where lenient it takes what fits."""
        for known in (self._catalogue.get(item_id), self._last.get(item_id)):
            if known is not None and known.features == features:
                return known.row
        row = self.table.intern(self._encoder.encode(item_id, features, lenient=lenient))
        self._last[item_id] = _Known(features, row)
        return row

    def candidate_rows(self, candidates: Sequence[str | Candidate], *, lenient: bool) -> list[int]:
        """Those with the catalogue's features, under the request's own; one that does not encode is left out."""
        rows = []
        for candidate in candidates:
            try:
                rows.append(self._candidate_row(candidate, lenient))
            except FeatureError:
                continue
        return rows

    def _candidate_row(self, candidate: str | Candidate, lenient: bool) -> int:
        item_id = _id_of(candidate)
        known = self._catalogue.get(item_id)
        requested = {} if isinstance(candidate, str) else candidate.features
        if known is None:
            return self.row(item_id, requested, lenient=lenient)
        return self.row(item_id, known.features | requested, lenient=lenient) if requested else known.row

    def choose_candidates(self, decision: RewardedDecision, room: int) -> list[str | Candidate]:
        """At most `room` items that could have been in the slate and are not.

        Where there were more, a uniform sample. Of the whole catalogue: the shortlist, and a sample in the other half.
        """
        taken = {item.item_id for item in decision.items}.union(decision.exclude or ())
        if decision.candidates is not None:
            return self._sample([each for each in decision.candidates if _id_of(each) not in taken], room)
        shortlist = self._sample([each for each in decision.shortlist or () if each not in taken], room // 2)
        taken.update(shortlist)
        sample = self._sample(self._ids, room - len(shortlist))
        return [*shortlist, *(each for each in sample if each not in taken)]

    def _sample(self, given: Sequence[_T], num: int) -> list[_T]:
        if len(given) <= num:
            return list(given)
        return [given[i] for i in self._rng.choice(len(given), num, replace=False, shuffle=False).tolist()]

    def compact(self, used: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Forgets the rows that neither `used` [M] nor the catalogue names; returns the new row of each old one."""
        used[[known.row for known in self._catalogue.values()]] = True
        moved = self.table.compact(used)
        self._last = {item_id: known for item_id, known in self._last.items() if used[known.row]}
        for known in (*self._catalogue.values(), *self._last.values()):
            known.row = int(moved[known.row])
        return moved


def _id_of(candidate: str | Candidate) -> str:
    return candidate if isinstance(candidate, str) else candidate.item_id
