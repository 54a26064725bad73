"""Loops for these tests, and the tensors of a network small enough to work out by hand."""

import numpy as np
from numpy.typing import NDArray

from schemas.loop_file import Loop, parse_loop


def slate_loop(state: str = "", item: str = "p = { kind = 'number' }", network: str = "") -> Loop:
    return parse_loop(f"""
        name = "test"
        [state]
        {state}
        [item]
        {item}
        [network]
        {network}
        [action]
        kind = "slate"
        size = 3
        [reward]
        click = 1.0
        wait = "10s"
        [learner]
        agent = "dqn"
        [exploration]
        kind = "softmax"
    """)


def weights_loop(dim: int, state: str = "", network: str = "") -> Loop:
    return parse_loop(f"""
        name = "test"
        [state]
        {state}
        [network]
        {network}
        [action]
        kind = "weights"
        dim = {dim}
        [reward]
        click = 1.0
        wait = "10s"
        [learner]
        agent = "ddpg"
        [exploration]
        kind = "gaussian"
    """)


def tiny_loop(interaction: str = "dot") -> Loop:
    """One number a state, one an item; one hidden layer of two units; vectors and embeddings of one number."""
    network = f"hidden = [2]\nvector_dim = 1\nembedding_dim = 1\ninteraction = '{interaction}'"
    return slate_loop("x = { kind = 'number' }", "p = { kind = 'number' }", network)


def tiny_tensors() -> dict[str, NDArray[np.float32]]:
    """Of `tiny_loop`, with the tensors of either interaction.

    x = 3 → (3 − 1) / 2 = 1 → relu(1, −1) = (1, 0) → s = 2 · 1 + 0.5 = 2.5.
    p = 4 → (4, 4) → v = 0.5 · 4 = 2, b = 0.25 · 4 + 1 = 2; p = −1 → (0, 0) → v = 0, b = 1.
    joint: x = 1, p = 4, no embeddings and so no product → relu(1 + 4, −1 + .5) = (5, 0) → 0.1 · 5 + 0.05 = .55;
    p = −1 → relu(1 − 1, −1 + .5) = (0, 0) → 0.05.
    """
    tensors: dict[str, object] = {
        "embeddings.state_mean": [1],
        "embeddings.state_scale": [2],
        "embeddings.item_mean": [0],
        "embeddings.item_scale": [1],
        "head.state_tower.hidden.0.weight": [[1], [-1]],
        "head.state_tower.hidden.0.bias": [0, 0],
        "head.state_tower.out.weight": [[2, 5]],
        "head.state_tower.out.bias": [0.5],
        "head.item_tower.hidden.0.weight": [[1], [1]],
        "head.item_tower.hidden.0.bias": [0, 0],
        "head.item_tower.out.weight": [[0.5, 0], [0, 0.25]],
        "head.item_tower.out.bias": [0, 1],
        "head.joint.hidden.0.weight": [[1, 1, 1], [-1, 0, 0]],
        "head.joint.hidden.0.bias": [0, 0.5],
        "head.joint.out.weight": [[0.1, 1]],
        "head.joint.out.bias": [0.05],
    }
    return {name: np.array(values, np.float32) for name, values in tensors.items()}
