import numpy as np

from trainer.replay.fresh import FreshQueue


def test_each_decision_is_seen_before_any_is_seen_again() -> None:
    queue = FreshQueue(3, np.random.default_rng(0))
    queue.put(np.array([0, 1, 2, 3, 4, 5, 8]))  # decisions 0 and 1 with three impressions, 2 with one
    assert sorted((queue.take(3) // 3).tolist()) == [0, 1, 2]
    assert sorted((queue.take(2) // 3).tolist()) == [0, 1]
    assert sorted((queue.take(9) // 3).tolist()) == [0, 1]
    assert queue.take(9).tolist() == []


def test_the_newest_come_first() -> None:
    queue = FreshQueue(1, np.random.default_rng(0))
    queue.put(np.array([1, 2]))
    queue.put(np.array([3, 4]))
    assert set(queue.take(2).tolist()) == {3, 4}
    assert set(queue.take(2).tolist()) == {1, 2}


def test_it_is_bounded() -> None:
    queue = FreshQueue(1, np.random.default_rng(0))
    queue.put(np.arange(100))
    queue.put(np.arange(100, 70_000))
    assert len(queue.take(100_000)) == 65_536


def test_positions_are_not_in_order_of_the_slate() -> None:
    queue = FreshQueue(10, np.random.default_rng(0))
    queue.put(np.arange(10_000))
    first = queue.take(1_000) % 10
    assert np.bincount(first, minlength=10).min() > 60
