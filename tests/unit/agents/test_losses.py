"""The formulas, with numbers worked out by hand."""

import pytest
import torch

from trainer.agents.losses import actor_loss, bootstrapped, mean_squared_error, polyak_update, slate_value

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
