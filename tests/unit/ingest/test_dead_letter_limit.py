"""When ingest stops since too much of what it reads is bad."""

from trainer.ingest.dead_letter_limit import DeadLetterLimit


def limit() -> DeadLetterLimit:
    return DeadLetterLimit(max_share=0.5, window=10, max_run=3)


GOOD, BAD = (1, 0), (0, 1)


def test_more_than_the_share_and_a_run_to_the_end_is_too_much() -> None:
    tried = limit()
    assert tried.add([BAD] * 5) is None
    assert tried.add([BAD]) == "6 of the last 6 elements were bad, and the last 6 all"


def test_a_burst_within_good_ones_is_not() -> None:
    assert limit().add([*[GOOD] * 7, *[BAD] * 5]) is None  # five of the last ten, and more than three in a row


def test_many_bad_ones_among_good_ones_are_not() -> None:
    tried = limit()
    assert tried.add([BAD, BAD, GOOD] * 100) is None  # two of three, and never three in a row
    assert tried.add([BAD] * 3) is not None


def test_what_left_the_window_counts_no_more() -> None:
    tried = limit()
    tried.add([*[BAD] * 5, *[GOOD] * 10])
    assert tried.add([BAD] * 5) is None
    assert tried.add([BAD]) is not None


def test_a_record_with_anything_good_ends_the_run() -> None:
    assert limit().add([(0, 6), (1, 2)]) == "6 of the last 6 elements were bad, and the last 6 all"
    tried = limit()
    assert tried.add([(0, 2), (1, 2), (0, 1)]) is None  # the last two of its record and one more: a run of three
    assert tried.add([BAD]) is not None


def test_it_can_be_told_to_forget() -> None:
    tried = limit()
    assert tried.add([BAD] * 9) is not None
    tried.reset()
    assert tried.add([BAD] * 5) is None
