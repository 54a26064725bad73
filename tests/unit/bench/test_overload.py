"""Rates and latencies of what was accepted and of what was refused, apart."""

import numpy as np
import pytest

from bench.overload import summary
from bench.paced import NO_ANSWER, Paced


def test_accepted_and_refused_are_told_apart_over_the_time_that_it_took() -> None:
    due = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
    latency = np.array([0.1, 0.3, 0.02, 0.04, 2.0])  # the last ends after 4 s, not within the 2 s of the round
    found = summary(Paced(due, latency, np.array([200, 200, 503, 503, NO_ANSWER])), seconds=2)
    assert (found.sent, found.accepted, found.refused, found.unanswered) == (1.25, 0.5, 0.5, 1)
    assert found.onset_p99 == pytest.approx(100)  # that of the first
    assert found.p50 == pytest.approx(300)  # of the second alone
    assert found.refusal_p50 == pytest.approx(30)


def test_where_nothing_was_refused_there_is_no_time_to_refuse() -> None:
    found = summary(Paced(np.ones(1), np.full(1, 0.1), np.array([200])), seconds=1)
    assert found.refused == 0
    assert np.isnan(found.refusal_p99)
