"""SAC learns an action that is known, and to be as random as asked for."""

import numpy as np
import pytest
import torch
from torch import nn

from schemas.loop_file import Loop
from schemas.sections import Network
from tests.unit.agents.bandit import BEST, bandit_batch, both_places
from tests.unit.agents.batches import batch_of, weights_loop
from trainer.agents.sac import SacAgent
from trainer.agents.view import View


def agent_of(loop: Loop) -> SacAgent:
    torch.manual_seed(0)
    return SacAgent(loop, View.own(loop))


def learned(num_updates: int, **learner: float) -> tuple[SacAgent, dict[str, float]]:
    """After updates on the bandit, with the means of the last 50 updates' figures."""
    loop = weights_loop(agent="sac", learning_rate=5e-3, critic_learning_rate=1e-2, action_penalty=0.0, **learner)
    agent = agent_of(loop.model_copy(update={"network": Network(embedding_dim=4, hidden=(64,))}))
    generator = torch.Generator().manual_seed(1)
    figures = [agent.update(bandit_batch(loop, generator), num_examples=1_000) for _ in range(num_updates)]
    return agent, {name: float(np.mean([each[name] for each in figures[-50:]])) for name in figures[0]}


def test_it_finds_the_best_action_of_each_state_of_a_bandit() -> None:
    agent, _ = learned(600)
    loss = np.square(agent.act(both_places()) - BEST.numpy()).sum(axis=1)
    assert (loss < 0.03).all()


@pytest.mark.slow
def test_its_policy_becomes_as_random_as_asked_for() -> None:
    _, figures = learned(800, entropy_per_dim=-0.5)
    assert figures["entropy"] == pytest.approx(2 * -0.5, abs=0.3)


def test_the_target_is_the_lower_critic_and_the_entropy() -> None:
    loop = weights_loop(agent="sac", discount=0.5)
    agent = agent_of(loop)
    for critic, value in zip(agent._target.critics.pair, (6.0, 8.0), strict=True):
        nn.init.constant_(critic.out.bias, value)  # type: ignore[union-attr, arg-type]  # of an Mlp that is 0
    num = 20_000
    batch = batch_of(loop, num, terminated=torch.zeros(num, dtype=torch.bool))
    # z is N(0, 1): log π(tanh z) is −½ log 2πe − E log(1 − tanh² z) = −1.4189 + .7491 for each of the two.
    next_value = agent._next_value(batch)
    assert next_value.mean().item() == pytest.approx(6.0 - 0.1 * 2 * (-1.4189 + 0.7491), abs=0.01)


def test_before_it_learns_it_plays_zero() -> None:
    assert not agent_of(weights_loop(agent="sac")).act(both_places()).any()
