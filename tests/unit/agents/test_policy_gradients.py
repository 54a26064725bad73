"""PPO and REINFORCE learn what is known, from the probabilities that the ranker logs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.networks import ActorNetwork, SlateNetwork
from policies.noise import draw_action
from policies.slates import slate_propensities
from schemas.loop_file import Loop
from schemas.sections import GaussianExploration, SoftmaxExploration
from tests.unit.agents.batches import batch_of, random_batch, slate_loop, weights_loop
from trainer.agents.ppo import PpoAgent
from trainer.agents.reinforce import ReinforceAgent
from trainer.agents.view import View
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates

Agent = PpoAgent | ReinforceAgent
AGENTS: dict[str, type[PpoAgent | ReinforceAgent]] = {"ppo": PpoAgent, "reinforce": ReinforceAgent}
BEST = torch.tensor([[0.5, -0.3], [-0.6, 0.2]])  # in place 0, in place 1


def agent_of(loop: Loop) -> Agent:
    torch.manual_seed(0)
    return AGENTS[loop.learner.agent](loop, View.own(loop))


def taught(loop: Loop) -> Agent:
    agent = agent_of(loop)
    for seed in range(20):
        agent.update(random_batch(loop, num=64, width=5, seed=seed), 1_000)
    return agent


@pytest.mark.parametrize("name", AGENTS)
def test_on_data_of_its_own_policy_the_ratio_of_a_slate_is_1(name: str) -> None:
    """Slates of three of five, scored by the policy's tensors as the ranker scores them."""
    exploration = SoftmaxExploration(kind="softmax", temperature=0.3, epsilon=0.1)
    loop = slate_loop(agent=name, learning_rate=3e-2).model_copy(update={"exploration": exploration})
    agent = taught(loop)
    batch = random_batch(loop, num=3, width=5)
    batch = replace(batch, **{key: getattr(batch, key)[:1].repeat_interleave(3, 0) for key in _OF_DECISION})
    slate = [4, 0, 2]
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1:, 4] = mask[2:, 0] = False
    network = SlateNetwork(loop, agent.policy_tensors())
    state = network.state_vectors(batch.state_slots[0].numpy(), batch.state_numbers[0].numpy())
    items = network.item_vectors(batch.candidate_slots[0].numpy(), batch.candidate_numbers[0].numpy())
    scores = network.scores(state, items)
    assert np.ptp(scores) > 0.1
    logged = torch.tensor(slate_propensities(scores, slate, exploration))
    fresh = replace(batch, propensity=logged, candidate_mask=mask, chosen=torch.tensor(slate))
    assert agent._policy.judge(fresh).log_ratio.tolist() == pytest.approx([0.0] * 3, abs=1e-5)


_OF_DECISION = ("state_slots", "state_numbers", "candidate_slots", "candidate_numbers")


@pytest.mark.parametrize("name", AGENTS)
def test_on_data_of_its_own_policy_the_ratio_of_an_action_is_1(name: str) -> None:
    loop = weights_loop(agent=name, learning_rate=1e-2)
    assert isinstance(loop.exploration, GaussianExploration)
    agent = taught(loop)
    batch = random_batch(loop, num=20)
    network = ActorNetwork(loop, agent.policy_tensors())
    states = zip(batch.state_slots.numpy(), batch.state_numbers.numpy(), strict=True)
    drawn = [draw_action(network.action(*state), loop.exploration, seed) for seed, state in enumerate(states)]
    fresh = replace(
        batch,
        action=torch.tensor([each.action for each in drawn]),
        log_density=torch.tensor([each.log_density for each in drawn]),
    )
    assert agent._policy.judge(fresh).log_ratio.tolist() == pytest.approx([0.0] * 20, abs=2e-4)


def slate_bandit(loop: Loop, generator: torch.Generator, num: int = 64) -> TransitionBatch:
    """Of items 1 to 4, drawn uniformly, item 1 pays in place 0 and item 3 in place 1."""
    place = torch.randint(0, 2, (num,), generator=generator)
    chosen = torch.randint(0, 4, (num,), generator=generator)
    return batch_of(
        loop,
        num,
        state_slots=1 + place.unsqueeze(1),
        candidate_slots=torch.arange(1, 5).repeat(num, 1).unsqueeze(2),
        candidate_numbers=torch.zeros(num, 4, 0),
        candidate_mask=torch.ones(num, 4, dtype=torch.bool),
        chosen=chosen,
        propensity=torch.full((num,), 0.25),
        reward=(chosen == 2 * place).float(),
    )


