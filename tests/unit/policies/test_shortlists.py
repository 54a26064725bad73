"""Slates with a shortlist: propensities by hand, by enumeration, and by counting."""

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from policies.shortlists import Eligible, Shortlist, draw_with_shortlist, shortlist_propensities
from policies.slates import draw_uniform_slate, slate_propensities
from schemas.sections import GreedyExploration, SoftmaxExploration

SOFTMAX = SoftmaxExploration(kind="softmax", temperature=1.0, epsilon=0.2)
GREEDY = GreedyExploration(kind="greedy", epsilon=0.2)


def shortlist(rows: list[int], scores: list[float]) -> Shortlist:
    return Shortlist(np.array(rows, np.intp), np.array(scores, np.float32))


def test_propensities_by_hand() -> None:
    """Five items, of which 7 and 3 are on the list with e^score 3 and 1; 20 % is uniform."""
    listed = shortlist([7, 3], [math.log(3), 0.0])
    # 7 first: .8 · 3/4 + .2/5. Then 9, which only chance draws: .2/4. Then 3, all that is left of the list: .8 + .2/3.
    # Then the list is used up and chance draws always: 1/2.
    found = shortlist_propensities(listed, 5, [7, 9, 3, 1], SOFTMAX)
    assert found == pytest.approx([0.64, 0.05, 0.8 + 0.2 / 3, 0.5])
    assert shortlist_propensities(listed, 5, [3, 7], GREEDY) == pytest.approx([0.04, 0.8 + 0.05])


@pytest.mark.parametrize("exploration", [SOFTMAX, GREEDY])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_propensities_of_all_slates_sum_to_one(exploration: SoftmaxExploration | GreedyExploration, k: int) -> None:
    listed = shortlist([4, 0, 2], [0.3, -0.4, 1.1])
    slates = permutations([0, 1, 2, 4], k)  # 3 is excluded
    total = sum(math.prod(shortlist_propensities(listed, 4, slate, exploration)) for slate in slates)
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize("exploration", [SOFTMAX, GREEDY])
def test_slates_come_as_often_as_their_propensities_say(exploration: SoftmaxExploration | GreedyExploration) -> None:
    listed, eligible, num = shortlist([4, 0], [0.3, -0.4]), Eligible(5, [3]), 8_000
    counts = Counter(tuple(draw_with_shortlist(listed, eligible, 3, exploration, seed).indices) for seed in range(num))
    for slate in permutations([0, 1, 2, 4], 3):
        p = math.prod(shortlist_propensities(listed, 4, slate, exploration))
        assert counts[slate] / num == pytest.approx(p, abs=4.5 * math.sqrt(p / num) + 1e-9)


def test_drawn_slates_have_the_propensities_that_follow_from_them() -> None:
    rng = np.random.default_rng(0)
    for seed in range(200):
        listed = Shortlist(rng.choice(50, 6, replace=False), rng.normal(0, 1, 6).astype(np.float32))
        gone = sorted({*range(50)} - {*listed.rows.tolist()})[: seed % 30]
        eligible = Eligible(50, gone)
        drawn = draw_with_shortlist(listed, eligible, 9, SOFTMAX, seed)
        assert not {*gone} & {*drawn.indices}
        assert len(set(drawn.indices)) == 9
        assert drawn.explored  # there are six on the list
        assert drawn.propensities == shortlist_propensities(listed, len(eligible), drawn.indices, SOFTMAX)


def test_a_list_of_everything_is_as_no_list() -> None:
    scores, slate = [0.3, -0.4, 1.1, 0.0], [2, 0, 3]
    expected = slate_propensities(np.array(scores, np.float32), slate, SOFTMAX)
    assert shortlist_propensities(shortlist([0, 1, 2, 3], scores), 4, slate, SOFTMAX) == pytest.approx(expected)


def test_without_chance_only_the_list_is_drawn_and_once_it_is_used_up_all_else() -> None:
    exploration = GreedyExploration(kind="greedy", epsilon=0.0)
    drawn = draw_with_shortlist(shortlist([5, 8], [0.0, 1.0]), Eligible(10), 4, exploration, 3)
    assert drawn.indices[:2] == [8, 5]
    assert drawn.propensities == pytest.approx([1.0, 1.0, 1 / 8, 1 / 7])
    assert not draw_with_shortlist(shortlist([5, 8], [0.0, 1.0]), Eligible(10), 2, exploration, 3).explored


def test_an_empty_list_is_chance() -> None:
    drawn = draw_with_shortlist(shortlist([], []), Eligible(4, [1]), 9, SOFTMAX, 0)
    assert sorted(drawn.indices) == [0, 2, 3]
    assert drawn.propensities == [1 / 3, 1 / 2, 1.0]
    assert drawn == draw_uniform_slate(4, 9, 0, [1])


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        draw_with_shortlist(shortlist([1, 2], [0.0, math.nan]), Eligible(5), 2, SOFTMAX, 0)
