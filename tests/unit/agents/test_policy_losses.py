"""Losses of policies, with numbers worked out by hand, and the probabilities of the ranker."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from policies.noise import log_density
from policies.slates import slate_propensities
from schemas.sections import GaussianExploration, SoftmaxExploration
from trainer.agents.losses import log_shares, slate_entropy
from trainer.agents.policy_losses import (
    capped_weight,
    clipped_loss,
    generalized_advantages,
    noise_log_density,
    normalized,
    slate_log_prob,
    weighted_policy_loss,
    weighted_squared_error,
)
from trainer.replay.sessions import NO_ROW

LOGITS = torch.tensor([[math.log(3.0), 0.0, 9.0]])
TWO_LEFT = torch.tensor([[True, True, False]])


def probability(epsilon: float) -> float:
    return slate_log_prob(LOGITS, TWO_LEFT, torch.tensor([0]), epsilon).exp().item()


def test_the_probability_mixes_the_softmax_with_the_uniform_over_what_is_left() -> None:
    assert probability(0.0) == pytest.approx(0.75)
    assert probability(0.2) == pytest.approx(0.8 * 0.75 + 0.2 * 0.5)
    assert probability(1.0) == pytest.approx(0.5)


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_its_gradient_is_finite_and_nothing_where_nothing_was_left(epsilon: float) -> None:
    logits = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(slate_log_prob(logits, TWO_LEFT, torch.tensor([0]), epsilon).sum(), logits)
    share = (1 - epsilon) * 0.75 * 0.25 / probability(epsilon)  # (1 − ε) p (1 − p) / π
    assert gradient[0].tolist() == pytest.approx([share, -share, 0.0], abs=1e-6)


def test_the_probabilities_of_a_slate_are_those_that_the_ranker_logs() -> None:
    scores, slate = np.random.default_rng(0).normal(size=6), [4, 0, 5]
    exploration = SoftmaxExploration(kind="softmax", temperature=0.4, epsilon=0.15)
    logits = torch.from_numpy(scores / exploration.temperature).repeat(3, 1)
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[1:, 4] = mask[2:, 0] = False
    logged = slate_propensities(scores, slate, exploration)
    found = slate_log_prob(logits, mask, torch.tensor(slate), exploration.epsilon).exp()
    assert found.tolist() == pytest.approx(logged, abs=1e-7)


def entropy(logits: Tensor, mask: Tensor) -> Tensor:
    return slate_entropy(log_shares(logits, mask), mask)


def test_the_entropy_is_that_of_what_is_left() -> None:
    assert entropy(torch.zeros(1, 3), TWO_LEFT).item() == pytest.approx(math.log(2.0))
    assert entropy(LOGITS, TWO_LEFT).item() == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    logits = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(entropy(logits, TWO_LEFT).sum(), logits)
    pull = 0.75 * 0.25 * math.log(3.0)  # −p (log p + H), which towards more entropy lowers the better one
    assert gradient[0].tolist() == pytest.approx([-pull, pull, 0.0], abs=1e-6)


@pytest.mark.parametrize("mean", [[0.0, 0.3, -0.7], [1.0, -1.0, 0.99]])
@pytest.mark.parametrize(("sd", "wide_sd", "wide_share"), [(0.05, 0.3, 0.1), (0.2, 3.0, 0.0), (1.0, 0.5, 1.0)])
def test_the_density_is_that_which_the_ranker_logs(
    mean: list[float], sd: float, wide_sd: float, wide_share: float
) -> None:
    exploration = GaussianExploration(kind="gaussian", sd=sd, wide_sd=wide_sd, wide_share=wide_share)
    actions = [[0.01, 0.25, -0.6], [1.0, -1.0, 0.5], [-0.2, 0.9, 0.0]]
    logged = [log_density(action, mean, exploration) for action in actions]
    found = noise_log_density(torch.tensor(actions).double(), torch.tensor([mean] * 3).double(), exploration)
    assert found.tolist() == pytest.approx(logged, rel=1e-6, abs=1e-5)


def test_the_density_rises_where_the_mean_moves_to_the_action() -> None:
    exploration = GaussianExploration(kind="gaussian")
    mean = torch.tensor([[0.1, -0.2]], requires_grad=True)
    found = noise_log_density(torch.tensor([[0.15, -0.25]]), mean, exploration)
    (gradient,) = torch.autograd.grad(found.sum(), mean)

    def logged(first: float) -> float:
        return log_density([0.15, -0.25], [first, -0.2], exploration)

    assert gradient[0, 0].item() == pytest.approx((logged(0.1001) - logged(0.0999)) / 2e-4, rel=1e-3)


def advantages(error: list[float], rows: list[int], next_rows: list[int], decay: float = 0.5) -> list[float]:
    found: list[float] = generalized_advantages(
        torch.tensor(error), np.array(rows), np.array(next_rows), decay
    ).tolist()
    return found


def test_an_advantage_sums_the_errors_along_its_session() -> None:
    # 7 → 3 → 5, in any order: A₅ = 4, A₃ = 2 + ½ · 4, A₇ = 1 + ½ · 4
    assert advantages([4.0, 1.0, 2.0], [5, 7, 3], [NO_ROW, 3, 5]) == [4.0, 3.0, 4.0]


def test_a_chain_that_leaves_the_batch_ends_there() -> None:
    assert advantages([1.0, 2.0], [4, 2], [9, 0]) == [1.0, 2.0]


def test_from_slate_to_slate_the_mean_counts() -> None:
    # The slate in row 1 has advantages 2 and 4 + ½ · 8 each: its mean (6 + 8) / 2 counts half in row 0.
    error, rows, next_rows = [1.0, 2.0, 4.0, 8.0], [0, 1, 1, 2], [1, 2, 2, NO_ROW]
    assert advantages(error, rows, next_rows) == [1 + 0.5 * 7, 6.0, 8.0, 8.0]


def test_long_chains_are_summed_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    rows = rng.permutation(1_000)
    error = rng.normal(size=1_000)
    expected = np.zeros(1_001)
    for row in range(999, -1, -1):  # 0 → 1 → … → 999, which ends
        expected[row] = error[row] + 0.9 * expected[row + 1]
    next_rows = np.where(rows == 999, NO_ROW, rows + 1)
    found = generalized_advantages(torch.from_numpy(error[rows]).float(), rows, next_rows, 0.9)
    assert found.numpy() == pytest.approx(expected[rows], abs=1e-4)


def test_normalized_advantages_have_mean_0_and_deviation_1() -> None:
    assert normalized(torch.tensor([1.0, 3.0])).tolist() == pytest.approx([-1.0, 1.0])
    assert normalized(torch.tensor([2.0, 2.0])).tolist() == [0.0, 0.0]


def test_the_ratio_gains_nothing_beyond_the_clip_and_still_pays() -> None:
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5, 1.1])
    log_ratio = ratio.log().requires_grad_()
    loss = clipped_loss(log_ratio, torch.tensor([1.0, 1.0, -1.0, -1.0, 1.0]), 0.2)
    assert loss.item() == pytest.approx(-(1.2 + 0.5 - 1.5 - 0.8 + 1.1) / 5)
    (gradient,) = torch.autograd.grad(loss, log_ratio)
    assert (5 * gradient).tolist() == pytest.approx([0.0, -0.5, 1.5, 0.0, -1.1])


def test_densities_of_any_size_leave_the_loss_finite() -> None:
    log_ratio = torch.tensor([800.0, -800.0], requires_grad=True)
    loss = clipped_loss(log_ratio, torch.tensor([-1.0, 1.0]), 0.2)
    (gradient,) = torch.autograd.grad(loss, log_ratio)
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_weights_are_capped_and_have_no_gradient() -> None:
    log_ratio = torch.tensor([0.5, 3.0, 900.0]).log().requires_grad_()
    weight = capped_weight(log_ratio, 2.0)
    assert weight.tolist() == pytest.approx([0.5, 2.0, 2.0])
    assert not weight.requires_grad


def test_reinforce_raises_what_was_better_than_expected() -> None:
    log_prob = torch.zeros(2, requires_grad=True)
    advantage: Tensor = torch.tensor([3.0, -1.0], requires_grad=True)
    loss = weighted_policy_loss(log_prob, torch.tensor([2.0, 0.5]), advantage)
    (gradient,) = torch.autograd.grad(loss, log_prob)
    assert gradient.tolist() == [-3.0, 0.25]
    value = torch.tensor([1.0, 2.0])
    assert weighted_squared_error(value, torch.tensor([2.0, 4.0]), torch.tensor([2.0, 0.5])).item() == 2.0
