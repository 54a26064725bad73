"""SAC over candidate sets: its policy is the softmax that the ranker draws from, and as random as asked for."""

import math
from typing import Literal

import numpy as np
import pytest
import torch

from policies.networks import SlateNetwork
from policies.slates import slate_propensities
from schemas.loop_file import Loop
from schemas.sections import GreedyExploration, SoftmaxExploration
from tests.unit.agents.batches import batch_of, random_batch, slate_loop
from trainer.agents.sac_discrete import SacDiscreteAgent
from trainer.agents.view import View
from trainer.networks import TowersHead
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates

BEST = torch.tensor([1, 2])  # of three candidates, in place 0, in place 1


def agent_of(loop: Loop) -> SacDiscreteAgent:
    torch.manual_seed(0)
    return SacDiscreteAgent(loop, View.own(loop))


def bandit_batch(loop: Loop, generator: torch.Generator, num: int = 64) -> TransitionBatch:
    """One decision each, among the items 0, 1, 2; the best pays 1."""
    place = torch.randint(0, 2, (num,), generator=generator)
    item = torch.randint(0, 3, (num,), generator=generator)
    return batch_of(
        loop,
        num,
        state_slots=1 + place.unsqueeze(1),
        item_slots=1 + item.unsqueeze(1),
        candidate_slots=torch.tensor([1, 2, 3]).repeat(num, 1).unsqueeze(2),
        candidate_numbers=torch.zeros(num, 3, 0),
        candidate_mask=torch.ones(num, 3, dtype=torch.bool),
        chosen=item,
        reward=(item == BEST[place]).float(),
    )


def both_places() -> ProbeStates:
    return ProbeStates(
        state_slots=np.array([[1], [2]]),
        state_numbers=np.zeros((2, 1), np.float32),
        item_slots=np.array([[[1], [2], [3]]] * 2),
        item_numbers=np.zeros((2, 3, 0), np.float32),
        mask=np.ones((2, 3), np.bool_),
    )


def learned(loop: Loop, num_updates: int = 250) -> SacDiscreteAgent:
    agent = agent_of(loop)
    generator = torch.Generator().manual_seed(1)
    for _ in range(num_updates):
        agent.update(bandit_batch(loop, generator), num_examples=1_000)
    return agent


@pytest.mark.parametrize("exploration", [SoftmaxExploration(kind="softmax"), GreedyExploration(kind="greedy")])
def test_it_finds_the_best_item_of_each_state_of_a_bandit(
    exploration: SoftmaxExploration | GreedyExploration,
) -> None:
    loop = slate_loop(agent="sac-discrete", id_penalty=0.0, learning_rate=1e-2)
    loop = loop.model_copy(update={"exploration": exploration})
    assert learned(loop).act(both_places()).argmax(axis=1).tolist() == BEST.tolist()


@pytest.mark.parametrize(
    ("temperature", "num_updates"),
    # From a low temperature the policy is certain before the temperature has risen, and must come back from there.
    [(1.0, 300), pytest.param(0.03, 1_000, marks=pytest.mark.slow)],
)
def test_what_the_ranker_draws_from_its_scores_is_as_random_as_asked_for(temperature: float, num_updates: int) -> None:
    explores = SoftmaxExploration(kind="softmax", temperature=temperature, epsilon=0.0)
    loop = slate_loop(agent="sac-discrete", id_penalty=0.0, entropy_share=0.5, learning_rate=1e-2)
    agent = learned(loop.model_copy(update={"exploration": explores}), num_updates)
    for scores in agent.act(both_places()):
        shares = np.array([slate_propensities(scores, [i], explores)[0] for i in range(3)])
        assert -(shares * np.log(shares)).sum() == pytest.approx(0.5 * math.log(3), abs=0.15)


@pytest.mark.parametrize("interaction", ["dot", "mlp"])
def test_its_policy_scores_by_logits_times_the_temperature(interaction: Literal["dot", "mlp"]) -> None:
    loop = slate_loop(agent="sac-discrete")  # at a temperature of .1
    loop = loop.model_copy(update={"network": loop.network.model_copy(update={"interaction": interaction})})
    agent, probe = learned(loop, 60), both_places()
    served = SlateNetwork(loop, agent.policy_tensors())
    state = torch.from_numpy(probe.state_slots), torch.from_numpy(probe.state_numbers)
    items = torch.from_numpy(probe.item_slots), torch.from_numpy(probe.item_numbers)
    with torch.no_grad():
        logs = agent._online.log_policy(agent._online.features(state, items), torch.from_numpy(probe.mask))
    for i, scores in enumerate(agent.act(probe)):
        vector = served.state_vectors(probe.state_slots[i], probe.state_numbers[i])
        ranked = served.scores(vector, served.item_vectors(probe.item_slots[i], probe.item_numbers[i]))
        assert ranked == pytest.approx(scores, abs=1e-5)
        softmax = slate_propensities(ranked, [0], SoftmaxExploration(kind="softmax", temperature=0.1, epsilon=0.0))
        assert softmax[0] == pytest.approx(logs[i, 0].exp().item(), abs=1e-4)
        assert abs(softmax[0] - 1 / 3) > 1e-3  # it has learned something


def test_before_it_learns_no_item_is_preferred() -> None:
    assert not agent_of(slate_loop(agent="sac-discrete")).act(both_places()).any()


def test_the_target_is_the_lower_critic_over_the_candidates_that_are_there_and_the_entropy() -> None:
    loop = slate_loop(agent="sac-discrete")
    agent = agent_of(loop)
    for critic, value in zip(agent._target.critics.pair, (6.0, 8.0), strict=True):
        assert isinstance(critic, TowersHead)
        with torch.no_grad():
            critic.item_tower.out.bias[-1] = value
    batch = batch_of(
        loop,
        3,
        next_item_slots=torch.ones(3, 4, 1, dtype=torch.int64),
        next_item_numbers=torch.zeros(3, 4, 0),
        next_mask=torch.tensor([[True, True, True, False], [True, False, False, False], [False] * 4]),
        terminated=torch.tensor([False, False, True]),
    )
    # The policy is uniform and α the exploration's temperature: 6 + .1 · log 3, 6 + 0, and nothing.
    assert agent._next_value(batch).tolist() == pytest.approx([6.0 + 0.1 * math.log(3), 6.0, 0.0])


def test_candidates_that_are_not_left_change_nothing() -> None:
    loop = slate_loop(agent="sac-discrete")
    batch, other = random_batch(loop, width=4), random_batch(loop, width=4)
    for each in (batch, other):
        each.candidate_mask[:, 3] = False
        each.next_mask[:, 3] = False
    other.candidate_slots[:, 3] = 7
    other.next_item_slots[:, 3] = 9
    agents = agent_of(loop), agent_of(loop)
    for _ in range(3):
        figures = [agent.update(given, 100) for agent, given in zip(agents, (batch, other), strict=True)]
        assert figures[0] == figures[1]
