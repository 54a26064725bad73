"""The network that learns (torch) and the one that acts (numpy) are one, for every architecture."""

from functools import partial
from typing import TypeAlias

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from policies.features import ITEM_ID_TABLE, Layout, network_layouts
from policies.networks import ActorNetwork, SlateNetwork
from schemas.loop_file import Loop, parse_loop
from trainer.networks import ActorHead, AttentionHead, Embeddings, JointHead, SlateHead, TowersHead, export, slate_head

STATE = """
    page = { kind = "number", max = 100 }
    score = { kind = "number" }
    age = { kind = "category", values = ["young", "old"] }
    tags = { kind = "categories", size = 6, length = 3 }
    history = { kind = "items", length = 5 }
    wishes = { kind = "items", length = 2 }
    taste = { kind = "vector", dim = 4 }
    "dotted.name" = { kind = "category", size = 3 }
"""
ITEM = """
    price = { kind = "number" }
    id = { kind = "category", buckets = 120 }
    genres = { kind = "categories", buckets = 7, length = 2 }
    look = { kind = "vector", dim = 3 }
"""
ONLY_NUMBERS = ('x = { kind = "number" }', 'p = { kind = "number" }')
ONLY_SINGLE = ('a = { kind = "category", size = 4 }', 'id = { kind = "category", buckets = 9 }')
ONE_HISTORY = ('history = { kind = "items", length = 4 }', 'id = { kind = "category", buckets = 9 }')
HIDDEN = ("[]", "[16]", "[12, 8]")
NUM_STATES, NUM_ITEMS = 20, 30


def make_loop(action: str, network: str, state: str = STATE, item: str = ITEM) -> Loop:
    slate_agent = "dqn-att" if "attention" in network else "dqn"
    agent, exploration = (slate_agent, "softmax") if "slate" in action else ("ddpg", "gaussian")
    return parse_loop(f"""
        name = "test"
        [state]
        {state}
        [item]
        {item}
        [action]
        {action}
        [network]
        {network}
        [reward]
        click = 1
        wait = "1s"
        [learner]
        agent = "{agent}"
        [exploration]
        kind = "{exploration}"
    """)


