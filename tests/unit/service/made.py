"""Loops and policies for these tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from policies.features import Layout, network_layouts
from policies.files import Golden, golden_outputs, write_policy
from policies.index import IndexTensors, build_index, fingerprints_of
from policies.policy import SlatePolicy, WeightsPolicy, make_policy
from schemas.loop_file import Loop, parse_loop
from schemas.manifest import PolicyManifest
from schemas.messages import Features

Tensors = dict[str, NDArray[np.float32]]


def slate_loop(exploration: str = "kind = 'softmax'", network: str = "", size: int = 3) -> Loop:
    agent = "dqn-att" if "attention" in network else "dqn"
    return parse_loop(f"""
        name = "store"
        [state]
        page = {{ kind = "number", max = 100 }}
        age = {{ kind = "category", values = ["young", "old"] }}
        [item]
        id = {{ kind = "category", buckets = 100 }}
        price = {{ kind = "number", max = 10 }}
        [network]
        {network}
        [action]
        kind = "slate"
        size = {size}
        [reward]
        click = 1.0
        buy = 5.0
        wait = "10s"
        [session]
        ends = ["leave"]
        [learner]
        agent = "{agent}"
        [exploration]
        {exploration}
    """)


def weights_loop(item: str = "taste = { kind = 'vector', dim = 2 }") -> Loop:
    return parse_loop(f"""
        name = "weights"
        [state]
        page = {{ kind = "number", max = 100 }}
        [item]
        {item}
        [action]
        kind = "weights"
        dim = 2
        [reward]
        click = 1.0
        wait = "10s"
        [learner]
        agent = "ddpg"
        [exploration]
        kind = "gaussian"
    """)


def manifest(
    loop: Loop, version: str = "000001", created_at: float = 1_000.0, final_at: list[float] | None = None
) -> PolicyManifest:
    return PolicyManifest(
        version=version,
        parent=None,
        loop_hash=loop.hash,
        created_at=created_at,
        sha256={},
        metrics={},
        revision=0,
        final_at=final_at or [],
    )


def random_tensors(loop: Loop, seed: int = 0) -> Tensors:
    """Of the shapes that the loop file makes; every number drawn."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in _shapes(loop).items()} | {
        name: np.ones(shape, np.float32) for name, shape in _shapes(loop).items() if name.endswith("_scale")
    }


def constant_tensors(loop: Loop, score: float) -> Tensors:
    """Of a policy that gives every item this score."""
    tensors = {name: np.zeros(shape, np.float32) for name, shape in _shapes(loop).items()}
    tensors["embeddings.state_scale"][:] = tensors["embeddings.item_scale"][:] = 1
    tensors["head.item_tower.out.bias"][-1] = score
    return tensors


def policy(loop: Loop, tensors: Tensors | None = None, **of_manifest: object) -> SlatePolicy | WeightsPolicy:
    return make_policy(loop, manifest(loop, **of_manifest), tensors or random_tensors(loop))  # type: ignore[arg-type]  # passed on


class Item(Protocol):
    """One that was put."""

    @property
    def item_id(self) -> str: ...
    @property
    def features(self) -> Features: ...


def index_of(loop: Loop, put: Sequence[Item], tensors: Tensors | None = None) -> IndexTensors:
    """As the learner makes it of these items."""
    by = policy(loop, tensors)
    assert isinstance(by, SlatePolicy)
    encoded = [by.item_encoder.encode(item.item_id, item.features) for item in put]
    slots = np.array([each.slots for each in encoded], np.int32)
    numbers = np.array([each.numbers for each in encoded], np.float32)
    state = by.state_vectors([by.state_encoder.encode({"page": 3})])[0]
    vectors = by.network.item_vectors(slots, numbers)
    return build_index([item.item_id for item in put], vectors, fingerprints_of(slots, numbers), state[None])


def write(
    folder: Path,
    loop: Loop,
    tensors: Tensors,
    *,
    version: str,
    created_at: float = 1_000.0,
    final_at: list[float] | None = None,
    index: IndexTensors | None = None,
) -> PolicyManifest:
    """A policy folder as the learner writes it."""
    network = make_policy(loop, manifest(loop), tensors).network
    state, item = network_layouts(loop)
    inputs = Golden(
        np.zeros((1, state.num_slots), np.int64),
        np.zeros((1, state.num_numbers), np.float32),
        np.zeros((1, 1, item.num_slots), np.int64),
        np.zeros((1, 1, item.num_numbers), np.float32),
        np.zeros((1, 1), np.float32),
    )
    golden = Golden(
        inputs.state_slots,
        inputs.state_numbers,
        inputs.item_slots,
        inputs.item_numbers,
        golden_outputs(network, inputs),
    )
    return write_policy(
        folder / version,
        tensors,
        golden,
        version=version,
        parent=None,
        loop_hash=loop.hash,
        created_at=created_at,
        metrics={},
        revision=0,
        final_at=final_at or [],
        index=index,
    )


def _shapes(loop: Loop) -> dict[str, tuple[int, ...]]:
    state, item = network_layouts(loop)
    d, hidden = loop.network.embedding_dim, loop.network.hidden
    shapes: dict[str, tuple[int, ...]] = {
        f"embeddings.{table.name}": (table.cardinality, d) for layout in (state, item) for table in layout.tables
    }
    for part, layout in (("state", state), ("item", item)):
        shapes |= {f"embeddings.{part}_{what}": (layout.num_numbers,) for what in ("mean", "scale")}
    if loop.action.kind == "weights":
        return shapes | _mlp("head.tower", (_num_features(state, d), *hidden, loop.action.dim))
    state_dim, item_dim, out = _num_features(state, d), _num_features(item, d), loop.network.vector_dim
    if loop.network.interaction == "mlp":
        return shapes | _mlp("head.joint", (state_dim + item_dim + d, *hidden, 1))
    if loop.network.interaction == "attention":
        joint = _mlp("head.joint", (state_dim + item_dim + d, *hidden, out))
        layers = {"attention": (3 * out, out), "out": (1, out)}
        shapes |= {f"head.{name}.weight": shape for name, shape in layers.items()}
        return shapes | joint | {f"head.{name}.bias": shape[:1] for name, shape in layers.items()}
    towers = _mlp("head.state_tower", (state_dim, *hidden, out)) | _mlp("head.item_tower", (item_dim, *hidden, out + 1))
    return shapes | towers


def _num_features(layout: Layout, d: int) -> int:
    return len(layout.tables) * d + layout.num_numbers


def _mlp(name: str, dims: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(len(dims) - 1):
        linear = f"{name}.hidden.{i}" if i < len(dims) - 2 else f"{name}.out"
        shapes |= {f"{linear}.weight": (dims[i + 1], dims[i]), f"{linear}.bias": (dims[i + 1],)}
    return shapes
