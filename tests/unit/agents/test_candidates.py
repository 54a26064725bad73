"""Agents whose candidates see each other, and the dueling one."""

import math
from dataclasses import replace

import pytest
import torch

from schemas.sections import Network
from tests.unit.agents.batches import history_loop, random_batch, slate_loop
from trainer.agents import AGENTS
from trainer.agents.dqn_att import DqnAttAgent
from trainer.agents.drn import DrnAgent
from trainer.agents.losses import expected_value
from trainer.agents.view import View
from trainer.attention import HistoryAttention
from trainer.networks import AttentionHead, Embeddings


def test_the_expected_value_is_the_mean_under_the_softmax_of_what_is_there() -> None:
    scores = torch.tensor([[math.log(3.0), 0.0, 50.0], [1.0, 2.0, 3.0]])
    values = torch.tensor([[1.0, 5.0, 99.0], [1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert expected_value(scores, values, mask).tolist() == pytest.approx([0.75 * 1 + 0.25 * 5, 0.0])


@torch.no_grad()
def test_attention_worked_by_hand() -> None:
    """One dimension, h = 1 and 3, q = 0, so each sees the mean of v = 2h, which is 4: relu(5), relu(7), less 1."""
    shape = {"hidden": [], "vector_dim": 1, "embedding_dim": 1, "interaction": "attention"}
    loop = slate_loop(agent="dqn-att")
    loop = loop.model_copy(update={"network": Network.model_validate(shape)})
    head = AttentionHead(loop, 2, 1)
    for parameter in head.parameters():
        parameter.zero_()
    head.joint.out.weight[0, 2] = 1.0  # the item's only feature
    head.attention.weight[2, 0] = 2.0
    head.out.weight.fill_(1.0)
    head.out.bias.fill_(-1.0)
    items = torch.tensor([[[1.0], [3.0]]])
    assert head(torch.zeros(1, 2), items).tolist() == [[4.0, 6.0]]
    assert head(torch.zeros(1, 2), items, torch.tensor([[True, False]]))[0, 0].item() == 2.0  # 1 + 2 · 1 − 1


@torch.no_grad()
def test_attention_to_the_history_worked_by_hand() -> None:
    """One dimension: e = 1 and 0, q = e · ln 3, h = 1 and 0 and a place that is empty. The first item finds
    (3 · 1 + 1 · 0) / 4 of the history, the second its mean, and both nothing in an empty one.
    """
    loop = history_loop(agent="dqn-att")
    loop = loop.model_copy(update={"network": loop.network.model_copy(update={"embedding_dim": 1})})
    find = HistoryAttention(loop)
    find.query.weight.fill_(math.log(3.0))
    find.query.bias.zero_()
    items = torch.tensor([[[1.0], [0.0]]]).expand(2, 2, 1)
    rows = torch.tensor([[[1.0], [0.0], [0.0]], [[0.0], [0.0], [0.0]]])
    there = torch.tensor([[True, True, False], [False, False, False]])
    torch.testing.assert_close(find(items, (rows, there)), torch.tensor([[[0.75], [0.5]], [[0.0], [0.0]]]))


@pytest.mark.parametrize("agent", ["dqn-att", "drr-att"])
def test_it_is_learned_which_history_matters(agent: str) -> None:
    loop = history_loop(agent=agent, discount=0.0)
    torch.manual_seed(0)
    learner = AGENTS[agent](loop, View.own(loop))
    before = {name: tensor.copy() for name, tensor in learner.policy_tensors().items() if "interest" in name}
    for seed in range(4):
        learner.update(random_batch(loop, seed=seed), num_examples=1_000)
    after = learner.policy_tensors()
    assert {*before} == {"head.interest.query.weight", "head.interest.query.bias"}
    assert all((after[name] != tensor).any() for name, tensor in before.items())


def test_a_view_of_two_parts_attends_to_their_sum() -> None:
    loop = history_loop(agent="dqn-att")
    shared = Embeddings(loop)
    view = View.residual(loop, shared)
    for parameter in view.trained():
        torch.nn.init.normal_(parameter)
    slots = torch.tensor([[1, 5, 0, 7]])  # the place, then the history
    seen, merged = view.history(slots), view.merged().history(slots)
    assert seen is not None
    assert merged is not None
    torch.testing.assert_close(seen, merged)
    assert seen[1].tolist() == [[True, False, True]]
    [moved] = torch.autograd.grad(seen[0].sum(), shared.rows, allow_unused=True)
    assert moved is None
    of_others = View.shared(shared).history(slots)
    assert of_others is not None
    assert not of_others[0].requires_grad


def test_what_was_shown_above_does_not_count() -> None:
    loop = slate_loop(agent="dqn-att")
    torch.manual_seed(0)
    agent = DqnAttAgent(loop, View.own(loop))
    torch.nn.init.normal_(agent._online.head.last_layers()[0].weight)
    batch = random_batch(loop, num=8, width=3)
    batch = replace(batch, chosen=torch.zeros(8, dtype=torch.int64))
    mask = torch.tensor([True, True, False]).expand(8, 3)
    left = replace(batch, candidate_mask=mask)
    other = replace(left, candidate_slots=batch.candidate_slots.clone())
    other.candidate_slots[:, 2] = 77
    torch.testing.assert_close(agent._chosen(left), agent._chosen(other))
    assert not torch.allclose(agent._chosen(left), agent._chosen(batch))


def test_the_value_of_a_state_learns_and_is_left_out_of_the_policy() -> None:
    loop = slate_loop(agent="drn")
    agent = DrnAgent(loop, View.own(loop))
    for seed in range(3):
        agent.update(random_batch(loop, seed=seed), num_examples=1_000)
    assert agent._online.heads()[-1].abs().sum() > 0  # the bias of V
    assert not [name for name in agent.policy_tensors() if "value" in name]
