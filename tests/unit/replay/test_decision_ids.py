"""Rows by id, in arrays: what a dict would say."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.replay.decision_ids import DecisionIds
from trainer.replay.row_table import RowTable

_NUM_ROWS = 8
_IDS = ["a", "ä" * 20, "ä" * 21, "x" * 40, "x" * 41, "00112233445566778899aabb-00000000"]


@given(st.lists(st.tuples(st.integers(0, _NUM_ROWS - 1), st.sampled_from(_IDS)), max_size=30))
def test_ids_of_any_length_are_found_until_they_are_removed(changes: list[tuple[int, str]]) -> None:
    ids, model = DecisionIds(_NUM_ROWS), dict[int, str]()
    for row, decision_id in changes:
        if row in model:
            ids.remove(row)
            del model[row]
        if decision_id not in model.values():
            ids.put(row, decision_id)
            model[row] = decision_id
        assert {each: ids.row(each) for each in _IDS} == {each: _row_of(model, each) for each in _IDS}
        assert {each: ids[each] for each in model} == model


def _row_of(model: dict[int, str], decision_id: str) -> int | None:
    return next((row for row, each in model.items() if each == decision_id), None)


def test_rows_of_one_chain_are_told_apart_and_those_of_one_hash_are_all_found() -> None:
    table = RowTable(np.array([3, 7, 3, 11]))  # four chains: all in one
    for row in range(4):
        table.put(row)
    assert [sorted(table.find(hash_)) for hash_ in (3, 7, 11, 15)] == [[0, 2], [1], [3], []]
    table.remove(2)
    table.remove(3)
    table.remove(0)
    assert [sorted(table.find(hash_)) for hash_ in (3, 7, 11)] == [[], [1], []]
