"""What the machine holds up, and what of it lies within a request."""

import os

import numpy as np
import pytest

from bench.machine import Stalls, joined, seconds_within


def test_spans_that_meet_are_one() -> None:
    assert joined([(5.0, 6.0), (1.0, 3.0), (2.0, 2.5), (3.0, 4.0)]).tolist() == [[1.0, 4.0], [5.0, 6.0]]


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [
        (0.0, 0.5, 0.0),
        (0.0, 2.0, 1.0),
        (1.5, 2.0, 0.5),
        (2.0, 7.0, 3.0),
        (4.0, 5.0, 0.0),
        (5.5, 9.0, 0.5),
        (6.0, 9.0, 0.0),
    ],
)
def test_a_time_holds_the_parts_of_the_spans_that_lie_in_it(start: float, end: float, seconds: float) -> None:
    spans = joined([(1.0, 4.0), (5.0, 6.0)])
    assert seconds_within(spans, np.array([start]), np.array([end])).tolist() == [seconds]


def test_without_spans_nothing_was_held_up() -> None:
    assert seconds_within(joined([]), np.array([1.0]), np.array([2.0])).tolist() == [0.0]


def test_each_core_is_watched_until_the_end() -> None:
    cores = os.sched_getaffinity(0)
    with Stalls() as stalls:
        pass
    assert stalls.spans.shape[1] == 2
    assert (stalls.spans[:, 0] < stalls.spans[:, 1]).all()
    assert os.sched_getaffinity(0) == cores
