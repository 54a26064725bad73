"""Links between decisions of a session: the index agrees with the pure function, whatever the order of arrival."""

from hypothesis import given
from hypothesis import strategies as st

from trainer.replay.sessions import NO_ROW, Entry, Link, SessionIndex, next_rows, session_key

TIMEOUT = 10.0


class Sessions:
    """An index, with the entries that its rows have."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._index = SessionIndex(TIMEOUT, 30, self._entries.__getitem__)

    def insert(self, key: str | None, entry: Entry) -> list[Link]:
        self._entries[entry.row] = entry
        return self._index.insert(key, entry)

    def remove(self, entry: Entry) -> list[Link]:
        del self._entries[entry.row]  # nobody asks for it any more
        return self._index.remove(entry.row)


def test_a_session_is_of_one_session_id_else_of_one_user() -> None:
    assert session_key("s", "u") == session_key("s", "other")
    assert session_key(None, "u") == session_key(None, "u")
    assert session_key("x", None) != session_key(None, "x")
    assert session_key(None, None) is None


def test_the_next_decision_is_the_next_in_time_of_the_same_session() -> None:
    decisions = [
        ("a", Entry(5.0, "d", 0)),
        ("b", Entry(6.0, "e", 1)),
        ("a", Entry(1.0, "f", 2)),
        (None, Entry(2.0, "g", 3)),
    ]
    assert next_rows(decisions, TIMEOUT) == {0: NO_ROW, 1: NO_ROW, 2: 0, 3: NO_ROW}


def test_a_gap_over_the_timeout_starts_another_session() -> None:
    at_the_limit = [("a", Entry(0.0, "d", 0)), ("a", Entry(10.0, "e", 1)), ("a", Entry(20.001, "f", 2))]
    assert next_rows(at_the_limit, TIMEOUT) == {0: 1, 1: NO_ROW, 2: NO_ROW}


def test_a_late_decision_between_two_that_were_far_apart_joins_them() -> None:
    index, links = Sessions(), dict[int, int]()
    for entry in (Entry(0.0, "d", 0), Entry(15.0, "e", 1), Entry(8.0, "f", 2)):
        links.update(index.insert("a", entry))
    assert links == {0: 2, 2: 1, 1: NO_ROW}


def test_equal_times_are_in_order_of_ids() -> None:
    assert next_rows([("a", Entry(0.0, "z", 0)), ("a", Entry(0.0, "y", 1))], TIMEOUT) == {0: NO_ROW, 1: 0}


_decisions = st.lists(
    st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 60).map(lambda half: half / 2)), max_size=25
).map(lambda drawn: [(key, Entry(at, f"id-{row}", row)) for row, (key, at) in enumerate(drawn)])


@given(_decisions, st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_links(decisions: list[tuple[str | None, Entry]], random: object) -> None:
    expected = next_rows(decisions, TIMEOUT)
    random.shuffle(decisions)  # type: ignore[attr-defined]  # hypothesis gives a Random
    index, links = Sessions(), dict[int, int]()
    for key, entry in decisions:
        links.update(index.insert(key, entry))
    assert links == expected


@given(_decisions, st.integers(0, 25))
def test_removing_the_oldest_leaves_the_links_of_the_others(
    decisions: list[tuple[str | None, Entry]], num_removed: int
) -> None:
    decisions.sort(key=lambda each: each[1])
    index, links = Sessions(), dict[int, int]()
    for key, entry in decisions:
        links.update(index.insert(key, entry))
    for _, entry in decisions[:num_removed]:
        assert index.remove(entry) == []
        del links[entry.row]
    assert links == next_rows(decisions[num_removed:], TIMEOUT)


def test_removing_from_the_middle_cuts_the_pointer_to_it() -> None:
    index = Sessions()
    entries = [Entry(0.0, "d", 0), Entry(1.0, "e", 1), Entry(2.0, "f", 2)]
    for entry in entries:
        index.insert("a", entry)
    assert index.remove(entries[1]) == [(0, NO_ROW)]
    assert index.insert("a", Entry(3.0, "g", 1)) == [(2, 1), (1, NO_ROW)]
