"""The formulas, with numbers worked out by hand."""

import math

import pytest
import torch

from trainer.agents.losses import (
    actor_loss,
    bootstrapped,
    log_shares,
    mean_squared_error,
    polyak_update,
    slate_entropy,
    slate_value,
    smoothed_action,
    soft_actor_loss,
    soft_slate_value,
    tanh_gaussian_log_density,
    temperature_loss,
)

ONLINE = torch.tensor([[1.0, 3.0, 2.0]])
TARGET = torch.tensor([[10.0, 20.0, 40.0]])


def value_of(size: int, mask: tuple[bool, bool, bool] = (True, True, True)) -> float:
    return slate_value(ONLINE, TARGET, torch.tensor([mask]), torch.tensor([size])).item()


def test_for_one_item_the_online_network_chooses_and_the_target_network_values() -> None:
    assert value_of(1) == 20.0  # the target network's own maximum would be 40


def test_for_a_slate_the_future_is_the_mean_over_the_items_that_would_be_shown() -> None:
    assert value_of(2) == (20.0 + 40.0) / 2


def test_masked_candidates_are_never_chosen() -> None:
    assert value_of(1, (True, False, True)) == 40.0
    assert value_of(2, (True, False, False)) == 10.0


def test_a_slate_larger_than_the_candidates_takes_them_all() -> None:
    assert value_of(9) == pytest.approx((10.0 + 20.0 + 40.0) / 3)


def test_without_candidates_the_future_is_worth_nothing() -> None:
    assert value_of(2, (False, False, False)) == 0.0


def test_rows_of_a_batch_have_slate_sizes_of_their_own() -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    value = slate_value(ONLINE.repeat(2, 1), TARGET.repeat(2, 1), mask, torch.tensor([1, 3]))
    assert value.tolist() == pytest.approx([20.0, 70.0 / 3])


def test_the_target_bootstraps_unless_the_session_terminated() -> None:
    target = bootstrapped(
        torch.tensor([1.0, 2.0]), torch.tensor([False, True]), 0.5, torch.tensor([30.0, float("nan")])
    )
    assert target.tolist() == [16.0, 2.0]


def test_the_error_has_no_gradient_into_its_target() -> None:
    predicted = torch.tensor([1.0, 2.0], requires_grad=True)
    target = torch.tensor([0.0, 5.0], requires_grad=True)
    loss = mean_squared_error(predicted, target)
    assert loss.item() == (1.0 + 9.0) / 2
    (gradient,) = torch.autograd.grad(loss, predicted, retain_graph=True)
    assert gradient.tolist() == [1.0, -3.0]
    assert [each is None for each in torch.autograd.grad(loss, target, allow_unused=True)] == [True]


def test_the_actor_climbs_the_value_and_pays_for_large_outputs() -> None:
    z = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    assert actor_loss(torch.tensor([2.0, 4.0]), z, 0.3).item() == pytest.approx(-3.0 + 0.3 * 14.0 / 4)


def test_polyak_moves_the_target_by_a_share() -> None:
    targets = [torch.tensor([0.0, 10.0]), torch.tensor([[4.0]])]
    polyak_update(targets, [torch.tensor([1.0, 0.0]), torch.tensor([[8.0]])], 0.25)
    assert targets[0].tolist() == [0.25, 7.5]
    assert targets[1].tolist() == [[5.0]]


def test_smoothing_clips_the_noise_at_two_and_a_half_deviations_and_the_action_at_one() -> None:
    action = torch.tensor([[0.0, 0.1, 0.9, -0.9]])
    noise = torch.tensor([[1.0, -4.0, 2.0, -9.0]])  # times .2, within ± .5: .2, −.5, .4, −.5
    assert smoothed_action(action, noise, 0.2)[0].tolist() == pytest.approx([0.2, -0.4, 1.0, -1.0])
    assert torch.equal(smoothed_action(action, noise, 0.0), action)


def test_the_density_of_a_squashed_normal_is_that_of_the_normal_over_the_slope_of_tanh() -> None:
    mean, log_sd = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, math.log(2.0)]])
    density = tanh_gaussian_log_density(mean, log_sd, torch.tensor([[0.0, 3.0]])).item()
    first = math.log(1 / math.sqrt(2 * math.pi))  # at its mean, where tanh has slope 1
    second = math.log(math.exp(-0.5) / (2 * math.sqrt(2 * math.pi))) - math.log(1 - math.tanh(3.0) ** 2)
    assert density == pytest.approx(first + second, abs=1e-5)


