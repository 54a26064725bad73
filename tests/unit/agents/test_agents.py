"""What holds for every agent, by any name."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from schemas import kinds
from schemas.loop_file import Loop
from tests.unit.agents.batches import random_batch, slate_loop, weights_loop
from trainer.agents import AGENTS
from trainer.agents.agent import Agent
from trainer.agents.view import View
from trainer.networks import Embeddings
from trainer.replay.statistics import NumberStatistics


def loop_for(agent: str) -> Loop:
    return (slate_loop if "slate" in kinds.AGENTS[agent].actions else weights_loop)(agent=agent)


def make(agent: str, seed: int = 0) -> Agent:
    torch.manual_seed(seed)
    loop = loop_for(agent)
    return AGENTS[agent](loop, View.own(loop))


def test_the_loop_file_and_the_registry_name_the_same_agents() -> None:
    assert AGENTS.keys() == kinds.AGENTS.keys()


@pytest.mark.parametrize("name", AGENTS)
def test_its_own_embeddings_are_moved_by_its_loss(name: str) -> None:
    agent = make(name)
    before = agent.policy_tensors()
    for seed in range(3):
        agent.update(random_batch(loop_for(name), seed=seed), num_examples=1_000)
    after = agent.policy_tensors()
    assert not np.array_equal(before["embeddings.state.place"], after["embeddings.state.place"])


@pytest.mark.parametrize("name", AGENTS)
def test_shared_embeddings_are_not_moved_and_serve_in_its_policy(name: str) -> None:
    loop = loop_for(name)
    embeddings = Embeddings(loop)
    before = [parameter.detach().clone() for parameter in embeddings.parameters()]
    agent = AGENTS[name](loop, View.shared(embeddings))
    for seed in range(3):
        agent.update(random_batch(loop, seed=seed), num_examples=1_000)
    assert all(torch.equal(a, b) for a, b in zip(before, embeddings.parameters(), strict=True))
    with torch.no_grad():
        embeddings.tables[0][:] = 7.0
    assert (agent.policy_tensors()[f"embeddings.{embeddings.table_names[0]}"] == 7.0).all()


@pytest.mark.parametrize("name", AGENTS)
def test_from_its_state_it_goes_on_exactly_as_it_would_have(name: str) -> None:
    loop = loop_for(name)
    agent, other = make(name), make(name, seed=1)
    for seed in range(3):
        agent.update(random_batch(loop, seed=seed), num_examples=1_000)
    other.load_state_dict({key: tensor.clone() for key, tensor in agent.state_dict().items()})
    batch = random_batch(loop, seed=9)
    for _ in range(3):
        random = torch.get_rng_state()  # a part of the loop's checkpoint
        figures = agent.update(batch, 1_000)
        torch.set_rng_state(random)
        assert figures == other.update(batch, 1_000)
    ours, theirs = agent.policy_tensors(), other.policy_tensors()
    assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", AGENTS)
def test_a_copy_learns_apart_and_exactly_as_the_first(name: str) -> None:
    agent, loop = make(name), loop_for(name)
    for seed in range(3):
        agent.update(random_batch(loop, seed=seed), num_examples=1_000)
    other = deepcopy(agent)
    kept = {key: tensor.clone() for key, tensor in agent.state_dict().items()}
    batch = random_batch(loop, seed=9)
    random = torch.get_rng_state()
    for _ in range(3):
        other.update(batch, 1_000)
    assert all(torch.equal(kept[key], tensor) for key, tensor in agent.state_dict().items())
    torch.set_rng_state(random)
    for _ in range(3):
        agent.update(batch, 1_000)
    ours, theirs = agent.state_dict(), other.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", AGENTS)
def test_the_scale_of_numbers_is_a_part_of_the_policy(name: str) -> None:
    agent = make(name)
    one, two = np.array([3.0], np.float32), np.array([2.0], np.float32)
    agent.rescale(NumberStatistics(one, two, np.zeros(0, np.float32), np.ones(0, np.float32)))
    tensors = agent.policy_tensors()
    assert (tensors["embeddings.state_mean"].tolist(), tensors["embeddings.state_scale"].tolist()) == ([3.0], [2.0])
