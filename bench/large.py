"""Large catalogues in memory, and policies whose files would bring an index of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from msgspec.json import Decoder

from bench.rankers import Workload
from policies.index import IndexTensors, build_index, fingerprints_of
from policies.networks import Floats, Tensors
from policies.policy import SlatePolicy, make_policy
from schemas.manifest import PolicyManifest
from schemas.messages import Features, RecommendRequest
from service.catalogue import ItemTable, ItemTables
from service.problems import decode

NUM_CLUSTERS = 300
_SPREAD = 0.3
_ID_EMBEDDINGS = "embeddings.item.id"
_AT_ONCE = 50_000
_OTHERS = 1_000  # bodies from here on are asked by nobody


@dataclass(frozen=True, slots=True)
class Item:
    """One that was put."""

    item_id: str
    features: Features
    deleted: bool = False


def table_of(workload: Workload) -> ItemTable:
    """Its catalogue, seen by no policy."""
    tables = ItemTables(workload.loop)
    table = tables.empty()
    for start in range(0, workload.num_items, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, workload.num_items))
        table = tables.changed(table, [Item(f"i{n}", workload.features(n)) for n in numbers], None)
    return table


def clustered(tensors: Tensors, seed: int = 0) -> dict[str, Floats]:
    """With embeddings of item ids that lie around `NUM_CLUSTERS` centres."""
    rng, embeddings = np.random.default_rng(seed), tensors[_ID_EMBEDDINGS]
    centres = rng.normal(0, embeddings.std(), (NUM_CLUSTERS, embeddings.shape[1]))
    noise = rng.normal(0, _SPREAD * embeddings.std(), embeddings.shape)
    around = centres[rng.integers(NUM_CLUSTERS, size=len(embeddings))] + noise
    return {**tensors, _ID_EMBEDDINGS: around.astype(np.float32)}


def policy_of(workload: Workload, tensors: Mapping[str, Floats]) -> SlatePolicy:
    """Without files."""
    manifest = PolicyManifest(
        version="000001",
        parent=None,
        loop_hash=workload.loop.hash,
        created_at=0.0,
        sha256={},
        metrics={},
        revision=0,
        final_at=[],
    )
    policy = make_policy(workload.loop, manifest, tensors)
    assert isinstance(policy, SlatePolicy), "of a slate workload"
    return policy


def index_of(policy: SlatePolicy, table: ItemTable, queries: Floats) -> IndexTensors:
    """As the learner makes it."""
    vectors = policy.network.item_vectors(table.slots, table.numbers)
    return build_index(table.ids, vectors, fingerprints_of(table.slots, table.numbers), queries)


def queries_of(workload: Workload, policy: SlatePolicy, num: int, first: int = _OTHERS) -> Floats:
    """State vectors [num, D] of the requests that a workload makes from number `first` on."""
    decoder = Decoder(RecommendRequest)
    requests = [decode(decoder, body) for body in workload.bodies(first + num)[first:]]
    return np.array([policy.state_vectors([policy.state_encoder.encode(each.context)])[0] for each in requests])
