"""What each head loses and expects, with numbers worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from trainer.rewards.heads import HEADS, MAX_COUNT, RewardHead


def head_of(name: str, *rewards: float) -> RewardHead:
    head = HEADS[name]()
    if rewards:
        head.observe(torch.tensor(rewards))
    return head


def zeros(head: RewardHead, num: int = 1) -> Tensor:
    return torch.zeros(num, head.num_outputs)


@pytest.mark.parametrize("name", HEADS)
def test_before_any_reward_the_estimate_is_zero(name: str) -> None:
    head = head_of(name)
    assert not head.is_open
    assert head.estimate(zeros(head, 3)).tolist() == [0.0] * 3


@pytest.mark.parametrize("name", HEADS)
def test_while_all_rewards_are_the_same_that_one_is_the_estimate(name: str) -> None:
    head = head_of(name, 2.0, 2.0)
    assert not head.is_open
    assert head.estimate(zeros(head)).tolist() == [2.0]


@pytest.mark.parametrize("name", [name for name in HEADS if name != "ziln"])
def test_a_network_that_knows_nothing_estimates_the_mean(name: str) -> None:
    head = head_of(name, 0.0, 0.0, 1.0, 3.0)
    assert head.estimate(zeros(head)).item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("name", HEADS)
def test_the_loss_is_least_at_the_mean_reward(name: str) -> None:
    rewards = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 4.0])
    head = head_of(name, *rewards.tolist(), 0.0, 0.0, 9.0)
    outputs = zeros(head).requires_grad_()
    optimizer = torch.optim.SGD([outputs], lr=0.5)
    for _ in range(2_000):
        optimizer.zero_grad()
        head.loss(outputs.expand(6, -1), rewards).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    # A lognormal has its mean by its own formula: ln 1, ln 1, ln 4 have mean .4621 and variance .4271.
    expected = 0.5 * math.exp(0.4621 + 0.4271 / 2) if name == "ziln" else 1.0
    assert head.estimate(outputs.detach()).item() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("name", HEADS)
def test_estimates_of_absurd_outputs_stay_within_reach_of_the_rewards(name: str) -> None:
    head = head_of(name, 0.0, 1.0, 2.0, 5.0)
    outputs = torch.full((2, head.num_outputs), 40.0)
    estimates = head.estimate(outputs * torch.tensor([[1.0], [-1.0]]))
    assert estimates.isfinite().all()
    if name != "gaussian":  # which is linear in its output
        assert estimates.min() >= 0.0
        assert estimates.max() <= 5.0 + 1e-4


@pytest.mark.parametrize("name", HEADS)
def test_from_its_state_a_head_goes_on(name: str) -> None:
    head, other = head_of(name, 0.0, 1.0, 3.0), head_of(name, 0.0, 7.0)
    other.load_state_dict({key: value.clone() for key, value in head.state_dict().items()})
    for each in (head, other):
        each.observe(torch.tensor([2.0, 2.0]))
    outputs = torch.randn(4, head.num_outputs)
    assert torch.equal(head.estimate(outputs), other.estimate(outputs))


def test_the_gaussian_loss_by_hand() -> None:
    head = head_of("gaussian", 0.0, 4.0)  # mean 2, deviation 2
    # Standardised rewards: −1 and 1; outputs 0 and .5: ½ (1 + .25) / 2.
    loss = head.loss(torch.tensor([[0.0], [0.5]]), torch.tensor([0.0, 4.0]))
    assert loss.item() == pytest.approx(0.3125)
    assert head.estimate(torch.tensor([[0.5]])).item() == pytest.approx(3.0)


def test_the_moments_of_batches_are_those_of_all() -> None:
    head = head_of("gaussian", 0.0, 1.0)
    head.observe(torch.tensor([5.0, 6.0, 8.0]))  # all five: mean 4, squared deviations 16 + 9 + 1 + 4 + 16 = 46
    assert head.estimate(torch.tensor([[0.0], [1.0]])).tolist() == pytest.approx([4.0, 4.0 + math.sqrt(46 / 5)])


def test_the_poisson_loss_by_hand() -> None:
    head = head_of("poisson", 0.0, 4.0)  # mean 2: an output of 0 is a rate of 2
    # (2 − 3 ln 2) / 2
    assert head.loss(torch.zeros(1, 1), torch.tensor([3.0])).item() == pytest.approx((2 - 3 * math.log(2)) / 2)
    assert head.estimate(torch.tensor([[math.log(0.5)]])).item() == pytest.approx(1.0)


def test_the_categorical_loss_by_hand() -> None:
    head = head_of("categorical", 0.0, 0.0, 0.0, 2.0)  # shares .75 of 0 and .25 of 2
    outputs = zeros(head)
    outputs[0, 2] = math.log(3.0)  # now both weigh .75
    assert head.loss(outputs, torch.tensor([2.0])).item() == pytest.approx(math.log(2.0), abs=1e-4)
    assert head.estimate(outputs).item() == pytest.approx(1.0, abs=1e-3)


def test_categories_end_at_fifteen() -> None:
    head = head_of("categorical", 0.0, 0.0, 0.0, 100.0)
    assert head.estimate(zeros(head)).item() == pytest.approx(MAX_COUNT / 4, abs=1e-2)


def test_the_zero_inflated_lognormal_by_hand() -> None:
    e = math.e
    head = head_of("ziln", 0.0, 0.0, 1.0, e**2)  # p = ½; logs 0 and 2: mean 1, deviation 1; outputs of 0: σ = 1 + .05
    # A sale of e: ln 2 + ln 1.05. None: ln 2. Their mean:
    loss = head.loss(zeros(head, 2), torch.tensor([e, 0.0]))
    assert loss.item() == pytest.approx(math.log(2.0) + math.log(1.05) / 2, abs=1e-5)
    assert head.estimate(zeros(head)).item() == pytest.approx(0.5 * math.exp(1 + 1.05**2 / 2), abs=1e-4)
