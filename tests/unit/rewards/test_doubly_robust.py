"""The correction by hand."""

import pytest
import torch

from tests.unit.agents.batches import batch_of, slate_loop, weights_loop
from trainer.rewards.doubly_robust import DoublyRobust
from trainer.rewards.mlp import MlpEstimator


def test_the_correction_by_hand() -> None:
    # The mean of 1 / p is (2 + 2 + 2 + 10) / 4 = 4 candidates: c = min(1, .25 / p) = .5 and 1. An estimator that has
    # seen nothing says 0.
    loop = slate_loop()
    batch = batch_of(loop, 4, reward=torch.ones(4), propensity=torch.tensor([0.5, 0.5, 0.5, 0.1]))
    rewards = DoublyRobust().rewards(batch, MlpEstimator(loop))
    assert rewards.tolist() == pytest.approx([0.5, 0.5, 0.5, 1.0])


def test_under_the_uniform_policy_rewards_stay_as_they_are() -> None:
    loop = slate_loop()
    batch = batch_of(loop, 3, reward=torch.tensor([1.0, 0.0, 2.0]), propensity=torch.full((3,), 0.1))
    assert DoublyRobust().rewards(batch, MlpEstimator(loop)).tolist() == pytest.approx([1.0, 0.0, 2.0])


def test_densities_of_any_size_have_a_finite_correction() -> None:
    loop = weights_loop()
    batch = batch_of(loop, 3, reward=torch.ones(3), log_density=torch.tensor([500.0, 0.0, -500.0]))
    assert DoublyRobust().rewards(batch, MlpEstimator(loop)).tolist() == pytest.approx([0.0, 0.0, 1.0])
