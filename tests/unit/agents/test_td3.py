"""TD3 learns an action that is known, moves its actor late, and takes the lower of its critics."""

import numpy as np
import pytest
import torch
from torch import nn

from schemas.loop_file import Loop
from schemas.sections import Network
from tests.unit.agents.bandit import BEST, bandit_batch, both_places
from tests.unit.agents.batches import batch_of, random_batch, weights_loop
from trainer.agents.td3 import Td3Agent
from trainer.agents.view import View


def agent_of(loop: Loop) -> Td3Agent:
    torch.manual_seed(0)
    return Td3Agent(loop, View.own(loop))


def weights_of(agent: Td3Agent) -> np.ndarray:
    return np.concatenate([t.ravel() for name, t in agent.policy_tensors().items() if name.startswith("head.")])


def test_it_finds_the_best_action_of_each_state_of_a_bandit() -> None:
    loop = weights_loop(agent="td3", learning_rate=5e-3, critic_learning_rate=1e-2, action_penalty=0.0)
    loop = loop.model_copy(update={"network": Network(embedding_dim=4, hidden=(64,))})
    agent = agent_of(loop)
    generator = torch.Generator().manual_seed(1)
    for _ in range(600):
        agent.update(bandit_batch(loop, generator), num_examples=1_000)
    loss = np.square(agent.act(both_places()) - BEST.numpy()).sum(axis=1)
    assert (loss < 0.03).all()


def test_the_actor_moves_at_every_third_update_with_a_delay_of_three() -> None:
    loop = weights_loop(agent="td3", actor_delay=3)
    agent = agent_of(loop)
    moved = []
    for seed in range(7):
        before = weights_of(agent)
        figures = agent.update(random_batch(loop, seed=seed), num_examples=1_000)
        moved.append(not np.array_equal(before, weights_of(agent)))
        assert ("policy_value" in figures) == moved[-1]
    assert moved == [False, False, True, False, False, True, False]


def test_the_delay_goes_on_after_a_checkpoint() -> None:
    loop = weights_loop(agent="td3", actor_delay=3)
    agent, other = agent_of(loop), agent_of(loop)
    for seed in range(2):
        agent.update(random_batch(loop, seed=seed), num_examples=1_000)
    other.load_state_dict({key: tensor.clone() for key, tensor in agent.state_dict().items()})
    assert "policy_value" in other.update(random_batch(loop, seed=2), num_examples=1_000)


def test_the_target_is_that_of_the_lower_critic() -> None:
    loop = weights_loop(agent="td3", discount=0.5)
    agent = agent_of(loop)
    for critic, value in zip(agent._target.critics.pair, (8.0, 6.0), strict=True):
        nn.init.constant_(critic.out.bias, value)  # type: ignore[union-attr, arg-type]  # of an Mlp that is 0
    batch = batch_of(loop, 2, reward=torch.tensor([1.0, 1.0]), terminated=torch.tensor([False, True]))
    figures = agent.update(batch, num_examples=1_000)
    assert figures["agent_loss"] == pytest.approx(((1.0 + 0.5 * 6.0) ** 2 + 1.0) / 2)  # Q is 0 at first


def test_before_it_learns_it_plays_zero() -> None:
    assert not agent_of(weights_loop(agent="td3")).act(both_places()).any()
