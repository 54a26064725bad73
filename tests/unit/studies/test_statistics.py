"""Worked by hand."""

import math

import numpy as np
import pytest

from studies.statistics import (
    area,
    final,
    gap_recovered,
    paired,
    reached_after,
    times_fewer,
    times_fewer_interval,
    told,
)


def test_a_paired_difference() -> None:
    difference = paired([3.0, 5.0, 4.0], [1.0, 2.0, 3.0])  # 2, 3, 1: mean 2, sd 1, standard error 1 / √3
    assert (difference.mean, difference.sd) == (2.0, 1.0)
    assert difference.t == pytest.approx(2.0 * math.sqrt(3.0))
    assert difference.half_width == pytest.approx(4.302653 / math.sqrt(3.0))  # t of 2 degrees of freedom at .975
    assert str(difference) == "+2.000 ± 2.484 (t +3.5)"


def test_nothing_differs_and_a_single_pair() -> None:
    assert paired([1.0, 2.0], [1.0, 2.0]).t == 0.0
    assert math.isnan(paired([1.0], [0.0]).t)


def test_mean_and_deviation() -> None:
    assert told([1.0, 2.0, 3.0]) == "2.000 ± 1.000"
    assert told([1.0], 1) == "1.0 ± 0.0"


def test_measures_of_curves() -> None:
    curves = [[0.0, 0.2, 0.4, 0.6], [0.2, 0.2, 0.2, 0.4]]
    assert area(curves) == pytest.approx([0.3, 0.25])
    assert final(curves) == pytest.approx([0.5, 0.3])


def test_when_a_level_is_reached() -> None:
    curve = [0.2, 0.4, 0.4, 0.8]  # at .25, .5, .75, 1 of its length
    assert reached_after(curve, 0.2) == pytest.approx(0.25)
    assert reached_after(curve, 0.1) == pytest.approx(0.125)
    assert reached_after(curve, 0.6) == pytest.approx(0.875)
    assert reached_after(curve, 0.9) == math.inf
    assert reached_after(curve, 0.0) == 0.0


def test_times_fewer() -> None:
    slow, fast = [[0.1, 0.2, 0.3, 0.4, 0.4]], [[0.2, 0.4, 0.5, 0.5, 0.5]]
    assert times_fewer(fast, slow) == pytest.approx(0.8 / 0.4)  # the level is .4
    assert times_fewer(slow, slow) == 1.0
    assert times_fewer([[0.0] * 5], slow) == 0.0
    assert math.isnan(times_fewer(fast, [[0.1, 0.0, -0.1, 0.0, 0.0]]))
    assert times_fewer(fast, slow, share=0.5) == pytest.approx(2.0)


def test_the_interval_holds_the_value_and_narrows_to_it_without_spread() -> None:
    rng = np.random.default_rng(1)
    slow = np.linspace(0.1, 0.5, 5) + 0.02 * rng.standard_normal((20, 5))
    fast = slow + 0.1
    low, high = times_fewer_interval(fast, slow)
    assert low < times_fewer(fast, slow) < high
    same = np.tile([0.1, 0.2, 0.3, 0.4, 0.4], (3, 1))
    assert times_fewer_interval(same, same) == (1.0, 1.0)


def test_the_share_of_the_gap() -> None:
    assert gap_recovered([0.4, 0.6], [0.3, 0.3], [0.8, 0.8]) == pytest.approx(0.4)
