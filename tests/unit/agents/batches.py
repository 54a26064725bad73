"""What the tests of agents and estimators share: small loops, and batches made by hand or at random."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.features import network_layouts
from schemas.kinds import AGENTS
from schemas.loop_file import Loop
from trainer.replay.batch import TransitionBatch
from trainer.replay.sessions import NO_ROW


def slate_loop(**learner: Any) -> Loop:
    """State: one of 2 categories and a number that data scale; items: one of 120 ids (and so penalized)."""
    interaction = AGENTS[learner.get("agent", "dqn")].interactions[0]
    return Loop.model_validate(
        {
            "name": "test",
            "state": {"place": {"kind": "category", "size": 2}, "wealth": {"kind": "number"}},
            "item": {"id": {"kind": "category", "size": 120}},
            "action": {"kind": "slate", "size": 1},
            "reward": {"click": 1.0, "wait": "1s"},
            "network": {"embedding_dim": 4, "hidden": [16], "vector_dim": 8, "interaction": interaction},
            "learner": {"agent": "dqn", "discount": 0.5, **learner},
            "exploration": {"kind": "softmax"},
        }
    )


def history_loop(**learner: Any) -> Loop:
    """As `slate_loop`, with the last 3 items in the state."""
    same = slate_loop(agent=learner.get("agent", "dqn")).model_dump(
        include={"name", "state", "item", "action", "network"}
    )
    return Loop.model_validate(
        {
            **same,
            "state": {**same["state"], "history": {"kind": "items", "length": 3}},
            "reward": {"click": 1.0, "wait": "1s"},
            "learner": {"agent": "dqn", "discount": 0.5, **learner},
            "exploration": {"kind": "softmax"},
        }
    )


def weights_loop(**learner: Any) -> Loop:
    """State as above; actions of 2 weights."""
    return Loop.model_validate(
        {
            **slate_loop().model_dump(include={"name", "state", "network"}),
            "action": {"kind": "weights", "dim": 2},
            "reward": {"click": 1.0, "wait": "1s"},
            "learner": {"agent": "ddpg", **learner},
            "exploration": {"kind": "gaussian"},
        }
    )


def batch_of(loop: Loop, num: int, **given: Any) -> TransitionBatch:
    """B impressions of zeros that terminate, but for the fields given."""
    state, item = network_layouts(loop)
    width = given["next_mask"].shape[1] if "next_mask" in given else 1
    num_candidates = given["candidate_mask"].shape[1] if "candidate_mask" in given else 1
    fields: dict[str, Any] = {
        "rows": np.arange(num),
        "positions": np.zeros(num, np.int64),
        "state_slots": torch.zeros(num, state.num_slots, dtype=torch.int64),
        "state_numbers": torch.zeros(num, state.num_numbers),
        "item_slots": torch.zeros(num, item.num_slots, dtype=torch.int64),
        "item_numbers": torch.zeros(num, item.num_numbers),
        "action": torch.zeros(num, loop.action.dim if loop.action.kind == "weights" else 0),
        "reward": torch.zeros(num),
        "propensity": torch.ones(num),
        "log_density": torch.zeros(num),
        "next_state_slots": torch.zeros(num, state.num_slots, dtype=torch.int64),
        "next_state_numbers": torch.zeros(num, state.num_numbers),
        "next_item_slots": torch.zeros(num, width, item.num_slots, dtype=torch.int64),
        "next_item_numbers": torch.zeros(num, width, item.num_numbers),
        "next_mask": torch.zeros(num, width, dtype=torch.bool),
        "next_size": torch.ones(num, dtype=torch.int64),
        "next_rows": np.full(num, NO_ROW),
        "terminated": torch.ones(num, dtype=torch.bool),
        "candidate_slots": torch.zeros(num, num_candidates, item.num_slots, dtype=torch.int64),
        "candidate_numbers": torch.zeros(num, num_candidates, item.num_numbers),
        "candidate_mask": torch.ones(num, num_candidates, dtype=torch.bool),
        "chosen": torch.zeros(num, dtype=torch.int64),
    }
    return TransitionBatch(**fields | given)


def random_batch(loop: Loop, num: int = 32, width: int = 3, seed: int = 0) -> TransitionBatch:
    """Impressions drawn at random, of which none terminates; rewards are 0 or 1. The item chosen is a candidate."""
    draw = torch.Generator().manual_seed(seed)
    state, item = network_layouts(loop)

    def slots(layout_slots: int, *shape: int) -> Tensor:
        return torch.randint(0, 3, (*shape, layout_slots), generator=draw)

    def numbers(layout_numbers: int, *shape: int) -> Tensor:
        return torch.randn(*shape, layout_numbers, generator=draw)

    action_dim = loop.action.dim if loop.action.kind == "weights" else 0
    candidate_slots, candidate_numbers = slots(item.num_slots, num, width), numbers(item.num_numbers, num, width)
    chosen = torch.randint(0, width, (num,), generator=draw)
    return batch_of(
        loop,
        num,
        state_slots=slots(state.num_slots, num),
        state_numbers=numbers(state.num_numbers, num),
        item_slots=candidate_slots[torch.arange(num), chosen],
        item_numbers=candidate_numbers[torch.arange(num), chosen],
        candidate_slots=candidate_slots,
        candidate_numbers=candidate_numbers,
        candidate_mask=torch.ones(num, width, dtype=torch.bool),
        chosen=chosen,
        propensity=torch.rand(num, generator=draw) * 0.9 + 0.1,
        action=torch.rand(num, action_dim, generator=draw) * 2 - 1,
        reward=torch.randint(0, 2, (num,), generator=draw).float(),
        next_state_slots=slots(state.num_slots, num),
        next_state_numbers=numbers(state.num_numbers, num),
        next_item_slots=slots(item.num_slots, num, width),
        next_item_numbers=numbers(item.num_numbers, num, width),
        next_mask=torch.ones(num, width, dtype=torch.bool),
        terminated=torch.zeros(num, dtype=torch.bool),
    )
