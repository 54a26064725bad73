import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.replay.index_set import IndexSet

_changes = st.lists(st.dictionaries(st.integers(0, 19), st.booleans(), max_size=10), max_size=10)


@given(_changes)
def test_it_holds_what_a_set_would(changes: list[dict[int, bool]]) -> None:
    members, model = IndexSet(20), set[int]()
    for change in changes:
        values, wanted = np.array([*change], np.int64), np.array([*change.values()], np.bool_)
        added = members.set_members(values, wanted)
        now = {value for value, is_wanted in change.items() if is_wanted}
        assert set(added.tolist()) == now - model
        model = (model | now) - ({*change} - now)
        assert len(members) == len(model)
        assert np.flatnonzero(members.contains(np.arange(20))).tolist() == sorted(model)
        drawn = members.draw(300, np.random.default_rng(0)) if model else np.zeros(0)
        assert set(drawn.tolist()) == model


def test_drawing_is_uniform() -> None:
    members = IndexSet(1_000)
    members.set_members(np.arange(0, 1_000, 100), np.ones(10, np.bool_))
    members.set_members(np.array([0, 500]), np.zeros(2, np.bool_))
    drawn = members.draw(80_000, np.random.default_rng(1))
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [100, 200, 300, 400, 600, 700, 800, 900]
    assert abs(counts - 10_000).max() < 500  # 5 standard deviations
