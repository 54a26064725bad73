"""A bandit of two places and actions of two weights, whose best action is known."""

import numpy as np
import torch

from schemas.loop_file import Loop
from tests.unit.agents.batches import batch_of
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates

BEST = torch.tensor([[0.5, -0.3], [-0.6, 0.2]])  # in place 0, in place 1; playing 0 loses .34 and .4


def bandit_batch(loop: Loop, generator: torch.Generator, num: int = 64) -> TransitionBatch:
    """One decision each; the reward is 1 − |a − best|²."""
    place = torch.randint(0, 2, (num,), generator=generator)
    action = torch.rand(num, 2, generator=generator) * 2 - 1
    reward = 1 - (action - BEST[place]).square().sum(dim=1)
    return batch_of(loop, num, state_slots=1 + place.unsqueeze(1), action=action, reward=reward)


def both_places() -> ProbeStates:
    return ProbeStates(
        state_slots=np.array([[1], [2]]),
        state_numbers=np.zeros((2, 1), np.float32),
        item_slots=np.zeros((2, 0, 0), np.int64),
        item_numbers=np.zeros((2, 0, 0), np.float32),
        mask=np.zeros((2, 0), np.bool_),
    )