def both_places(loop: Loop, num_items: int) -> ProbeStates:
    slots = np.arange(1, num_items + 1)[None, :, None].repeat(2, axis=0)
    return ProbeStates(
        state_slots=np.array([[1], [2]]),
        state_numbers=np.zeros((2, 1), np.float32),
        item_slots=slots if loop.action.kind == "slate" else np.zeros((2, 0, 0), np.int64),
        item_numbers=np.zeros((2, num_items, 0), np.float32),
        mask=np.ones((2, num_items), np.bool_),
    )


@pytest.mark.parametrize("name", AGENTS)
def test_it_finds_the_best_item_of_each_state_of_a_bandit(name: str) -> None:
    loop = slate_loop(agent=name, learning_rate=1e-2, id_penalty=0.0)
    agent, generator = agent_of(loop), torch.Generator().manual_seed(1)
    for _ in range({"ppo": 40, "reinforce": 300}[name]):
        agent.update(slate_bandit(loop, generator), num_examples=1_000)
    assert agent.act(both_places(loop, 4)).argmax(axis=1).tolist() == [0, 2]


@pytest.mark.parametrize("name", AGENTS)
def test_it_moves_towards_the_best_action_of_each_state_of_a_bandit(name: str) -> None:
    """Fresh actions around its mean, one decision each; the reward is 1 − |a − best|²."""
    loop = weights_loop(agent=name, learning_rate=2e-2, action_penalty=0.0)
    loop = loop.model_copy(update={"exploration": GaussianExploration(kind="gaussian", sd=0.2)})
    assert isinstance(loop.exploration, GaussianExploration)
    agent, generator = agent_of(loop), torch.Generator().manual_seed(1)
    for step in range(60):
        means = agent.act(both_places(loop, 0))
        place = torch.randint(0, 2, (64,), generator=generator)
        drawn = [draw_action(means[p], loop.exploration, 100 * step + i) for i, p in enumerate(place.tolist())]
        action = torch.tensor([each.action for each in drawn])
        reward = 1 - (action - BEST[place]).square().sum(dim=1)
        log_density = torch.tensor([each.log_density for each in drawn])
        slots = 1 + place.unsqueeze(1)
        batch = batch_of(loop, 64, state_slots=slots, action=action, reward=reward, log_density=log_density)
        agent.update(batch, num_examples=1_000)
    loss = np.square(agent.act(both_places(loop, 0)) - BEST.numpy()).sum(axis=1)  # of 0.34 and 0.4 that playing 0 loses
    assert (loss < 0.08).all()


@pytest.mark.parametrize("name", AGENTS)
def test_before_it_learns_it_prefers_nothing(name: str) -> None:
    for loop in (slate_loop(agent=name), weights_loop(agent=name)):
        assert not agent_of(loop).act(both_places(loop, 3)).any()


@pytest.mark.parametrize("name", AGENTS)
def test_the_value_bootstraps_from_the_next_state_unless_terminated(name: str) -> None:
    loop = slate_loop(agent=name, discount=0.5, learning_rate=3e-2, polyak=0.1, epochs=1)
    agent = agent_of(loop)
    batch = batch_of(
        loop,
        2,
        state_slots=torch.tensor([[1], [2]]),
        reward=torch.tensor([0.0, 2.0]),
        next_state_slots=torch.tensor([[2], [0]]),
        terminated=torch.tensor([False, True]),
    )
    for _ in range(200):
        agent.update(batch, num_examples=1_000)
    value = agent._policy.value(batch.state_slots, batch.state_numbers).tolist()
    assert value == pytest.approx([1.0, 2.0], abs=0.05)


def test_ppo_takes_every_impression_in_each_epoch() -> None:
    agent = agent_of(slate_loop(agent="ppo", epochs=3, minibatch_size=16))
    assert isinstance(agent, PpoAgent)
    parts = list(agent._minibatches(50))
    assert [len(part) for part in parts] == [17, 17, 16] * 3
    passes = [sorted(np.concatenate(parts[i : i + 3]).tolist()) for i in (0, 3, 6)]
    assert passes == [list(range(50))] * 3
    assert parts[0].tolist() != parts[3].tolist()


def test_more_weight_of_entropy_keeps_a_slate_more_random() -> None:
    def spread(entropy_weight: float) -> float:
        loop = slate_loop(agent="reinforce", learning_rate=1e-2, id_penalty=0.0, entropy_weight=entropy_weight)
        agent, generator = agent_of(loop), torch.Generator().manual_seed(1)
        for _ in range(120):
            agent.update(slate_bandit(loop, generator), num_examples=1_000)
        return float(np.ptp(agent.act(both_places(loop, 4))))

    assert spread(3.0) < 0.5 * spread(0.0)
