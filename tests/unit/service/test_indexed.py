"""A catalogue with an index answers as one without: by the same scores, over what is there now."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from policies.files import PolicyFileError, read_policy
from policies.index import ItemIndex
from policies.networks import ItemVectors
from policies.policy import SlatePolicy
from policies.shortlists import Shortlist, shortlist_propensities
from schemas.loop_file import Loop
from schemas.manifest import INDEX_FILE
from schemas.messages import Decision, Features, RecommendRequest
from schemas.sections import SoftmaxExploration
from service.catalogue import ItemTable, ItemTables
from service.indexed import IndexedVectors
from service.ranking import Ranker, Serving
from tests.unit.service import made

NUM = 400
GREEDY = made.slate_loop("kind = 'greedy'\nepsilon = 0.0")


@dataclass
class Item:
    item_id: str
    features: Features = field(default_factory=dict)
    deleted: bool = False


def items(num: int = NUM) -> list[Item]:
    return [Item(f"i{i}", {"price": float(i % 11)}) for i in range(num)]


def plain(loop: Loop) -> SlatePolicy:
    policy = made.policy(loop)
    assert isinstance(policy, SlatePolicy)
    return policy


def indexed(loop: Loop = GREEDY, put: Sequence[Item] | None = None) -> SlatePolicy:
    return replace(plain(loop), index=ItemIndex(made.index_of(loop, items() if put is None else put)))


def tables_of(policy: SlatePolicy, now: Sequence[Item], loop: Loop = GREEDY) -> ItemTable:
    tables = ItemTables(loop)
    return tables.seen_by(tables.changed(tables.empty(), now, None), policy)


def ask(policy: SlatePolicy, table: ItemTable, request: RecommendRequest, loop: Loop = GREEDY) -> Decision:
    serving = Serving(policy, table, "")
    decision = Ranker(loop, lambda: serving, lambda: 1_010.0, lambda: "made").rank(request).decision
    assert decision is not None
    return decision


def vectors_of(table: ItemTable) -> IndexedVectors:
    assert isinstance(table.vectors, IndexedVectors)
    return table.vectors


def assert_answers_are_alike(table: ItemTable, policy: SlatePolicy, now: Sequence[Item]) -> None:
    """Greedily, of the whole catalogue and of candidates."""
    without = tables_of(plain(GREEDY), now)
    for request in (
        RecommendRequest(k=20),
        RecommendRequest(k=20, exclude=[f"i{i}" for i in range(0, NUM, 3)]),
        RecommendRequest(k=20, candidates=[*(f"i{i}" for i in range(0, NUM, 7)), "new", "strange"]),
    ):
        found, expected = ask(policy, table, request), ask(plain(GREEDY), without, request)
        assert [item.score for item in found.items] == pytest.approx([item.score for item in expected.items], abs=1e-5)
        assert {item.item_id for item in found.items[:-1]} <= {item.item_id for item in now} | {"strange"}
        assert [item.features for item in found.items] == [
            next((each.features for each in now if each.item_id == item.item_id), {}) for item in found.items
        ]


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that looks at all, so that answers can be compared."""
    monkeypatch.setattr("policies.index._MAX_SHARE", 0.0)


def test_of_the_items_that_it_was_made_of() -> None:
    policy = indexed()
    table = tables_of(policy, items()[::-1])
    assert len(vectors_of(table).fresh) == 0
    assert_answers_are_alike(table, policy, items())


def test_items_put_since_join_and_deleted_ones_are_gone() -> None:
    policy = indexed()
    now = [*items()[5:], Item("new", {"price": 3.0}), Item("i0", {"price": 9.9})]
    table = tables_of(policy, now)
    assert len(vectors_of(table).fresh) == 2
    assert_answers_are_alike(table, policy, now)


def test_changes_while_it_serves_give_the_table_that_is_made_at_once() -> None:
    policy, tables = indexed(), ItemTables(GREEDY)
    table, left = tables_of(policy, items()), {item.item_id: item for item in items()}
    rng = np.random.default_rng(0)
    for _ in range(10):
        drawn = rng.integers((NUM + 20, 11, 2), size=(30, 3))
        changes = {f"i{i}": Item(f"i{i}", {"price": float(price)}, bool(d)) for i, price, d in drawn}
        table = tables.changed(table, [*changes.values()], policy)
        left = {item_id: item for item_id, item in (left | changes).items() if not item.deleted}
        vectors, direct = vectors_of(table), tables_of(plain(GREEDY), [*left.values()])
        assert isinstance(direct.vectors, ItemVectors)
        found = vectors.take([table.rows[item_id] for item_id in left])
        np.testing.assert_allclose(found.vectors, direct.vectors.vectors, atol=1e-6)
        np.testing.assert_allclose(found.biases, direct.vectors.biases, atol=1e-6)
    assert_answers_are_alike(table, policy, [*left.values()])


