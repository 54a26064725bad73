"""Adam's steps, by hand."""

import pytest
import torch

from trainer.adam import Adam


def test_the_first_step_is_the_learning_rate_whatever_the_gradient() -> None:
    x = torch.tensor([3.0, -2.0], requires_grad=True)
    adam = Adam([x], learning_rate=0.1)
    adam.differentiate((x * torch.tensor([100.0, -0.01])).sum())
    assert x.tolist() == [3.0, -2.0]
    adam.step()
    assert x.tolist() == pytest.approx([2.9, -1.9])


def test_it_takes_the_steps_of_the_paper() -> None:
    x = torch.tensor([1.0], requires_grad=True)
    adam = Adam([x], learning_rate=0.05)
    by_hand, mean, square = 1.0, 0.0, 0.0
    for step, target in enumerate((0.0, 5.0, -3.0, 1.0), start=1):
        adam.differentiate((x - target).square().sum())
        adam.step()
        gradient = 2 * (by_hand - target)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        by_hand -= 0.05 * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)) ** 0.5 + 1e-8)
    assert x.item() == pytest.approx(by_hand)


def test_parameters_of_others_get_no_gradient_and_unused_ones_stay() -> None:
    own, others, unused = (torch.ones(1, requires_grad=True) for _ in range(3))
    adam = Adam([own, unused], 0.1)
    adam.differentiate((own * others).sum())
    adam.step()
    assert (own.item(), others.item(), unused.item()) == pytest.approx((0.9, 1.0, 1.0))
    assert others.grad is None


def test_a_new_learning_rate_counts_after_a_restart() -> None:
    x = torch.ones(1, requires_grad=True)
    before, after = Adam([x], 0.1), Adam([x], 0.01)
    before.differentiate(x.sum())
    before.step()
    after.load_state_dict(before.state_dict())
    after.differentiate(x.sum())
    after.step()
    assert x.item() == pytest.approx(1.0 - 0.1 - 0.01)
