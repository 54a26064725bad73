"""The index finds what a search through all items finds, where items lie in clusters; elsewhere it says so."""

from pathlib import Path

import numpy as np
import pytest

from policies.index import CHUNK, MIN_RECALL, IndexTensors, ItemIndex, build_index, fingerprints_of
from policies.index_files import MappedFile, index_tensors, write_index
from policies.networks import Floats, ItemVectors


def items(num: int, dim: int = 8, num_clusters: int = 40, spread: float = 0.2) -> ItemVectors:
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 1, (num_clusters, dim))
    vectors = centres[rng.integers(num_clusters, size=num)] + rng.normal(0, spread, (num, dim))
    return ItemVectors(np.ascontiguousarray(vectors.T, np.float32), rng.normal(0, 0.3, num).astype(np.float32))


def queries(num: int = 40, dim: int = 8) -> Floats:
    return np.random.default_rng(1).normal(0, 1, (num, dim)).astype(np.float32)


def built(made: ItemVectors) -> IndexTensors:
    ids = [f"ï{i}" for i in range(len(made))]
    return build_index(ids, made, np.arange(len(made), dtype=np.uint64), queries(200))


def ids_of(index: ItemIndex) -> list[str]:
    return [item_id for chunk in index.ids() for item_id in chunk]


def test_every_item_lies_somewhere_with_its_own_vector_bias_and_fingerprint() -> None:
    made = items(2 * CHUNK + 7)
    index = ItemIndex(built(made))
    numbers = [int(item_id[1:]) for item_id in ids_of(index)]
    assert sorted(numbers) == list(range(len(made)))
    np.testing.assert_array_equal(index.vectors, made.vectors.T[numbers])
    np.testing.assert_array_equal(index.biases, made.biases[numbers])
    np.testing.assert_array_equal(index.fingerprints, numbers)


def test_of_items_in_clusters_it_finds_the_best_in_few_lists() -> None:
    index, fresh = ItemIndex(built(items(20_000))), queries(300)[200:]
    assert index.recall >= MIN_RECALL
    assert 0 < index.num_probes < 50
    found = 0
    for query in fresh:
        scores = index.vectors @ query + index.biases
        places, of_places = index.top(query, index.biases, 100)
        np.testing.assert_allclose(of_places, scores[places], rtol=1e-5, atol=1e-5)
        assert len(set(places.tolist())) == 100
        found += len(set(scores.argsort()[-10:].tolist()) & set(places.tolist()))
    assert found / 10 / len(fresh) >= MIN_RECALL - 0.005


def test_without_clusters_all_items_are_scored_and_the_best_are_exact() -> None:
    rng = np.random.default_rng(0)
    vectors, biases = rng.normal(0, 1, (32, 3_000)).astype(np.float32), np.zeros(3_000, np.float32)
    index = ItemIndex(
        build_index(
            [f"i{i}" for i in range(3_000)], ItemVectors(vectors, biases), np.zeros(3_000, np.uint64), queries(40, 32)
        )
    )
    assert (index.num_probes, index.recall) == (0, 1.0)
    query = queries(1, 32)[0]
    places, _ = index.top(query, index.biases, 50)
    assert set(places.tolist()) == set((index.vectors @ query).argsort()[-50:].tolist())


def test_all_in_blocks_is_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policies.index._BLOCK", 64)
    monkeypatch.setattr("policies.index._MAX_SHARE", 0.0)
    index = ItemIndex(built(items(1_000)))
    for query in queries(5):
        scores = index.vectors @ query + index.biases
        places, _ = index.top(query, index.biases, 20)
        assert set(places.tolist()) == set(scores.argsort()[-20:].tolist())
        assert len(index.top(query, index.biases, 5_000)[0]) == 1_000


def test_items_of_a_bias_that_bars_them_come_last() -> None:
    index = ItemIndex(built(items(1_000)))
    biases = index.biases.copy()
    biases[::2] = -np.inf
    places, scores = index.top(queries()[0], biases, 20)
    assert all(places % 2 == 1)
    assert np.isfinite(scores).all()


def test_items_that_are_all_alike_are_indexed_too() -> None:
    alike = ItemVectors(np.ones((8, 500), np.float32), np.zeros(500, np.float32))
    index = ItemIndex(built(alike))
    assert len(index.top(queries()[0], index.biases, 10)[0]) == 10


def test_fingerprints_tell_items_apart_by_slots_and_by_numbers() -> None:
    slots = np.array([[1, 2], [2, 1], [1, 2], [1, 2]])
    numbers = np.array([[0.5], [0.5], [0.25], [0.5]], np.float32)
    found = fingerprints_of(slots, numbers).tolist()
    assert found[0] == found[3]
    assert len(set(found)) == 3
    assert fingerprints_of(slots.astype(np.int32), numbers).tolist() == found


def test_a_file_gives_the_index_that_was_written_also_after_its_memory_was_given_back(tmp_path: Path) -> None:
    tensors = built(items(3_000))
    digest = write_index(tmp_path / "index", tensors)
    mapped = MappedFile(tmp_path / "index")
    assert mapped.digest == digest
    read, index = ItemIndex(index_tensors(mapped.tensors()), mapped), ItemIndex(tensors)
    for _ in range(2):
        assert ids_of(read) == ids_of(index)
        np.testing.assert_array_equal(read.vectors, index.vectors)
        assert (read.num_probes, read.recall) == (index.num_probes, index.recall)
        read.release()


@pytest.mark.parametrize("broken", [b"\x00" * 64, b"\x08" + b"\x00" * 7 + b'{"a": 1}', b"\x02" + b"\x00" * 7 + b"{}"])
def test_what_is_no_index_is_refused(tmp_path: Path, broken: bytes) -> None:
    (tmp_path / "index").write_bytes(broken)
    with pytest.raises(ValueError, match=r"index|safetensors|Expecting"):
        index_tensors(MappedFile(tmp_path / "index").tensors())
