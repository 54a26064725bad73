"""Rewards are stabilized in a new batch, once, and each part learns only from what is its own to learn from."""

from itertools import product
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from policies.files import Golden, golden_outputs
from policies.networks import ActorNetwork, SlateNetwork
from schemas import kinds
from schemas.loop_file import Loop
from tests.unit.agents.batches import history_loop, random_batch, slate_loop, weights_loop
from trainer.agents import AGENTS
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates
from trainer.replay.statistics import NumberStatistics
from trainer.rewards import ESTIMATORS
from trainer.rewards.calibration import CALIBRATIONS
from trainer.rewards.heads import HEADS
from trainer.rewards.stabilizers import STABILIZERS, Stabilized, stabilized_agent

# Every estimator that fits an agent, with every stabilizer that fits it.
FITTING = [
    (agent, name, stabilizer)
    for agent, (name, kind), stabilizer in product(kinds.AGENTS, kinds.ESTIMATORS.items(), STABILIZERS)
    if set(kinds.AGENTS[agent].actions) <= set(kind.actions)
    and (kind.has_network or stabilizer not in kinds.SHARING_STABILIZERS)
]


def loop_for(agent: str, **learner: Any) -> Loop:
    if "estimator" in learner and kinds.ESTIMATORS[learner["estimator"]].needs_history:
        return history_loop(agent=agent, **learner)
    return (slate_loop if "slate" in kinds.AGENTS[agent].actions else weights_loop)(agent=agent, **learner)


def make(loop: Loop, seed: int = 0) -> Stabilized:
    torch.manual_seed(seed)
    return stabilized_agent(loop)


def fitted(loop: Loop) -> Stabilized:
    learner = make(loop)
    for seed in range(20):
        learner.fit(random_batch(loop, seed=seed), num_examples=1_000)
    return learner


def what_the_agent_gets(learner: Stabilized, batch: TransitionBatch) -> TransitionBatch:
    with patch.object(learner.agent, "update", return_value={}) as update:
        learner.update(batch, num_examples=1_000)
    given: TransitionBatch = update.call_args.args[0]
    return given


def tables(learner: Stabilized) -> list[Tensor]:
    return [table.detach().clone() for table in learner.estimator.embeddings.parameters()]


def test_the_loop_file_and_the_registries_name_the_same_parts() -> None:
    assert tuple(STABILIZERS) == kinds.STABILIZERS
    assert list(ESTIMATORS) == list(kinds.ESTIMATORS)
    assert tuple(HEADS) == kinds.HEADS
    assert ("none", *CALIBRATIONS) == kinds.CALIBRATIONS


@pytest.mark.parametrize(("agent", "estimator", "stabilizer"), FITTING)
def test_any_agent_learns_with_any_estimator_and_stabilizer(agent: str, estimator: str, stabilizer: str) -> None:
    loop = loop_for(agent, estimator=estimator, stabilizer=stabilizer)
    learner = make(loop)
    figures = learner.update(random_batch(loop), num_examples=1_000)
    assert {"agent_loss", "estimator_loss"} <= figures.keys()


@pytest.mark.parametrize("stabilizer", ["srs", "srs2", "srs2-residual"])
@pytest.mark.parametrize("agent", AGENTS)
def test_the_agent_learns_from_the_estimates(agent: str, stabilizer: str) -> None:
    loop = loop_for(agent, stabilizer=stabilizer)
    learner = fitted(loop)
    batch = random_batch(loop)
    given = what_the_agent_gets(learner, batch)
    assert torch.equal(given.reward, learner.estimator.predict(batch))
    assert given.stabilized


def test_with_raw_the_agent_learns_from_the_rewards_as_they_came() -> None:
    loop = loop_for("dqn", stabilizer="raw")
    batch = random_batch(loop)
    assert torch.equal(what_the_agent_gets(fitted(loop), batch).reward, batch.reward)


@pytest.mark.parametrize("stabilizer", STABILIZERS)
def test_raw_rewards_are_not_altered(stabilizer: str) -> None:
    loop = loop_for("dqn", stabilizer=stabilizer)
    batch = random_batch(loop)
    before = batch.reward.clone()
    learner = make(loop)
    learner.update(batch, num_examples=1_000)
    learner.observe(batch)
    assert torch.equal(batch.reward, before)
    assert not batch.stabilized


def test_stabilizing_twice_is_an_error() -> None:
    loop = loop_for("dqn", stabilizer="srs")
    inner, outer = make(loop), make(loop)
    twice = Stabilized(inner, outer.estimator, outer.stabilizer)
    with pytest.raises(ValueError, match="stabilized"):
        twice.update(random_batch(loop), num_examples=1_000)
    once = random_batch(loop).with_reward(torch.zeros(32))
    with pytest.raises(ValueError, match="stabilized already"):
        once.with_reward(torch.zeros(32))


