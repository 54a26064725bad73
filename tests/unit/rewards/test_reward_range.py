"""Rewards of any scale become soft labels, and logits become rewards."""

import math

import pytest
import torch

from trainer.rewards.reward_range import RewardRange

ZERO = torch.zeros(1)


def range_of(*rewards: float) -> RewardRange:
    observed = RewardRange()
    observed.observe(torch.tensor(rewards))
    return observed


def test_before_any_reward_the_estimate_is_zero() -> None:
    observed = RewardRange()
    assert not observed.is_open
    assert observed.estimate(torch.tensor([3.0])).tolist() == [0.0]


def test_while_all_rewards_are_the_same_that_one_is_the_estimate() -> None:
    observed = range_of(2.0, 2.0)
    assert not observed.is_open
    assert observed.estimate(torch.tensor([3.0])).tolist() == [2.0]


def test_a_model_that_knows_nothing_estimates_the_mean() -> None:
    observed = range_of(0.0, 0.0, 0.0, 1.0)
    assert observed.is_open
    assert observed.estimate(ZERO).item() == pytest.approx(0.25)


def test_estimates_never_leave_the_range_that_was_seen() -> None:
    observed = range_of(-2.0, 4.0)
    assert observed.estimate(torch.tensor([-40.0, 40.0])).tolist() == pytest.approx([-2.0, 4.0])


def test_the_loss_of_clicks_is_the_cross_entropy() -> None:
    observed = range_of(0.0, 1.0)  # mean .5, so no offset
    loss = observed.loss(torch.tensor([math.log(3.0), 0.0]), torch.tensor([1.0, 0.0]))
    assert loss.item() == pytest.approx((-math.log(0.75) - math.log(0.5)) / 2)


def test_the_loss_is_least_at_the_mean_reward() -> None:
    rewards = torch.tensor([0.0, 1.0, 5.0])
    observed = range_of(*rewards.tolist())
    logits = torch.linspace(-1.0, 1.0, 201)
    losses = [observed.loss(logit.expand(3), rewards).item() for logit in logits]
    best = logits[losses.index(min(losses))]
    assert observed.estimate(best.reshape(1)).item() == pytest.approx(2.0, abs=0.02)


def test_a_larger_reward_than_any_before_leaves_the_mean_estimate_where_it_is() -> None:
    observed = range_of(0.0, 0.0, 0.0, 1.0)
    observed.observe(torch.tensor([0.0, 0.0, 0.0, 5.0]))
    assert observed.high.item() == 5.0
    assert observed.estimate(ZERO).item() == pytest.approx((1.0 + 5.0) / 8)


def test_rewards_within_the_range_move_nothing() -> None:
    observed = range_of(0.0, 1.0)
    observed.observe(torch.tensor([1.0, 1.0, 1.0, 1.0]))
    assert observed.estimate(ZERO).item() == pytest.approx(0.5)
    assert observed.mean.item() == pytest.approx(5 / 6)
