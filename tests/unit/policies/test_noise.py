"""Action vectors are drawn with exactly the density that is logged."""

import math

import numpy as np
import pytest

from policies.noise import _TruncatedNormal, draw_action, log_density, uniform_action
from schemas.sections import GaussianExploration

GRID = np.linspace(-1, 1, 2_001)


def gaussian(sd: float = 0.05, wide_sd: float = 0.3, wide_share: float = 0.1) -> GaussianExploration:
    return GaussianExploration(kind="gaussian", sd=sd, wide_sd=wide_sd, wide_share=wide_share)


def density_on_grid(mean: float, exploration: GaussianExploration) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([math.exp(log_density([x], [mean], exploration)) for x in GRID.tolist()])


def test_the_density_worked_out_by_hand() -> None:
    # φ(0) / (Φ(1) − Φ(−1)) = .3989423 / .6826895; of sd ½: 2 φ(0) / (Φ(2) − Φ(−2)) = .7978846 / .9544997
    narrow, wide = 0.3989423 / 0.6826895, 0.7978846 / 0.9544997
    assert log_density([0.0], [0.0], gaussian(1.0, 1.0, 0.0)) == pytest.approx(math.log(narrow), abs=1e-6)
    mixed = math.log((narrow**3 + wide**3) / 2)  # one part for all three dimensions
    assert log_density([0.0] * 3, [0.0] * 3, gaussian(1.0, 0.5, 0.5)) == pytest.approx(mixed, abs=1e-6)
    # At the mean 1 half the normal is cut off: φ(−1) / (Φ(0) − Φ(−2)) = .2419707 / .4772499
    assert log_density([0.0], [1.0], gaussian(1.0, 1.0, 0.0)) == pytest.approx(
        math.log(0.2419707 / 0.4772499), abs=1e-6
    )


@pytest.mark.parametrize("mean", [-1.0, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("exploration", [gaussian(), gaussian(3.0, 0.02, 0.5), gaussian(0.2, 0.2, 1.0)])
def test_the_density_integrates_to_1(mean: float, exploration: GaussianExploration) -> None:
    assert np.trapezoid(density_on_grid(mean, exploration), GRID) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("mean", [-1.0, 0.3, 1.0])
def test_actions_are_drawn_as_often_as_their_density_says(mean: float) -> None:
    exploration, num_draws = gaussian(0.2, 0.8, 0.3), 4_000
    density = density_on_grid(mean, exploration)
    below = np.concatenate(([0.0], np.cumsum((density[1:] + density[:-1]) / 2) * (GRID[1] - GRID[0])))
    edges = np.interp(np.linspace(0, 1, 21), below, GRID)  # twenty bins of equal mass
    drawn = [draw_action([mean], exploration, seed).action[0] for seed in range(num_draws)]
    counts = np.histogram(drawn, bins=edges)[0]
    assert ((counts - num_draws / 20) ** 2 / (num_draws / 20)).sum() < 43.8  # 19 degrees of freedom, p = .001


def test_means_at_the_ends_in_many_dimensions() -> None:
    mean = np.array([1.0, -1.0, 0.0] * 9, np.float32)
    for seed in range(200):
        drawn = draw_action(mean, gaussian(), seed)
        assert all(-1 <= a <= 1 for a in drawn.action)
        assert drawn.log_density == log_density(drawn.action, mean.tolist(), gaussian())
        assert math.isfinite(drawn.log_density)


def test_one_part_is_drawn_for_all_dimensions_together() -> None:
    drawn = [draw_action([0.0] * 20, gaussian(0.001, 0.5, 0.25), seed) for seed in range(400)]
    assert all((max(map(abs, each.action)) > 0.01) == each.explored for each in drawn)
    assert abs(sum(each.explored for each in drawn) - 100) < 35  # 4 standard deviations


@pytest.mark.parametrize("sd", [1e-300, 1e-6, 1e6, 1e300])
def test_whatever_the_deviation(sd: float) -> None:
    drawn = draw_action([1.0, 0.3], gaussian(sd, sd, 0.5), 1)
    assert all(-1 <= a <= 1 for a in drawn.action)
    assert math.isfinite(drawn.log_density)
    if sd >= 1e6:
        assert drawn.log_density == pytest.approx(-2 * math.log(2), abs=1e-6)  # as good as uniform


def test_a_share_of_0_or_1_is_one_part_alone() -> None:
    assert not any(draw_action([0.0], gaussian(wide_share=0.0), seed).explored for seed in range(50))
    assert all(draw_action([0.0], gaussian(wide_share=1.0), seed).explored for seed in range(50))


def test_the_same_seed_gives_the_same_action() -> None:
    first, again, other = (draw_action([0.2, -0.4], gaussian(), seed) for seed in (5, 5, 6))
    assert first == again != other


def test_the_uniform_action() -> None:
    drawn = uniform_action(3, 1)
    assert drawn.log_density == pytest.approx(-3 * math.log(2))
    assert drawn.explored
    many = np.array([uniform_action(1, seed).action[0] for seed in range(2_000)])
    assert ((np.histogram(many, bins=10, range=(-1, 1))[0] - 200) ** 2 / 200).sum() < 27.9  # 9 degrees of freedom


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 1.01])
def test_a_mean_out_of_range_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="not within"):
        draw_action([0.0, wrong], gaussian(), 0)


def test_the_outermost_numbers_are_drawn_too() -> None:
    smallest, largest = 2.0**-53, 1 - 2.0**-53  # ½ + ½ · largest rounds to 1, which has no quantile
    low, high = _TruncatedNormal([-1.0, -1.0], 0.05).quantiles([smallest, largest])
    assert low == pytest.approx(-1.0, abs=1e-9)
    assert high == pytest.approx(-1 + 8.2 * 0.05, abs=0.02)  # float64 ends 8.2 deviations from the mean
