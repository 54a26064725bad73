"""What candidates find in each other and in the state's history; `trainer.attention` is the same in torch."""

import math
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from policies.embeddings import Floats
from policies.features import ITEM_ID_TABLE, network_layouts
from schemas.loop_file import Loop

_NEVER = np.float32(-1e9)  # as a logit: its softmax is 0 beside any other


def attend(
    queries: Floats,
    keys: Floats,
    values: Floats,
    added: Floats | None = None,
) -> Floats:
    """softmax(q · k / √D + added) v of queries [N, D], keys [L, D] and values [L, V]; what is added is [L]."""
    weights: Floats = queries @ keys.T / np.float32(math.sqrt(queries.shape[1]))  # [N, L]
    if added is not None:
        weights += added
    weights -= weights.max(axis=1, keepdims=True, initial=-np.inf)
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights @ values


class HistoryAttention:
    """z_f = Σₜ softmaxₜ(q_f · hₜ / √d) hₜ over the items hₜ of each feature f of kind `items`; q_f is linear in the
    candidate's row of the item table. Zeros where the feature is empty.
    """

    def __init__(self, loop: Loop, weight: Floats, bias: Floats) -> None:
        """Of the query: `weight` [d, F · d] and `bias` [F · d]."""
        state, item = network_layouts(loop)
        self._d = loop.network.embedding_dim
        histories = [t.slots for t in state.tables if t.name == ITEM_ID_TABLE]
        self._slots = np.concatenate([np.arange(slots.start, slots.stop) for slots in histories])  # [L]
        self._parts = list(pairwise(accumulate((slots.stop - slots.start for slots in histories), initial=0)))
        self._id_at = [t.name for t in item.tables].index(ITEM_ID_TABLE) * self._d
        self._weight, self._bias = weight, bias

    def queries(self, features: Floats) -> Floats:
        """Q [N, F · d] of items with features [N, Fi]."""
        return features[:, self._id_at : self._id_at + self._d] @ self._weight + self._bias

    def of_states(self, rows: Floats, slots: NDArray[np.intp]) -> Floats:
        """What `found` reads of states, [..., L · (d + 1)], with slots [..., S] and their rows [..., S, d]: the rows of
        the history, zeros at padding, then what is added to their logits.
        """
        is_there = slots[..., self._slots] != 0  # [..., L]
        history = rows[..., self._slots, :] * is_there[..., None]
        flat = history.reshape(*is_there.shape[:-1], len(self._slots) * self._d)
        return np.concatenate((flat, np.where(is_there, np.float32(0.0), _NEVER)), axis=-1)

    def found(self, queries: Floats, of_state: Floats) -> Floats:
        """Z [N, F, d] of the queries [N, F · d] in one state."""
        num = len(self._slots)
        rows, added = of_state[: num * self._d].reshape(num, self._d), of_state[num * self._d :]
        z = np.empty((len(queries), len(self._parts), self._d), np.float32)
        for f, (start, stop) in enumerate(self._parts):
            of_feature = queries[:, f * self._d : (f + 1) * self._d]
            z[:, f] = attend(of_feature, rows[start:stop], rows[start:stop], added[start:stop])
        return z


def num_histories(loop: Loop) -> int:
    """Features of kind `items` in the state."""
    return sum(feature.kind == "items" for feature in loop.state.values())
