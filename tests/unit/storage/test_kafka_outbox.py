"""What may wait for Kafka, and when an append fails at once."""

import threading

import pytest

from storage.event_log import LogUnavailableError, RecordTooLargeError
from storage.kafka_outbox import Outbox

PATIENCE_SECONDS = 2.0
VALUE = b"x" * 1000
MAX_BYTES = 10_000  # six such values, with what each takes beside


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(clock: Clock) -> Outbox:
    return Outbox(MAX_BYTES, PATIENCE_SECONDS, clock)


def test_what_was_added_is_taken_once_in_order(outbox: Outbox) -> None:
    for value in (b"a", b"b", b"c"):
        outbox.add("feedback", value)
    assert [append.value for append in outbox.take(0)] == [b"a", b"b", b"c"]
    assert outbox.take(0) == []


def test_a_stored_append_resolves_and_a_failed_one_fails(outbox: Outbox) -> None:
    futures = [outbox.add("feedback", value) for value in (b"a", b"b")]
    stored, failed = outbox.take(0)
    outbox.stored(stored)
    outbox.failed(failed, LogUnavailableError("gone"))
    assert futures[0].result(0) is None
    with pytest.raises(LogUnavailableError, match="gone"):
        futures[1].result(0)


def test_the_first_outcome_counts(outbox: Outbox) -> None:
    future = outbox.add("feedback", b"a")
    (append,) = outbox.take(0)
    outbox.fail_taken("given up")
    outbox.stored(append)
    outbox.failed(append, LogUnavailableError("again"))
    with pytest.raises(LogUnavailableError, match="given up"):
        future.result(0)


def test_bytes_are_bounded_until_they_are_settled_whether_taken_or_not(outbox: Outbox) -> None:
    waiting = [outbox.add("feedback", VALUE) for _ in range(3)]
    taken = outbox.take(0)
    waiting += [outbox.add("feedback", VALUE) for _ in range(3)]
    with pytest.raises(LogUnavailableError, match="bytes wait for Kafka"):
        outbox.add("feedback", VALUE).result(0)
    assert not any(future.done() for future in waiting)

    outbox.stored(taken[0])
    assert not outbox.add("feedback", VALUE).done()


def test_a_caller_that_gave_up_is_left_out_and_takes_no_room(outbox: Outbox) -> None:
    futures = [outbox.add("feedback", VALUE) for _ in range(6)]
    assert futures[0].cancel()
    assert len(outbox.take(0)) == 5
    assert not futures[1].cancel()
    assert not outbox.add("feedback", VALUE).done()


def test_a_record_that_never_fits_says_so(outbox: Outbox) -> None:
    outbox.open({"feedback": 2000, "decisions": 20_000})
    with pytest.raises(RecordTooLargeError, match="1500 bytes is too large"):
        outbox.add("feedback", b"x" * 1500).result(0)
    assert not outbox.add("decisions", b"x" * 1500).done()


def test_a_shut_outbox_fails_what_is_there_and_what_comes_until_it_is_opened(outbox: Outbox) -> None:
    futures = [outbox.add("feedback", b"taken")]
    outbox.take(0)
    futures.append(outbox.add("feedback", b"waits"))
    given_up = outbox.add("feedback", b"given up")
    given_up.cancel()

    outbox.shut("no broker")

    futures.append(outbox.add("feedback", b"comes"))
    for future in futures:
        with pytest.raises(LogUnavailableError, match="no broker"):
            future.result(0)
    assert outbox.wait_until_settled(0)
    outbox.open({})
    assert not outbox.add("feedback", b"later").done()


def test_a_closed_outbox_keeps_what_is_there_and_takes_nothing_more(outbox: Outbox) -> None:
    kept = outbox.add("feedback", b"a")
    outbox.close("closed")
    outbox.open({})
    with pytest.raises(LogUnavailableError, match="closed"):
        outbox.add("feedback", b"b").result(0)
    outbox.stored(*outbox.take(0))
    assert kept.result(0) is None


def test_errors_are_not_shared(outbox: Outbox) -> None:
    """Each raise would add to the traceback of a shared one, for as long as the log is away."""
    outbox.shut("no broker")
    futures = [outbox.add("feedback", b"a") for _ in range(3)]
    errors = {id(future.exception(0)) for future in futures}
    assert len(errors) == 3


def test_appends_fail_at_once_when_nothing_was_stored_for_long_though_something_waited(
    outbox: Outbox, clock: Clock
) -> None:
    outbox.add("feedback", b"a")
    clock.now += 1.5
    outbox.add("feedback", b"b")
    first, second = outbox.take(0)
    clock.now += 1.0
    with pytest.raises(LogUnavailableError, match=r"stored nothing for 2\.5 s"):
        outbox.add("feedback", b"c").result(0)

    outbox.stored(second)  # another partition's may still be stuck

    assert not outbox.add("feedback", b"d").done()
    clock.now += 1.9
    assert not outbox.add("feedback", b"e").done()
    assert outbox.age_seconds() == pytest.approx(4.4)
    outbox.stored(first)
    assert outbox.age_seconds() == pytest.approx(1.9)


def test_a_log_that_nobody_used_for_long_is_not_silent(outbox: Outbox, clock: Clock) -> None:
    outbox.add("feedback", b"a")
    outbox.stored(*outbox.take(0))
    clock.now += 1000
    assert not outbox.add("feedback", b"b").done()
    assert not outbox.add("feedback", b"c").done()


def test_taking_waits_for_the_first(outbox: Outbox) -> None:
    late = threading.Timer(0.05, outbox.add, ("feedback", b"late"))
    late.start()
    assert [append.value for append in outbox.take(60)] == [b"late"]
    late.join()