@pytest.mark.parametrize("stabilizer", ["srs2", "srs2-residual"])
@pytest.mark.parametrize("agent", AGENTS)
def test_only_the_supervised_loss_moves_the_shared_embeddings(agent: str, stabilizer: str) -> None:
    loop = loop_for(agent, stabilizer=stabilizer)
    learner = fitted(loop)
    before = tables(learner)
    for seed in range(3):
        learner.agent.update(random_batch(loop, seed=seed).with_reward(torch.ones(32)), num_examples=1_000)
    assert all(torch.equal(a, b) for a, b in zip(before, tables(learner), strict=True))
    learner.fit(random_batch(loop), num_examples=1_000)
    assert not all(torch.equal(a, b) for a, b in zip(before, tables(learner), strict=True))


@pytest.mark.parametrize("agent", AGENTS)
def test_srs2_the_policy_stands_on_the_estimators_embeddings_and_srs_on_its_own(agent: str) -> None:
    for stabilizer, is_shared in (("srs2", True), ("srs", False)):
        learner = fitted(loop_for(agent, stabilizer=stabilizer))
        own = learner.policy_tensors()["embeddings.state.place"]
        embeddings = learner.estimator.embeddings
        estimators = embeddings.tables[embeddings.table_names.index("state.place")].detach().numpy()
        assert (own == estimators).all() == is_shared


@pytest.mark.parametrize("agent", AGENTS)
def test_the_residual_starts_at_nothing_and_only_the_agent_moves_it(agent: str) -> None:
    loop = loop_for(agent, stabilizer="srs2-residual")
    learner = fitted(loop)
    assert not residual(learner).any()
    learner.agent.update(random_batch(loop).with_reward(torch.ones(32)), num_examples=1_000)
    learner.agent.update(random_batch(loop).with_reward(torch.ones(32)), num_examples=1_000)
    moved = residual(learner)
    assert moved.any()
    learner.fit(random_batch(loop, seed=1), num_examples=1_000)
    assert np.allclose(residual(learner), moved, atol=1e-6)


def residual(learner: Stabilized) -> NDArray[np.float32]:
    """What the policy has and the estimator has not."""
    embeddings = learner.estimator.embeddings
    shared = embeddings.tables[embeddings.table_names.index("state.place")].detach().numpy()
    added: NDArray[np.float32] = learner.policy_tensors()["embeddings.state.place"] - shared
    return added


@pytest.mark.parametrize("stabilizer", STABILIZERS)
@pytest.mark.parametrize("agent", AGENTS)
def test_the_policy_does_what_its_agent_does(agent: str, stabilizer: str) -> None:
    loop = loop_for(agent, stabilizer=stabilizer)
    learner = fitted(loop)
    twos, none = np.full(1, 2.0, np.float32), np.zeros(0, np.float32)
    learner.rescale(NumberStatistics(twos, twos, none, none))
    for seed in range(5):
        learner.update(random_batch(loop, seed=seed), num_examples=1_000)
    batch = random_batch(loop)
    probe = ProbeStates(
        batch.state_slots.numpy(),
        batch.state_numbers.numpy(),
        batch.next_item_slots.numpy(),
        batch.next_item_numbers.numpy(),
        batch.next_mask.numpy(),
    )
    outputs = learner.act(probe)
    network = (SlateNetwork if loop.action.kind == "slate" else ActorNetwork)(loop, learner.policy_tensors())
    golden = Golden(probe.state_slots, probe.state_numbers, probe.item_slots, probe.item_numbers, outputs)
    replica = golden_outputs(network, golden)
    assert np.allclose(replica, outputs, atol=1e-5)


@pytest.mark.parametrize("stabilizer", STABILIZERS)
@pytest.mark.parametrize("agent", AGENTS)
def test_from_its_state_a_learner_goes_on_exactly_as_it_would_have(agent: str, stabilizer: str) -> None:
    loop = loop_for(agent, stabilizer=stabilizer)
    learner, other = fitted(loop), make(loop, seed=1)
    learner.update(random_batch(loop), num_examples=1_000)
    learner.observe(random_batch(loop, seed=5))
    other.load_state_dict({name: tensor.clone() for name, tensor in learner.state_dict().items()})
    for seed in range(3):
        batch = random_batch(loop, seed=seed)
        random = torch.get_rng_state()  # a part of the loop's checkpoint
        figures = learner.update(batch, 1_000)
        torch.set_rng_state(random)
        assert figures == other.update(batch, 1_000)
    assert learner.figures() == other.figures()
