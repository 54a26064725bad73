"""A policy goes from a context to scores, or to an action."""

import numpy as np
import pytest

from policies.policy import SlatePolicy, WeightsPolicy, make_policy
from schemas.manifest import PolicyManifest
from tests.unit.policies.loops import tiny_loop, tiny_tensors, weights_loop

MANIFEST = PolicyManifest(
    version="000007", parent=None, loop_hash="", created_at=5.0, sha256={}, metrics={}, revision=0, final_at=[]
)


def test_a_slate_policy_scores_items_in_a_context() -> None:
    policy = make_policy(tiny_loop(), MANIFEST, tiny_tensors())
    assert isinstance(policy, SlatePolicy)
    assert (policy.version, policy.created_at) == ("000007", 5.0)
    items = policy.item_vectors([policy.item_encoder.encode("a", {"p": 4}), policy.item_encoder.encode("b", {"p": -1})])
    state = policy.state_vectors([policy.state_encoder.encode({"x": 3})])[0]
    assert policy.scores(state, items).tolist() == [7.0, 1.0]


def test_of_no_items_there_are_no_vectors() -> None:
    policy = make_policy(tiny_loop(), MANIFEST, tiny_tensors())
    assert isinstance(policy, SlatePolicy)
    items = policy.item_vectors([])
    assert items.vectors.shape == (1, 0)
    assert policy.scores(np.ones(1, np.float32), items).shape == (0,)


def test_a_weights_policy_gives_an_action() -> None:
    loop = weights_loop(2, "x = { kind = 'number', max = 4 }", "hidden = []")
    tensors = {
        "embeddings.state_mean": [0],
        "embeddings.state_scale": [1],
        "head.tower.out.weight": [[4], [-200]],
        "head.tower.out.bias": [-1, 0],
    }
    policy = make_policy(loop, MANIFEST, {name: np.array(value, np.float32) for name, value in tensors.items()})
    assert isinstance(policy, WeightsPolicy)
    action = policy.action(policy.state_encoder.encode({"x": 1}))  # z = (4 / 4 − 1, −50)
    assert action.tolist() == [0.0, -1.0]


def test_tensors_of_another_loop_are_refused() -> None:
    with pytest.raises(ValueError, match=r"head\.tower"):
        make_policy(weights_loop(2, "x = { kind = 'number' }"), MANIFEST, tiny_tensors())
