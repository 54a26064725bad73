"""DDPG learns an action that is known."""

import numpy as np
import pytest
import torch

from schemas.loop_file import Loop
from schemas.sections import Network
from tests.unit.agents.bandit import BEST, bandit_batch, both_places
from tests.unit.agents.batches import batch_of, weights_loop
from trainer.agents.ddpg import DdpgAgent
from trainer.agents.view import View


def agent_of(loop: Loop) -> DdpgAgent:
    torch.manual_seed(0)
    return DdpgAgent(loop, View.own(loop))


def test_it_finds_the_best_action_of_each_state_of_a_bandit() -> None:
    loop = weights_loop(learning_rate=3e-3, critic_learning_rate=1e-2, action_penalty=0.0)
    loop = loop.model_copy(update={"network": Network(embedding_dim=4, hidden=(64,))})
    agent = agent_of(loop)
    generator = torch.Generator().manual_seed(1)
    for _ in range(500):
        agent.update(bandit_batch(loop, generator), num_examples=1_000)
    loss = np.square(agent.act(both_places()) - BEST.numpy()).sum(axis=1)  # of 0.34 and 0.4 that playing 0 loses
    assert (loss < 0.03).all()


def test_before_it_learns_it_plays_zero() -> None:
    assert not agent_of(weights_loop()).act(both_places()).any()


def test_the_penalty_keeps_actions_small() -> None:
    def size_after(action_penalty: float) -> float:
        loop = weights_loop(learning_rate=1e-2, action_penalty=action_penalty)
        agent = agent_of(loop)
        generator = torch.Generator().manual_seed(1)
        for _ in range(100):
            agent.update(bandit_batch(loop, generator), num_examples=1_000)
        return float(np.abs(agent.act(both_places())).mean())

    assert size_after(10.0) < 0.3 * size_after(0.0)


def test_the_critic_bootstraps_from_the_next_state_unless_terminated() -> None:
    loop = weights_loop(discount=0.5, learning_rate=1e-2)
    agent = agent_of(loop)
    place = torch.tensor([0, 1])
    batch = batch_of(
        loop,
        2,
        state_slots=1 + place.unsqueeze(1),
        reward=torch.tensor([0.0, 2.0]),
        next_state_slots=torch.tensor([[2], [0]]),
        terminated=torch.tensor([False, True]),
    )
    for _ in range(800):
        figures = agent.update(batch, num_examples=1_000)
    assert figures["q_mean"] == pytest.approx((0.5 * 2.0 + 2.0) / 2, abs=0.05)  # Q(0) = ½ · Q(1), Q(1) = 2