def encoded(
    layout: Layout, shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Random slots [..., S], of which a third are 0, and numbers [..., G]."""
    slots = np.zeros((*shape, layout.num_slots), np.int64)
    for table in layout.tables:
        of_table = slots[..., table.slots]
        of_table[:] = rng.integers(table.cardinality, size=of_table.shape) * (rng.random(of_table.shape) < 2 / 3)
    return slots, rng.normal(5, 3, (*shape, layout.num_numbers)).astype(np.float32)


def embeddings_of(loop: Loop) -> Embeddings:
    """With rows of size 1, and scales that are not the ones it starts with."""
    embeddings = Embeddings(loop)
    for table in embeddings.tables:
        torch.nn.init.normal_(table)
    for part in ("state", "item"):
        getattr(embeddings, f"{part}_mean").normal_(5, 1)
        getattr(embeddings, f"{part}_scale").uniform_(2, 4)
    return embeddings


def randomize(head: torch.nn.Module) -> None:
    """Moves what starts at 0 or 1 (biases of items, the gains of LayerNorm) as well."""
    for parameter in head.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)


Encoded: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float32]]


@torch.no_grad()
def torch_scores(embeddings: Embeddings, head: SlateHead, states: Encoded, items: Encoded) -> NDArray[np.float32]:
    """Of the network that learns, [B, N], for encoded states [B, …] and items [B, N, …]."""
    state_slots, state_numbers = map(torch.from_numpy, states)
    history = embeddings.history(state_slots)
    features = embeddings.state(state_slots, state_numbers), embeddings.items(*map(torch.from_numpy, items))
    scores: NDArray[np.float32] = head(*features, None, history).numpy()
    return scores


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("layer_norm", ["false", "true"])
@pytest.mark.parametrize("interaction", ["dot", "mlp", "attention"])
@pytest.mark.parametrize(
    "features",
    [(STATE, ITEM), ONLY_NUMBERS, ONLY_SINGLE, ONE_HISTORY],
    ids=["all", "numbers", "single", "history"],
)
def test_scores_agree(interaction: str, layer_norm: str, hidden: str, features: tuple[str, str]) -> None:
    shape = f'interaction = "{interaction}"\nlayer_norm = {layer_norm}\nhidden = {hidden}\nvector_dim = 6'
    loop = make_loop('kind = "slate"\nsize = 3', shape, *features)
    torch.manual_seed(1)
    embeddings = embeddings_of(loop)
    head = slate_head(loop, embeddings.state_dim, embeddings.item_dim)
    randomize(head)
    state_layout, item_layout = network_layouts(loop)
    rng = np.random.default_rng(1)
    states, items = encoded(state_layout, (NUM_STATES,), rng), encoded(item_layout, (NUM_STATES, NUM_ITEMS), rng)
    scores = torch_scores(embeddings, head, states, items)

    network = SlateNetwork(loop, export(embeddings, head))
    for i in range(NUM_STATES):
        replica = network.scores(
            network.state_vectors(states[0][i], states[1][i]), network.item_vectors(items[0][i], items[1][i])
        )
        assert replica.dtype == np.float32
        np.testing.assert_allclose(replica, scores[i], rtol=1e-5, atol=1e-5)
    assert scores.std() > 0.05  # they agree about something


def attention() -> tuple[Loop, Embeddings, AttentionHead]:
    loop = make_loop('kind = "slate"\nsize = 3', 'interaction = "attention"')
    torch.manual_seed(3)
    embeddings = embeddings_of(loop)
    head = AttentionHead(loop, embeddings.state_dim, embeddings.item_dim)
    randomize(head)
    return loop, embeddings, head


@torch.no_grad()
def test_attention_scores_follow_their_items_and_do_not_see_padding() -> None:
    _, embeddings, network = attention()
    states, items = torch.randn(2, embeddings.state_dim), torch.randn(2, 6, embeddings.item_dim)
    history = embeddings.history(torch.zeros(2, embeddings.state_layout.num_slots, dtype=torch.int64))
    head = partial(network, history=history)
    scores = head(states, items)
    order = torch.tensor([3, 1, 0, 5, 4, 2])
    torch.testing.assert_close(head(states, items[:, order]), scores[:, order])
    padded = torch.cat([items, 9 * torch.randn(2, 3, embeddings.item_dim)], dim=1)
    mask = torch.arange(9).expand(2, 9) < 6
    torch.testing.assert_close(head(states, padded, mask)[:, :6], scores)
    assert (head(states, padded)[:, :6] - scores).abs().max() > 1e-3  # items do see each other
    assert torch.isfinite(head(states, items, torch.zeros(2, 6, dtype=torch.bool))).all()


def test_attention_with_one_candidate_agrees() -> None:
    loop, embeddings, head = attention()
    layouts, rng = network_layouts(loop), np.random.default_rng(3)
    states, items = encoded(layouts[0], (1,), rng), encoded(layouts[1], (1, 1), rng)
    scores = torch_scores(embeddings, head, states, items)
    network = SlateNetwork(loop, export(embeddings, head))
    state = network.state_vectors(states[0][0], states[1][0])
    replica = network.scores(state, network.item_vectors(items[0][0], items[1][0]))
    np.testing.assert_allclose(replica, scores[0], rtol=1e-5, atol=1e-5)
    assert len(network.scores(state, network.item_vectors(items[0][0][:0], items[1][0][:0]))) == 0


HISTORIES = {
    "full": [[5, 9, 2, 5, 7], [3, 4]],
    "in part": [[0, 9, 2, 0, 0], [0, 4]],
    "of one item": [[0, 0, 0, 8, 0], [0, 0]],
    "one of two": [[0, 0, 0, 0, 0], [4, 6]],
    "empty": [[0, 0, 0, 0, 0], [0, 0]],
}


def with_history(layout: Layout, num: int, *history: list[int]) -> Encoded:
    """One state `num` times, of which nothing is known but its features of kind `items`."""
    slots = np.zeros((num, layout.num_slots), np.int64)
    for table, of_table in zip([t for t in layout.tables if t.name == ITEM_ID_TABLE], history, strict=True):
        slots[:, table.slots] = of_table
    return slots, np.full((num, layout.num_numbers), 5.0, np.float32)


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_attention_to_the_history_agrees(history: list[list[int]]) -> None:
    loop, embeddings, head = attention()
    layouts = network_layouts(loop)
    states, items = with_history(layouts[0], 2, *history), encoded(layouts[1], (2, 7), np.random.default_rng(4))
    scores = torch_scores(embeddings, head, states, items)
    assert np.isfinite(scores).all()
    network = SlateNetwork(loop, export(embeddings, head))
    for vector, slots, numbers, expected in zip(network.state_vectors(*states), *items, scores, strict=True):
        replica = network.scores(vector, network.item_vectors(slots, numbers))
        assert replica.dtype == np.float32
        np.testing.assert_allclose(replica, expected, rtol=1e-5, atol=1e-5)


def test_what_is_found_depends_on_the_item_and_not_on_order_or_padding() -> None:
    loop, embeddings, head = attention()
    layouts = network_layouts(loop)
    slots, numbers = encoded(layouts[1], (1, 7), np.random.default_rng(4))
    slots[..., 0] = np.arange(1, 8)  # their ids
    find = head.interest
    assert find is not None

    @torch.no_grad()
    def found(*history: list[int]) -> Tensor:
        """[7, 2, d]"""
        states = torch.from_numpy(with_history(layouts[0], 1, *history)[0])
        items = embeddings.items(torch.from_numpy(slots), torch.from_numpy(numbers))
        seen = embeddings.history(states)
        assert seen is not None
        z: Tensor = find(items, seen)[0].unflatten(-1, (2, -1))
        return z

    of_items, of_wishes = found([0, 9, 2, 0, 8], [0, 4]).unbind(dim=1)
    assert of_items.std(dim=0).min() > 0.01
    torch.testing.assert_close(of_wishes, embeddings.rows_of(ITEM_ID_TABLE, torch.full((7,), 4)).detach())
    torch.testing.assert_close(found([8, 0, 0, 2, 9], [4, 0])[:, 0], of_items)
    embeddings.tables[embeddings.table_names.index(ITEM_ID_TABLE)].data[0] += 9.0  # the row of padding
    torch.testing.assert_close(found([0, 9, 2, 0, 8], [0, 4])[:, 0], of_items)
    assert not found([0, 0, 0, 0, 0], [0, 0]).any()


def test_the_joint_network_of_one_item_attends_only_when_asked_to() -> None:
    loop, embeddings, _ = attention()
    dims = embeddings.state_dim, embeddings.item_dim
    assert JointHead(loop, *dims).interest is None
    assert JointHead(loop, *dims, attends=True).interest is not None
    assert embeddings.history(torch.zeros(1, embeddings.state_layout.num_slots, dtype=torch.int64)) is not None
    mlp = Embeddings(make_loop('kind = "slate"\nsize = 3', 'interaction = "mlp"'))
    assert mlp.history(torch.zeros(1, mlp.state_layout.num_slots, dtype=torch.int64)) is None
    without = make_loop('kind = "slate"\nsize = 3', 'interaction = "attention"', *ONLY_SINGLE)
    assert Embeddings(without).history(torch.zeros(1, 1, dtype=torch.int64)) is None
    assert AttentionHead(without, 8, 8).interest is None


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("layer_norm", ["false", "true"])
def test_actions_agree(layer_norm: str, hidden: str) -> None:
    loop = make_loop('kind = "weights"\ndim = 5', f"layer_norm = {layer_norm}\nhidden = {hidden}")
    torch.manual_seed(2)
    embeddings = embeddings_of(loop)
    head = ActorHead(loop, embeddings.state_dim)
    randomize(head)
    slots, numbers = encoded(network_layouts(loop)[0], (NUM_STATES,), np.random.default_rng(2))
    with torch.no_grad():
        actions = torch.tanh(head(embeddings.state(torch.from_numpy(slots), torch.from_numpy(numbers))))

    network = ActorNetwork(loop, export(embeddings, head))
    replica = np.array([network.action(*state) for state in zip(slots, numbers, strict=True)])
    np.testing.assert_allclose(replica, actions.numpy(), rtol=1e-5, atol=1e-5)
    assert actions.std() > 0.1


def test_the_history_and_the_items_share_their_table() -> None:
    loop = make_loop('kind = "slate"\nsize = 3', "")
    embeddings = Embeddings(loop)
    assert embeddings.table_names == (
        "state.age",
        "state.tags",
        "item.id",
        "state.dotted.name",
        "item.genres",
    )
    assert embeddings.tables[2].shape == (121, 8)


def test_the_penalty_is_the_sum_of_squares_of_the_large_tables() -> None:
    embeddings = Embeddings(make_loop('kind = "slate"\nsize = 3', "embedding_dim = 1"))
    for table in embeddings.tables:
        torch.nn.init.constant_(table, 2.0)
    assert embeddings.id_penalty().item() == 4.0 * 121  # that of item ids; the others have fewer than 100 rows
    small = Embeddings(make_loop('kind = "slate"\nsize = 3', "", *ONLY_SINGLE))
    assert small.id_penalty().item() == 0.0


def test_items_start_with_no_bias() -> None:
    loop = make_loop('kind = "slate"\nsize = 3', "")
    head = TowersHead(loop, 3, 2)
    assert (head.item_tower(torch.randn(50, 2))[:, -1] == 0).all()


def test_what_is_exported_does_not_change_with_what_learns_on() -> None:
    loop = make_loop('kind = "slate"\nsize = 3', "")
    embeddings = Embeddings(loop)
    head = slate_head(loop, embeddings.state_dim, embeddings.item_dim)
    tensors = export(embeddings, head)
    before = {name: tensor.copy() for name, tensor in tensors.items()}
    for parameter in (*embeddings.parameters(), *head.parameters(), *embeddings.buffers()):
        parameter.data += 1
    assert all((tensors[name] == before[name]).all() for name in before)
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())