def test_everything_may_be_excluded_but_one_item_and_deleted_but_one() -> None:
    policy = indexed()
    table = tables_of(policy, items())
    excluded = RecommendRequest(k=3, exclude=[f"i{i}" for i in range(NUM - 1)])
    assert [item.item_id for item in ask(policy, table, excluded).items] == [f"i{NUM - 1}"]
    table = ItemTables(GREEDY).changed(table, [Item(f"i{i}", deleted=True) for i in range(1, NUM)], policy)
    assert [item.item_id for item in ask(policy, table, RecommendRequest()).items] == ["i0"]


def test_a_decision_logs_its_shortlist_and_propensities_follow_from_it() -> None:
    loop = made.slate_loop("kind = 'softmax'\ntemperature = 0.5\nepsilon = 0.5", size=8)
    policy = indexed(loop)
    table = tables_of(policy, items(), loop)
    exploration = loop.exploration
    assert isinstance(exploration, SoftmaxExploration)
    num_outside = 0
    for number in range(50):
        request = RecommendRequest(decision_id=f"d{number}", context={"page": 3}, exclude=["i1", "i2", "unknown"])
        decision = ask(policy, table, request, loop)
        listed = decision.shortlist or []
        assert len(listed) == len(set(listed)) == 256
        shown = [item.item_id for item in decision.items]
        assert not {"i1", "i2"} & {*shown, *listed}
        num_outside += len({*shown} - {*listed})
        state = policy.state_vectors([policy.state_encoder.encode({"page": 3})])[0]
        rows = np.array([table.rows[item_id] for item_id in listed], np.intp)
        scored = Shortlist(rows, policy.scores(state, vectors_of(table).take(rows)))
        drawn = [table.rows[item_id] for item_id in shown]
        expected = shortlist_propensities(scored, NUM - 2, drawn, exploration)
        assert [item.propensity for item in decision.items] == pytest.approx(expected, rel=1e-4)
        scores = policy.scores(state, vectors_of(table).take(drawn))
        assert [item.score for item in decision.items] == pytest.approx(scores.tolist(), abs=1e-5)
    assert num_outside > 50  # every item stays reachable


def test_of_candidates_and_by_chance_there_is_no_shortlist() -> None:
    loop = made.slate_loop("kind = 'greedy'\ncontrol = 1.0")
    policy = indexed()
    table = tables_of(policy, items())
    assert ask(policy, table, RecommendRequest(candidates=["i1", "i2"])).shortlist is None
    by_chance = ask(policy, table, RecommendRequest(k=3, exclude=["i1", "i5"]), loop)
    assert (by_chance.mode, by_chance.shortlist) == ("control", None)
    assert [item.propensity for item in by_chance.items] == [1 / (NUM - 2 - position) for position in range(3)]


def test_scores_that_are_not_finite_fall_back() -> None:
    policy = indexed()
    assert policy.index is not None
    policy.index.biases[:] = math.nan
    decision = ask(policy, tables_of(policy, items()), RecommendRequest(k=2))
    assert (decision.mode, decision.shortlist) == ("fallback", None)


def test_the_index_of_a_policys_files_is_read_with_it_and_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    made.write(tmp_path, GREEDY, made.random_tensors(GREEDY), version="000001", index=made.index_of(GREEDY, items()))
    policy = read_policy(tmp_path / "000001", GREEDY)
    assert isinstance(policy, SlatePolicy)
    assert policy.index is not None
    assert_answers_are_alike(tables_of(policy, items()), policy, items())
    path = tmp_path / "000001" / INDEX_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # the other is still mapped
    path.write_bytes(content)
    with pytest.raises(PolicyFileError, match="altered"):
        read_policy(tmp_path / "000001", GREEDY)
    path.unlink()
    with pytest.raises(PolicyFileError, match="cannot be read"):
        read_policy(tmp_path / "000001", GREEDY)
