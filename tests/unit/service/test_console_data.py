import math

import pytest

from service.console_data import lift
from storage.story import RewardTotal


def test_lift_is_the_difference_of_means_with_its_interval() -> None:
    totals = [
        RewardTotal(0, "learned", 60, 30.0, 30.0),  # 30 ones, 30 zeros
        RewardTotal(0, "explore", 40, 20.0, 20.0),
        RewardTotal(2, "control", 25, 5.0, 5.0),
        RewardTotal(2, "fallback", 99, 99.0, 99.0),
    ]
    found = lift(totals)
    # Means .5 and .2; unbiased variances 25/99 and 4/24, of the means 25/9900 and 4/600.
    margin = 1.959964 * math.sqrt(25 / 9_900 + 4 / 600)
    assert found == pytest.approx({"mean": 0.3, "low": 0.3 - margin, "high": 0.3 + margin})


def test_without_two_decisions_of_each_there_is_no_lift() -> None:
    assert lift([RewardTotal(0, "learned", 60, 30.0, 30.0), RewardTotal(0, "control", 1, 1.0, 1.0)]) is None
    assert lift([]) is None
