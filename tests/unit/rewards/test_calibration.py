"""Calibration: its error by hand, and maps that find what was done to the estimates."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.unit.agents.batches import random_batch, slate_loop
from trainer.replay.batch import TransitionBatch
from trainer.rewards.calibrated import MIN_FRESH, WINDOW, Calibrated, RisingMap, Window
from trainer.rewards.calibration import (
    CALIBRATIONS,
    NUM_KNOTS,
    fit_sharpness,
    isotonic_knots,
    reliability,
)
from trainer.rewards.mlp import MlpEstimator

Floats = NDArray[np.float64]


def logit(p: Floats) -> Floats:
    return np.log(p / (1 - p))


def sigmoid(z: Floats) -> Floats:
    return 1 / (1 + np.exp(-z))


def overconfident(num: int, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Estimates spread twice too far in the logit about that of 10 %, rewards and the truth, [n]."""
    rng = np.random.default_rng(seed)
    centre = logit(np.array(0.1))
    deviation = 0.6 * rng.standard_normal(num)
    truth = sigmoid(centre + deviation)
    return sigmoid(centre + 2 * deviation), (rng.random(num) < truth).astype(np.float64), truth


def test_the_error_by_hand() -> None:
    estimate = np.array([0.9, 0.1, 0.3, 0.7])
    reward = np.array([1.0, 0.0, 1.0, 0.0])
    found = reliability(estimate, reward, num_bins=2)  # {.1, .3} with mean reward .5 and {.7, .9} with .5
    assert found.estimate.tolist() == pytest.approx([0.2, 0.8])
    assert found.reward.tolist() == pytest.approx([0.5, 0.5])
    assert found.count.tolist() == [2, 2]
    assert found.error == pytest.approx(0.3)


def test_bins_hold_as_many_impressions_each_and_rewards_may_be_of_any_range() -> None:
    estimate = np.array([-5.0, 100.0, 101.0, 102.0, 103.0])
    found = reliability(estimate, estimate + 2.0, num_bins=2)
    assert found.count.tolist() == [3, 2]
    assert found.error == pytest.approx(2.0)
    assert reliability(estimate, estimate, num_bins=15).count.tolist() == [1] * 5


def test_the_temperature_is_found() -> None:
    estimate, reward, _ = overconfident(40_000)
    centre = float(logit(reward.mean()))
    assert fit_sharpness(logit(estimate) - centre, reward, centre) == pytest.approx(0.5, abs=0.05)


def test_the_sharpness_by_hand() -> None:
    # Of two at deviation 1 with labels 1 and ½ the mean is ¾ = σ(ln 3), so 1 / T = ln 3.
    found = fit_sharpness(np.array([1.0, 1.0]), np.array([1.0, 0.5]), 0.0)
    assert found == pytest.approx(np.log(3.0))
    assert fit_sharpness(np.array([1.0]), np.array([0.0]), 0.0) == 0.0  # never below: the order would turn round


@pytest.mark.parametrize("name", CALIBRATIONS)
@pytest.mark.parametrize(("size", "low"), [(1.0, 0.0), (100.0, -20.0)])
def test_maps_take_the_error_away_for_rewards_of_any_range(name: str, size: float, low: float) -> None:
    estimate, reward, _ = overconfident(WINDOW)
    x, y = CALIBRATIONS[name](low + size * estimate, low + size * reward)
    assert x.shape == y.shape == (NUM_KNOTS,)
    assert (np.diff(y) >= -1e-9).all()
    fresh, _, truth = overconfident(20_000, seed=1)
    mapped = np.interp(low + size * fresh, x, y)
    assert reliability(low + size * fresh, low + size * truth).error > 0.02 * size
    assert reliability(mapped, low + size * truth).error < 0.01 * size


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_rewards_that_are_all_alike_do_no_harm(name: str) -> None:
    _, y = CALIBRATIONS[name](np.linspace(0, 1, 50), np.zeros(50))
    assert np.isfinite(y).all()


def test_isotonic_pools_what_falls() -> None:
    x, y = isotonic_knots(np.array([0.0, 1.0, 2.0]), np.array([1.0, 0.0, 3.0]))
    assert np.interp([0.0, 0.9, 2.0], x, y) == pytest.approx([0.5, 0.5, 3.0], abs=0.05)


def test_the_map_is_linear_between_knots_and_constant_beyond() -> None:
    rising = RisingMap()
    assert rising(torch.tensor([7.0])).tolist() == [7.0]
    rising.put(np.linspace(0.0, 63.0, NUM_KNOTS), np.linspace(0.0, 126.0, NUM_KNOTS))
    assert rising(torch.tensor([-3.0, 0.5, 10.0, 99.0])).tolist() == pytest.approx([0.0, 1.0, 20.0, 126.0])


def test_the_window_keeps_the_newest() -> None:
    window = Window()
    for start in range(0, WINDOW + 1_000, 1_000):
        numbers = torch.arange(start, start + 1_000, dtype=torch.float32)
        window.put(numbers, -numbers)
    estimate, reward = window.pairs()
    assert len(estimate) == WINDOW
    assert estimate.max() == window.num_seen - 1
    assert estimate.min() == window.num_seen - WINDOW
    assert torch.equal(estimate, -reward)


class Overconfident(MlpEstimator):
    """Its estimates are those in the batch's propensities."""

    def predict(self, batch: TransitionBatch) -> Tensor:
        return batch.propensity


def fresh_batch(num: int, seed: int) -> TransitionBatch:
    estimate, reward, _ = overconfident(num, seed)
    batch = random_batch(slate_loop(), num, seed=seed)
    estimates, rewards = torch.from_numpy(estimate).float(), torch.from_numpy(reward).float()
    return replace(batch, propensity=estimates, reward=rewards)


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_it_is_learned_from_fresh_impressions(name: str) -> None:
    calibrated = Calibrated(Overconfident(slate_loop()), CALIBRATIONS[name])
    probe = fresh_batch(20_000, seed=99)
    truth = overconfident(20_000, seed=99)[2]
    calibrated.observe(fresh_batch(MIN_FRESH - 1, seed=0))
    assert torch.equal(calibrated.predict(probe), probe.propensity)
    for seed in range(1, 9):
        calibrated.observe(fresh_batch(1_000, seed))
    assert reliability(calibrated.predict(probe).double().numpy(), truth).error < 0.01
