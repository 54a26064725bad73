"""Slates are drawn with exactly the propensities that are logged."""

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from policies.slates import DrawnSlate, DrawnSlates, draw_slates, draw_uniform_slate, slate_propensities
from schemas.sections import GreedyExploration, SoftmaxExploration

Exploration = SoftmaxExploration | GreedyExploration


def draw_slate(q: NDArray[np.float32], k: int, exploration: Exploration, seed: int) -> DrawnSlate:
    [slate] = each_of(draw_slates(q[None], k, exploration, [seed]))
    return slate


def each_of(drawn: DrawnSlates) -> list[DrawnSlate]:
    return [DrawnSlate(*each) for each in zip(*(part.tolist() for part in drawn), strict=True)]


def softmax(temperature: float = 1.0, epsilon: float = 0.0) -> SoftmaxExploration:
    return SoftmaxExploration(kind="softmax", temperature=temperature, epsilon=epsilon)


def greedy(epsilon: float = 0.0) -> GreedyExploration:
    return GreedyExploration(kind="greedy", epsilon=epsilon)


def scores(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def test_softmax_propensities_worked_out_by_hand() -> None:
    weights_4_2_1 = scores(math.log(4), math.log(2), 0.0)
    first = 0.9 * 2 / 7 + 0.1 / 3
    second = 0.9 * 4 / 5 + 0.1 / 2  # of what is left: 4 and 1
    assert slate_propensities(weights_4_2_1, [1, 0], softmax(1.0, 0.1)) == pytest.approx([first, second], rel=1e-6)


def test_a_temperature_of_a_half_squares_the_weights() -> None:
    assert slate_propensities(scores(math.log(3), 0.0), [0], softmax(0.5)) == pytest.approx([9 / 10], rel=1e-6)


def test_greedy_propensities_worked_out_by_hand() -> None:
    # 2 is the best: uniform part of 1/3. Then 0 is not the best of {0, 2}: 1/2 of ε. Then 2 alone is left.
    assert slate_propensities(scores(1, 2, 3), [1, 0, 2], greedy(0.3)) == pytest.approx([0.1, 0.15, 1.0])
    assert slate_propensities(scores(1, 2, 3), [2, 1], greedy(0.3)) == pytest.approx([0.7 + 0.1, 0.7 + 0.15])


def test_propensities_stay_exact_where_all_but_the_best_underflow() -> None:
    peaked = scores(10, 0, -10, -10)
    for temperature in (1e-3, 1e-30, 1e-300):
        assert slate_propensities(peaked, [0, 1, 2], softmax(temperature)) == pytest.approx([1, 1, 0.5])


def test_ties_far_below_the_best_are_drawn_evenly() -> None:
    peaked = scores(10, 0, -10, -10)
    for temperature in (1e-3, 1e-300):
        third = Counter(draw_slate(peaked, 3, softmax(temperature), seed).indices[2] for seed in range(400))
        assert third.keys() == {2, 3}
        assert abs(third[2] - 200) < 40  # 4 standard deviations


@pytest.mark.parametrize(
    "exploration", [softmax(0.7, 0.2), softmax(0.7), softmax(1e-3, 0.2), softmax(0.7, 1.0), greedy(0.3), greedy(1.0)]
)
def test_the_propensities_of_all_slates_sum_to_1(exploration: Exploration) -> None:
    of_slate = [
        math.prod(slate_propensities(scores(0.3, 1.0, -0.5, 1.0), slate, exploration))
        for slate in permutations(range(4), 3)
    ]
    assert sum(of_slate) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("exploration", [softmax(0.5, 0.2), softmax(0.5), greedy(0.4)])
def test_slates_are_drawn_as_often_as_their_propensities_say(exploration: Exploration) -> None:
    q = scores(0.2, 0.6, 0.0, 0.6)
    num_draws = 3_000
    drawn = Counter(tuple(draw_slate(q, 2, exploration, seed).indices) for seed in range(num_draws))
    expected = {
        slate: num_draws * math.prod(slate_propensities(q, slate, exploration)) for slate in permutations(range(4), 2)
    }
    chi_square = sum((drawn[slate] - mean) ** 2 / mean for slate, mean in expected.items())
    assert chi_square < 31.3  # 11 degrees of freedom, p = .001


def test_the_uniform_policy() -> None:
    drawn = Counter(tuple(draw_uniform_slate(4, 2, seed).indices) for seed in range(3_000))
    assert sum((drawn[slate] - 250) ** 2 / 250 for slate in permutations(range(4), 2)) < 31.3
    assert draw_uniform_slate(4, 2, 0).propensities == [1 / 4, 1 / 3]
    assert draw_uniform_slate(2, 9, 0).propensities == [1 / 2, 1.0]


@settings(deadline=None)  # a machine that is busy elsewhere is no failure
@given(
    st.lists(st.floats(-1e4, 1e4, width=32), max_size=30),
    st.integers(1, 40),
    st.one_of(
        st.builds(softmax, st.sampled_from([1e-4, 0.1, 3.0]), st.sampled_from([0.0, 0.05, 1.0])),
        st.builds(greedy, st.sampled_from([0.0, 0.1, 1.0])),
    ),
    st.integers(0, 2**63 - 1),
)
def test_whatever_the_scores(values: list[float], k: int, exploration: Exploration, seed: int) -> None:
    q = scores(*values)
    drawn = draw_slate(q, k, exploration, seed)
    assert len(drawn.indices) == min(k, len(values))
    assert len(set(drawn.indices)) == len(drawn.indices)
    assert all(0 <= i < len(values) for i in drawn.indices)
    assert all(0 < p <= 1 for p in drawn.propensities)
    if values:
        assert drawn.propensities == slate_propensities(q, drawn.indices, exploration)
    assert drawn == draw_slate(q, k, exploration, seed)
    assert drawn.explored <= (exploration.epsilon > 0)


def test_the_same_seed_gives_the_same_slate_in_every_release() -> None:
    q = scores(*(i / 10 for i in range(10)))
    assert draw_slate(q, 4, softmax(0.3, 0.1), 1).indices == [9, 5, 7, 8]
    assert draw_slate(q, 4, greedy(0.5), 2).indices == [9, 8, 7, 6]
    assert draw_uniform_slate(1_000_000, 4, 3).indices == [113450, 700293, 612974, 72866]


def test_greedy_takes_the_best_and_of_equals_the_first() -> None:
    assert draw_slate(scores(1, 3, 2, 3, 1), 5, greedy(), 0).indices == [1, 3, 2, 0, 4]


def test_explored_says_that_a_position_was_drawn_uniformly() -> None:
    q = scores(5, 4, 3, 2, 1)
    drawn = [draw_slate(q, 2, greedy(0.5), seed) for seed in range(400)]
    assert all(each.indices == [0, 1] for each in drawn if not each.explored)
    assert any(each.indices == [0, 1] for each in drawn if each.explored)  # by chance the best
    assert abs(sum(each.explored for each in drawn) - 300) < 36  # 1 − ½², 4 standard deviations
    assert draw_uniform_slate(3, 1, 0).explored


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(wrong: float) -> None:
    for exploration in (softmax(), greedy()):
        with pytest.raises(ValueError, match="not finite"):
            draw_slate(scores(1, wrong, 2), 1, exploration, 0)


@pytest.mark.parametrize("exploration", [softmax(0.7, 0.3), greedy(0.3), softmax(1e-3, 0.2)])
def test_among_others_a_request_gets_the_slate_that_it_gets_alone(exploration: Exploration) -> None:
    q = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    together = each_of(draw_slates(q, 8, exploration, range(20)))
    assert [each.indices for each in together] == [draw_slate(q[i], 8, exploration, i).indices for i in range(20)]
    for i, each in enumerate(together):
        assert each.propensities == pytest.approx(slate_propensities(q[i], each.indices, exploration), rel=1e-12)
