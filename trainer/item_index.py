"""The index that a policy's files bring for a large catalogue (DESIGN §8)."""

import numpy as np

from policies.index import IndexTensors, build_index, fingerprints_of
from policies.networks import SlateNetwork
from trainer.replay.replay import Replay

NUM_QUERIES = 256
"""Newest states by which rankers measure what a search finds."""


def item_index(network: SlateNetwork, replay: Replay, threshold: int) -> IndexTensors | None:
    """Of the catalogue as the learner knows it; None where it has fewer than `threshold` items, or nobody asked yet."""
    items, probe = replay.catalogue(), replay.probe(NUM_QUERIES)
    if len(items.ids) < threshold or not len(probe.state_slots):
        return None
    states = zip(probe.state_slots, probe.state_numbers, strict=True)
    queries = np.array([network.state_vectors(*state) for state in states], np.float32)
    vectors = network.item_vectors(items.slots, items.numbers)
    return build_index(items.ids, vectors, fingerprints_of(items.slots, items.numbers), queries)
