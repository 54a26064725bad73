"""The network in numpy, worked out by hand; that it is the one in torch is shown in tests/contract."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from policies import networks
from policies.networks import ActorNetwork, ItemVectors, SlateNetwork
from tests.unit.policies.loops import slate_loop, tiny_loop, tiny_tensors, weights_loop

NO_SLOTS = np.zeros((2, 0), np.int64)


def test_scores_are_the_product_of_the_towers_and_the_bias() -> None:
    network = SlateNetwork(tiny_loop(), tiny_tensors())
    state = network.state_vectors([], [3.0])
    items = network.item_vectors(NO_SLOTS, [[4.0], [-1.0]])
    assert state.tolist() == [2.5]
    assert items.vectors.tolist() == [[2.0, 0.0]]
    assert items.biases.tolist() == [2.0, 1.0]
    assert network.scores(state, items).tolist() == [7.0, 1.0]  # 2.5 · 2 + 2, 2.5 · 0 + 1


def test_one_network_of_both_scores_them_together() -> None:
    network = SlateNetwork(tiny_loop("mlp"), tiny_tensors())
    items = network.item_vectors(NO_SLOTS, [[4.0], [-1.0]])
    scores = network.scores(network.state_vectors([], [3.0]), items)
    assert scores == pytest.approx([0.55, 0.05], abs=1e-6)


def test_one_network_of_both_sees_the_product_of_the_summed_embeddings() -> None:
    state = "a = { kind = 'category', size = 1 }\nb = { kind = 'category', size = 1 }"
    loop = slate_loop(
        state, "id = { kind = 'category', size = 1 }", "hidden = []\nembedding_dim = 1\ninteraction = 'mlp'"
    )
    tensors = {
        "embeddings.state.a": [[0], [2]],
        "embeddings.state.b": [[0], [3]],
        "embeddings.item.id": [[4], [5]],
        **{f"embeddings.{part}_{what}": [] for part in ("state", "item") for what in ("mean", "scale")},
        "head.joint.out.weight": [[1, 10, 100, 1000]],
        "head.joint.out.bias": [0.5],
    }
    network = SlateNetwork(loop, {name: np.array(value, np.float32) for name, value in tensors.items()})
    items = network.item_vectors([[0], [1]], np.zeros((2, 0)))
    # 2 + 10 · 3 + 100 · id + 1000 · (2 + 3) · id + .5
    assert network.scores(network.state_vectors([1, 1], []), items).tolist() == [20432.5, 25532.5]


def test_layer_norm_comes_before_relu() -> None:
    loop = weights_loop(1, "x = { kind = 'number' }", "hidden = [2]\nlayer_norm = true")
    tensors = {
        "embeddings.state_mean": [0],
        "embeddings.state_scale": [1],
        "head.tower.hidden.0.weight": [[3], [1]],
        "head.tower.hidden.0.bias": [0, 0],
        "head.tower.norms.0.weight": [2, 2],
        "head.tower.norms.0.bias": [0.5, 0.5],
        "head.tower.out.weight": [[0.1, 7]],
        "head.tower.out.bias": [0],
    }
    network = ActorNetwork(loop, {name: np.array(value, np.float32) for name, value in tensors.items()})
    # x = 1: (3, 1) → normed (1, −1) → (2.5, −1.5) → relu (2.5, 0) → z = 0.25
    assert network.action([], [1.0]) == pytest.approx([math.tanh(0.25)], abs=1e-5)


def test_a_pool_is_the_mean_of_what_is_there_and_a_single_category_has_a_row_for_the_unknown() -> None:
    state = "tags = { kind = 'categories', size = 2, length = 3 }\nage = { kind = 'category', size = 1 }"
    network = "hidden = []\nembedding_dim = 1"
    tensors = {
        "embeddings.state.tags": [[100], [1], [3]],  # the row of the padding is never read
        "embeddings.state.age": [[5], [7]],
        "embeddings.state_mean": [],
        "embeddings.state_scale": [],
        "head.tower.out.weight": [[0.1, 0.01]],
        "head.tower.out.bias": [0],
    }
    actor = ActorNetwork(
        weights_loop(1, state, network), {name: np.array(value, np.float32) for name, value in tensors.items()}
    )
    for slots, z in (([1, 2, 0, 0], 0.2 + 0.05), ([2, 2, 1, 1], 0.7 / 3 + 0.07), ([0, 0, 0, 0], 0.0 + 0.05)):
        assert actor.action(slots, []) == pytest.approx([math.tanh(z)], abs=1e-6)


def test_many_items_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    network = SlateNetwork(tiny_loop(), tiny_tensors())
    numbers = np.arange(10, dtype=np.float32).reshape(10, 1)
    slots = np.zeros((10, 0), np.int64)
    whole = network.item_vectors(slots, numbers)
    monkeypatch.setattr(networks, "_ITEMS_AT_ONCE", 3)
    in_parts = network.item_vectors(slots, numbers)
    assert (in_parts.vectors == whole.vectors).all()
    assert (in_parts.biases == whole.biases).all()
    assert in_parts.vectors.flags.c_contiguous
    assert in_parts.vectors.dtype == in_parts.biases.dtype == np.float32


def test_some_of_the_items() -> None:
    items = ItemVectors(np.array([[1, 2, 3], [4, 5, 6]], np.float32), np.array([7, 8, 9], np.float32))
    some = items.take([2, 0])
    assert (len(items), len(some)) == (3, 2)
    assert some.vectors.tolist() == [[3, 1], [6, 4]]
    assert some.biases.tolist() == [9, 7]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("head.state_tower.out.bias", None, "head.state_tower.out.bias is missing"),
        ("head.item_tower.out.bias", np.zeros(3, np.float32), r"float32 \(3,\); the loop file makes it float32 \(2,\)"),
        ("embeddings.state_mean", np.zeros(1), r"float64 \(1,\); the loop file makes it float32 \(1,\)"),
        ("embeddings.item_scale", np.zeros(1, np.float32), "item_scale has entries that are not above 0"),
    ],
)
def test_tensors_that_do_not_fit_are_named(name: str, value: NDArray[Any] | None, words: str) -> None:
    tensors = tiny_tensors()
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    with pytest.raises(ValueError, match=words):
        SlateNetwork(tiny_loop(), tensors)


def test_a_table_has_a_row_for_each_category() -> None:
    loop = slate_loop("", "id = { kind = 'category', buckets = 3 }", "embedding_dim = 2")
    with pytest.raises(ValueError, match=r"embeddings.item.id is float32 \(3, 2\); .* \(4, 2\)"):
        SlateNetwork(loop, {"embeddings.item.id": np.zeros((3, 2), np.float32)})
