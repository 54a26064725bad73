"""Double DQN learns values that are known."""

import numpy as np
import pytest
import torch

from schemas.loop_file import Loop
from tests.unit.agents.batches import batch_of, random_batch, slate_loop
from trainer.agents.dqn import DqnAgent
from trainer.agents.view import View
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates

# Two places; item i leads to place i, and taking item 0 in place 1 pays 1. With discount ½:
# V(0) = ½ V(1), V(1) = 1 + ½ V(0), so V(1) = 4/3, V(0) = 2/3, and Q(s, i) = r + ½ V(i).
KNOWN_Q = [[1 / 3, 2 / 3], [4 / 3, 2 / 3]]


def agent_of(loop: Loop, seed: int = 0) -> DqnAgent:
    torch.manual_seed(seed)
    return DqnAgent(loop, View.own(loop))


def all_transitions(loop: Loop) -> TransitionBatch:
    place, item = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    return batch_of(
        loop,
        4,
        state_slots=1 + place.unsqueeze(1),
        item_slots=1 + item.unsqueeze(1),
        reward=torch.tensor([0.0, 0.0, 1.0, 0.0]),
        next_state_slots=1 + item.unsqueeze(1),
        next_item_slots=torch.tensor([1, 2]).repeat(4, 1).unsqueeze(2),
        next_item_numbers=torch.zeros(4, 2, 0),
        next_mask=torch.ones(4, 2, dtype=torch.bool),
        terminated=torch.zeros(4, dtype=torch.bool),
    )


def both_places() -> ProbeStates:
    return ProbeStates(
        state_slots=np.array([[1], [2]]),
        state_numbers=np.zeros((2, 1), np.float32),
        item_slots=np.array([[[1], [2]], [[1], [2]]]),
        item_numbers=np.zeros((2, 2, 0), np.float32),
        mask=np.ones((2, 2), np.bool_),
    )


def test_it_finds_the_values_of_a_problem_that_is_solved_by_hand() -> None:
    loop = slate_loop(polyak=0.1, learning_rate=1e-2, id_penalty=0.0)
    agent = agent_of(loop)
    batch = all_transitions(loop)
    for _ in range(400):
        agent.update(batch, num_examples=1_000)
    assert agent.act(both_places()) == pytest.approx(np.array(KNOWN_Q), abs=0.03)


def test_before_it_learns_every_item_is_worth_nothing() -> None:
    assert not agent_of(slate_loop()).act(both_places()).any()


def test_the_update_reports_the_error_before_its_step() -> None:
    loop = slate_loop()
    figures = agent_of(loop).update(all_transitions(loop), num_examples=1_000)
    assert figures == {"agent_loss": 0.25, "q_mean": 0.0}  # Q = 0, so the targets are 0, 0, 1, 0


def test_padding_changes_nothing() -> None:
    loop = slate_loop()
    batch = random_batch(loop, width=4)
    batch.next_mask[:, 2:] = False
    narrow = batch_of(
        loop,
        32,
        **{
            name: getattr(batch, name)
            for name in ("state_slots", "state_numbers", "item_slots", "item_numbers", "reward", "terminated")
        },
        next_state_slots=batch.next_state_slots,
        next_state_numbers=batch.next_state_numbers,
        next_item_slots=batch.next_item_slots[:, :2],
        next_item_numbers=batch.next_item_numbers[:, :2],
        next_mask=batch.next_mask[:, :2],
    )
    agents = agent_of(loop), agent_of(loop)
    for _ in range(3):
        figures = [agent.update(given, 100) for agent, given in zip(agents, (batch, narrow), strict=True)]
        assert figures[0] == figures[1]


def test_the_penalty_pulls_the_rows_of_ids_that_are_never_seen_to_zero() -> None:
    def norm_after(num_examples: int) -> float:
        loop = slate_loop(id_penalty=10.0)
        agent = agent_of(loop)
        for _ in range(50):
            agent.update(all_transitions(loop), num_examples)
        return float(np.abs(agent.policy_tensors()["embeddings.item.id"][50:]).mean())

    assert norm_after(num_examples=100) < 0.5 * norm_after(num_examples=10**12)