def test_the_density_of_a_squashed_normal_is_one_in_sum() -> None:
    z = torch.linspace(-8, 8, 20_001)
    ones = torch.ones(20_001, 1)
    density = tanh_gaussian_log_density(0.3 * ones, -0.7 * ones, z.unsqueeze(1)).exp()
    assert torch.trapezoid(density, torch.tanh(z)).item() == pytest.approx(1.0, abs=1e-3)


def test_the_density_is_finite_where_tanh_rounds_to_one() -> None:
    z = torch.tensor([[20.0]])
    # log N = −½ log 2π, and log(1 − tanh² 20) = log 4 − 40
    assert tanh_gaussian_log_density(z, torch.zeros(1, 1), z).item() == pytest.approx(-0.9189385 - math.log(4.0) + 40.0)


def test_the_soft_actor_pays_for_being_certain_by_the_temperature() -> None:
    value, log_density = torch.tensor([2.0, 4.0]), torch.tensor([1.0, -3.0])
    mean = torch.tensor([[1.0], [3.0]])
    # α · (1 − 3) / 2 − (2 + 4) / 2 + .1 · (1 + 9) / 2
    assert soft_actor_loss(value, log_density, torch.tensor(0.5), mean, 0.1).item() == pytest.approx(-0.5 - 3.0 + 0.5)


def test_the_temperature_rises_where_there_is_too_little_entropy() -> None:
    log = torch.tensor(-2.0, requires_grad=True)
    entropy = torch.tensor([0.5, 1.5], requires_grad=True)
    loss = temperature_loss(log, entropy, 1.75)
    assert loss.item() == pytest.approx(-2.0 * (1.0 - 1.75))
    (gradient,) = torch.autograd.grad(loss, log, retain_graph=True)
    assert gradient.item() == pytest.approx(-0.75)  # descended: log α rises
    assert [each is None for each in torch.autograd.grad(loss, entropy, allow_unused=True)] == [True]
    assert temperature_loss(log, entropy, torch.tensor([0.5, 0.5])).item() == pytest.approx(-2.0 * 0.5)


# Shares ¼, ¾ of two candidates; the third is none; and a row without any.
LOGITS = torch.tensor([[0.0, math.log(3.0), 50.0], [1.0, 2.0, 3.0]])
MASK = torch.tensor([[True, True, False], [False, False, False]])
ENTROPY = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)


def test_shares_are_over_the_candidates_alone() -> None:
    logs = log_shares(LOGITS, MASK)
    assert logs[0].exp().tolist() == pytest.approx([0.25, 0.75, 1.0])  # the last is not to be counted
    assert logs[1].tolist() == [0.0, 0.0, 0.0]


def test_the_entropy_of_a_slate_is_over_the_candidates_alone() -> None:
    assert slate_entropy(log_shares(LOGITS, MASK), MASK).tolist() == pytest.approx([ENTROPY, 0.0])


def test_the_soft_value_of_a_slate_is_expected_value_and_entropy() -> None:
    q = torch.tensor([[4.0, 8.0, float("nan")], [1.0, 2.0, 3.0]])
    value = soft_slate_value(q, log_shares(LOGITS, MASK), MASK, torch.tensor(0.5))
    assert value.tolist() == pytest.approx([0.25 * 4.0 + 0.75 * 8.0 + 0.5 * ENTROPY, 0.0])


def test_the_soft_value_is_greatest_for_the_softmax_of_q() -> None:
    q = torch.tensor([[0.3, -0.2, 0.5]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    logits = (q / 0.2).requires_grad_()
    value = soft_slate_value(q, log_shares(logits, mask), mask, torch.tensor(0.2))
    assert value.item() == pytest.approx(0.2 * torch.logsumexp(q[0] / 0.2, 0).item())
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient.abs().max().item() < 1e-6


def test_masked_candidates_and_empty_rows_give_finite_gradients() -> None:
    logits = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        soft_slate_value(torch.ones(2, 3), log_shares(logits, MASK), MASK, torch.tensor(0.5)).sum(), logits
    )
    assert gradient[0, 0].item() != 0
    assert gradient[~MASK].tolist() == [0.0] * 4
