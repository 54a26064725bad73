"""The meter's figures, worked out by hand."""

import pytest
import torch

from trainer.rewards.noise_meter import NoiseMeter


def figures_of(reward: list[float], estimate: list[float]) -> dict[str, float]:
    meter = NoiseMeter()
    meter.observe(torch.tensor(reward), torch.tensor(estimate))
    return meter.figures()


def test_figures_by_hand() -> None:
    figures = figures_of([0.0, 0.0, 2.0, 2.0], [0.5, 1.0, 1.0, 1.5])
    assert figures == pytest.approx(
        {
            "reward_mean": 1.0,
            "estimate_mean": 1.0,
            "reward_variance": 1.0,
            "estimate_variance": 0.125,
            "noise_share": 0.875,
            "reward_correlation": 0.25 / 0.125**0.5,
            "calibration_slope": 0.25 / 0.125,
        }
    )


def test_a_perfect_estimator_finds_no_noise() -> None:
    assert figures_of([0.0, 1.0, 3.0], [0.0, 1.0, 3.0])["noise_share"] == pytest.approx(0.0, abs=1e-12)


def test_estimates_that_spread_more_than_the_rewards_do_not_make_a_negative_share() -> None:
    assert figures_of([0.0, 1.0], [-5.0, 5.0])["noise_share"] == 0.0


def test_constant_rewards_have_no_share_and_constant_estimates_no_correlation() -> None:
    assert "noise_share" not in figures_of([1.0, 1.0], [0.0, 1.0])
    figures = figures_of([0.0, 1.0], [0.5, 0.5])
    assert figures["noise_share"] == 1.0
    assert "reward_correlation" not in figures


def test_nothing_is_said_before_anything_was_seen() -> None:
    assert NoiseMeter().figures() == {}


def test_old_impressions_fade() -> None:
    meter = NoiseMeter()
    meter.observe(torch.full((5_000,), 10.0), torch.zeros(5_000))
    meter.observe(torch.zeros(5_000), torch.zeros(5_000))
    assert meter.figures()["reward_mean"] == pytest.approx(10.0 / 3)  # weights 1/2 and 1


def test_large_rewards_with_a_small_spread_keep_their_variance() -> None:
    figures = figures_of([1e5, 1e5 + 1.0], [1e5, 1e5])
    assert figures["reward_variance"] == pytest.approx(0.25, rel=1e-3)


def test_a_meter_goes_on_from_its_state() -> None:
    meter = NoiseMeter()
    meter.observe(torch.tensor([0.0, 1.0]), torch.tensor([0.2, 0.7]))
    other = NoiseMeter()
    other.load_state_dict(meter.state_dict())
    assert other.figures() == meter.figures()
