"""What acts: a policy is immutable and holds all it needs to turn a context into scores or an action vector."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policies.features import Encoded, ItemEncoder, StateEncoder
from policies.index import ItemIndex
from policies.networks import ActorNetwork, Floats, ItemVectors, SlateNetwork, Tensors
from schemas.loop_file import Loop
from schemas.manifest import PolicyManifest


@dataclass(frozen=True, slots=True)
class _Policy:
    manifest: PolicyManifest
    state_encoder: StateEncoder
    item_encoder: ItemEncoder

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def created_at(self) -> float:
        """Seconds since the epoch."""
        return self.manifest.created_at


@dataclass(frozen=True, slots=True)
class SlatePolicy(_Policy):
    """Scores candidates; a slate is drawn from the scores."""

    network: SlateNetwork
    index: ItemIndex | None = None
    """Of the catalogue as it was when the policy was made, if that was large."""

    def state_vectors(self, states: Sequence[Encoded]) -> Floats:
        """The vectors [B, D] of B encoded states."""
        return self.network.state_vectors([each.slots for each in states], [each.numbers for each in states])

    def item_vectors(self, items: Sequence[Encoded]) -> ItemVectors:
        """The vectors of N encoded items."""
        layout = self.item_encoder.layout
        slots = np.array([item.slots for item in items], np.intp).reshape(len(items), layout.num_slots)
        numbers = np.array([item.numbers for item in items], np.float32).reshape(len(items), layout.num_numbers)
        return self.network.item_vectors(slots, numbers)

    def scores(self, state_vectors: Floats, items: ItemVectors) -> Floats:
        """The scores [..., N] of items in the states of vectors [..., D]."""
        return self.network.scores(state_vectors, items)


@dataclass(frozen=True, slots=True)
class WeightsPolicy(_Policy):
    """Gives a weight vector, by whose product with their numbers items rank."""

    network: ActorNetwork

    def action(self, state: Encoded) -> Floats:
        """The action [A] in [−1, 1], before exploration, of an encoded state."""
        return self.network.action(state.slots, state.numbers)


def make_policy(loop: Loop, manifest: PolicyManifest, tensors: Tensors) -> SlatePolicy | WeightsPolicy:
    """The policy of these tensors; raises ValueError where they are not what the loop file makes of them."""
    parts = (manifest, StateEncoder(loop), ItemEncoder(loop))
    if loop.action.kind == "slate":
        return SlatePolicy(*parts, SlateNetwork(loop, tensors))
    return WeightsPolicy(*parts, ActorNetwork(loop, tensors))
