"""The average of an estimator's weights: its formula, and that its estimates are steadier."""

import pytest
import torch

from tests.unit.agents.batches import random_batch, slate_loop
from trainer.embeddings import Embeddings
from trainer.rewards.mlp import MlpEstimator
from trainer.rewards.reward_network import RewardModel, RewardNetwork
from trainer.rewards.weight_average import WeightAverage


def model() -> tuple[Embeddings, RewardModel]:
    torch.manual_seed(0)
    loop = slate_loop()
    embeddings = Embeddings(loop)
    return embeddings, RewardNetwork(loop, embeddings)


def set_all(embeddings: Embeddings, network: RewardModel, value: float) -> None:
    with torch.no_grad():
        for each in (*embeddings.parameters(), *network.parameters()):
            each.fill_(value)


def followed(weights: list[float]) -> list[float]:
    """The average after each of these weights."""
    embeddings, network = model()
    average, seen = WeightAverage(embeddings, network), []
    for weight in weights:
        set_all(embeddings, network, weight)
        average.follow()
        values = torch.cat([each.flatten() for each in average.parameters()])
        assert values.max() - values.min() < 1e-5
        seen.append(values[0].item())
    return seen


def test_at_first_it_is_the_model() -> None:
    embeddings, network = model()
    average = WeightAverage(embeddings, network)
    set_all(embeddings, network, 0.3)
    average.follow()
    batch = random_batch(slate_loop())
    assert torch.allclose(average(batch), network(embeddings, batch), rtol=1e-6)


def test_it_averages_by_polynomial_decay() -> None:
    """Shamir and Zhang 2013 with η = 2: weights of 1 · 2, 2 · 3, 3 · 4, …"""
    assert followed([1.0, 2.0, 4.0]) == pytest.approx(
        [1.0, (2 * 1 + 6 * 2) / 8, (2 * 1 + 6 * 2 + 12 * 4) / 20], rel=1e-5
    )


def test_it_goes_on_forgetting() -> None:
    """After many steps a change still gets through within some hundreds more."""
    seen = followed([1.0] * 2_000 + [2.0] * 500)
    assert seen[1_999] == pytest.approx(1.0, rel=1e-4)
    assert seen[-1] == pytest.approx(2.0 - 0.99**500, rel=1e-3)


def test_it_moves_less_from_step_to_step_than_the_newest_weights() -> None:
    loop = slate_loop()
    torch.manual_seed(0)
    estimator = MlpEstimator(loop)
    newest, average = (estimator.state_dict()[name] for name in ("embeddings.rows", "average.embeddings.rows"))
    paths = {id(each): 0.0 for each in (newest, average)}
    for seed in range(300):
        before = [(each, each.clone()) for each in (newest, average)]
        estimator.update(random_batch(loop, seed=seed), num_examples=10_000)
        for each, old in before:
            paths[id(each)] += (each - old).norm().item() * (seed >= 200)
    assert paths[id(average)] < 0.3 * paths[id(newest)]


def test_estimates_are_those_of_the_average() -> None:
    batch = random_batch(slate_loop())
    estimator = MlpEstimator(slate_loop())
    for _ in range(50):
        estimator.update(batch, num_examples=100)
    assert estimator.predict(batch).std() > 0.01
    for name, tensor in estimator.state_dict().items():
        if name.startswith("average.network."):
            tensor.zero_()
    assert estimator.predict(batch).std() < 1e-6
