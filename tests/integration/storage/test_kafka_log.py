"""The event log in a real Kafka, in what the port does not promise but its users count on."""

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer  # type: ignore[import-untyped]  # it brings no types
from kafka.admin import ConfigResource  # type: ignore[import-untyped]  # the same
from kafka.structs import TopicPartition  # type: ignore[import-untyped]  # the same

from loadtest.parts.process import wait_until
from schemas.settings import Settings
from storage import kafka_client, kafka_reader, kafka_writer
from storage.event_log import LogUnavailableError, Partition, Poll, RecordTooLargeError
from storage.kafka_reader import KafkaEventLogReader
from storage.kafka_topics import make_topics
from tests.integration.storage.kafka_logs import (
    QUIET_SECONDS,
    WAIT_SECONDS,
    Opened,
    append,
    numbers,
    poll_until,
    polls,
    read_all,
    settings_of,
)

FEEDBACK = Partition("feedback", 0)
ROOT = Path(__file__).parents[3]


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker on a busy machine takes its time to answer."""
    monkeypatch.setattr(kafka_reader, "_ANSWER_SECONDS", 20.0)


@pytest.fixture
def log(kafka_servers: str) -> Iterator[Opened]:
    """Of one partition."""
    opened = Opened(settings_of(kafka_servers))
    yield opened
    opened.close()


@pytest.fixture
def wide_log(kafka_servers: str) -> Iterator[Opened]:
    """Of four partitions."""
    opened = Opened(settings_of(kafka_servers, kafka_partitions=4))
    yield opened
    opened.close()


# Topics


def test_topics_are_made_as_the_log_needs_them_by_several_at_once(log: Opened) -> None:
    settings = log.settings.model_copy(update={"kafka_partitions": 3})
    makers = [threading.Thread(target=make_topics, args=(settings,)) for _ in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()

    limits = make_topics(settings)

    assert limits == {
        log.topic("decisions"): 8 << 20,
        log.topic("feedback"): 8 << 20,
        log.topic("dead-letters"): 9 << 20,
    }
    described = log.client(KafkaAdminClient).describe_topics(list(limits))
    assert {topic["name"]: len(topic["partitions"]) for topic in described} == {
        log.topic("decisions"): 3,
        log.topic("feedback"): 3,
        log.topic("dead-letters"): 1,
    }
    append(log.writer(), b"{}")
    before = time.time()
    (record,) = read_all(log.placed_reader())
    assert abs(record.appended_at - before) < WAIT_SECONDS


def test_topics_that_are_there_are_left_alone_and_spoken_of(log: Opened, caplog: pytest.LogCaptureFixture) -> None:
    configs = {"message.timestamp.type": "CreateTime", "max.message.bytes": "100000"}
    theirs = {"num_partitions": 2, "replication_factor": 1, "configs": configs}
    log.client(KafkaAdminClient).create_topics({log.topic(): theirs})

    writer = log.writer()
    append(writer, b"small")
    with pytest.raises(RecordTooLargeError, match="200000 bytes is too large for Kafka: 100000 fit"):
        append(writer, b"x" * 200_000)
    append(writer, b"small too")

    assert f"{log.topic()} has message.timestamp.type=CreateTime" in caplog.text
    assert f"{log.topic()} takes records of 100000 bytes" in caplog.text
    assert {record.value for record in read_all(log.placed_reader())} == {b"small", b"small too"}


def test_topics_that_cannot_be_made_are_named(log: Opened) -> None:
    settings = log.settings.model_copy(update={"kafka_replication": 99})
    with pytest.raises(LogUnavailableError, match=r"Kafka has no topic .*, and it cannot be made: .*replication"):
        make_topics(settings)
    with pytest.raises(LogUnavailableError, match="does not give us the topic 'no/name-decisions': InvalidTopicError"):
        make_topics(log.settings.model_copy(update={"kafka_topic_prefix": "no/name-"}))


def test_partitions_that_are_added_are_written_and_read(log: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_client, "_METADATA_SECONDS", 0.5)
    writer, reader = log.writer(), log.placed_reader()
    append(writer, b"before")
    assert reader.partitions() == {FEEDBACK}

    log.client(KafkaAdminClient).create_partitions({log.topic(): 2})

    both = {FEEDBACK, Partition("feedback", 1)}
    poll_until(reader, lambda: reader.partitions() == both)
    poll_until(reader, lambda: reader.assignment() == both)
    reader.seek({})
    found: set[Partition] = set()

    def all_are_found() -> bool:
        append(writer, b"after")
        found.update(record.partition for record in reader.poll(10, 0.1).records)
        return found == both

    assert wait_until(all_are_found, WAIT_SECONDS)


# Writing


def test_records_are_spread_over_the_partitions_in_turn(wide_log: Opened) -> None:
    writer = wide_log.writer()
    for value in numbers(40):
        append(writer, value)
        writer.append("decisions", value).result(WAIT_SECONDS)
    found = [record.partition.number for record in read_all(wide_log.placed_reader())]
    assert sorted(found) == sorted([0, 1, 2, 3] * 10)


def test_records_of_several_mebibytes_pass_and_larger_ones_fail_at_once(log: Opened) -> None:
    writer = log.writer()
    large = b"x" * ((8 << 20) - 1_000)
    append(writer, large)
    with pytest.raises(RecordTooLargeError):
        append(writer, b"x" * (8 << 20))
    append(writer, b"small")
    assert [record.value for record in read_all(log.placed_reader())] == [large, b"small"]


def test_what_waits_for_kafka_is_bounded(log: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    may_connect = threading.Event()

    def make_topics_when_told(settings: Settings) -> dict[str, int]:
        assert may_connect.wait(WAIT_SECONDS)
        return make_topics(settings)

    monkeypatch.setattr(kafka_writer, "make_topics", make_topics_when_told)
    writer = log.writer()
    futures = [writer.append("feedback", b"x" * (1 << 20)) for _ in range(64)]
    refused = [future for future in futures if future.done()]
    assert len(futures) - len(refused) <= 32
    for future in refused:
        with pytest.raises(LogUnavailableError, match="bytes wait for Kafka already"):
            future.result(0)
    may_connect.set()
    for future in set(futures).difference(refused):
        future.result(WAIT_SECONDS)
    append(writer, b"there is room again")


# Reading


def test_a_record_without_a_value_or_with_a_key_or_headers_is_a_record(log: Opened) -> None:
    make_topics(log.settings)
    producer = log.client(KafkaProducer)
    producer.send(log.topic(), value=None, key=b"key", headers=[("name", b"value")]).get(WAIT_SECONDS)
    producer.send(log.topic(), value=b"{}", key=b"key").get(WAIT_SECONDS)
    assert [(record.offset, record.value) for record in read_all(log.placed_reader())] == [(0, b""), (1, b"{}")]


def test_records_of_a_producer_that_compresses_are_read_without_its_codec(log: Opened) -> None:
    make_topics(log.settings)
    producer = log.client(KafkaProducer, compression_type="gzip", linger_ms=20)
    for future in [producer.send(log.topic(), value) for value in numbers(50)]:
        future.get(WAIT_SECONDS)
    configs = log.client(KafkaAdminClient)
    assert [record.value for record in read_all(log.placed_reader())] == numbers(50)
    assert _config(configs, log.topic(), "compression.type") == "uncompressed"


def _config(admin: Any, topic: str, key: str) -> str:
    found = admin.describe_configs([ConfigResource("topic", topic)], config_filter="all")
    return str(found["topic"][topic][key]["value"])


def test_the_watermark_is_the_last_record_read_or_at_the_end_the_time_of_asking_less_a_second(log: Opened) -> None:
    append(log.writer(), *numbers(3))
    clock = Clock(4e9)  # so that no record is as late
    reader = log.placed_reader(clock)

    poll = reader.poll(2, WAIT_SECONDS)
    assert len(poll.records) == 2
    assert poll.read_up_to == {FEEDBACK: poll.records[-1].appended_at}
    (last,) = reader.poll(2, WAIT_SECONDS).records
    assert reader.poll(2, 0.5).read_up_to == {FEEDBACK: 4e9 - 1}
    clock.now = 3.9e9
    assert reader.poll(2, 0.5).read_up_to == {FEEDBACK: 4e9 - 1}  # a clock that steps back

    reader.seek({FEEDBACK: last.offset})
    assert reader.poll(2, WAIT_SECONDS).read_up_to == {FEEDBACK: last.appended_at}


def test_the_end_is_reached_past_what_ends_a_transaction(log: Opened) -> None:
    make_topics(log.settings)
    producer = log.client(KafkaProducer, transactional_id=uuid.uuid4().hex)
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(log.topic(), b"{}")
    producer.commit_transaction()
    reader = log.placed_reader(Clock(4e9))
    assert [record.value for record in read_all(reader)] == [b"{}"]
    assert reader.poll(2, 0.5).read_up_to == {FEEDBACK: 4e9 - 1}


def test_records_that_were_deleted_unread_are_passed_over_and_counted(
    log: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    append(log.writer(), *numbers(6))
    log.client(KafkaAdminClient).delete_records({TopicPartition(log.topic(), 0): 5})
    reader = log.placed_reader()
    reader.seek({FEEDBACK: 2})
    assert [(record.offset, record.value) for record in read_all(reader)] == [(5, b"5")]
    assert "goes on from offset 5 instead of 2: 3 records were deleted unread" in caplog.text


def test_a_topic_that_was_made_anew_is_read_from_its_start(log: Opened, caplog: pytest.LogCaptureFixture) -> None:
    append(log.writer(), *numbers(2))
    reader = log.placed_reader()
    reader.seek({FEEDBACK: 1_000})
    assert [record.value for record in read_all(reader)] == numbers(2)
    assert "goes on from offset 0 instead of 1000" in caplog.text
    assert reader.poll(1, 0).read_up_to[FEEDBACK] > 0


def test_a_poll_holds_no_more_than_some_fetches_however_large_the_records(wide_log: Opened) -> None:
    writer = wide_log.writer()
    large = b"x" * (5 << 20)
    for _ in range(12):
        append(writer, large)
    reader = wide_log.placed_reader()
    sizes = [sum(len(record.value) for record in records) for records in polls(reader, 200)]
    assert sum(sizes) == 12 * len(large)
    assert max(sizes) <= (16 << 20) + len(large)


def test_what_was_dealt_with_is_committed_for_lag_monitors(log: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_reader, "_COMMIT_EVERY_SECONDS", 0.0)
    append(log.writer(), *numbers(4))
    reader, admin = log.reader(), log.client(KafkaAdminClient)
    poll_until(reader, reader.assignment)
    reader.seek({})

    def committed() -> int | None:
        offsets = admin.list_group_offsets({"readers": [TopicPartition(log.topic(), 0)]})["readers"]
        return next((found.offset for found in offsets.values()), None)

    assert len(reader.poll(3, WAIT_SECONDS).records) == 3
    assert committed() in (None, -1, 0)  # they may yet fail to be stored
    reader.poll(3, WAIT_SECONDS)
    poll_until(reader, lambda: committed() == 4)


# Groups


def test_a_reader_joins_however_short_its_polls(log: Opened) -> None:
    """kafka-python forgets a join of which no poll sees the end."""
    for _ in range(5):
        reader = log.reader(group=uuid.uuid4().hex)
        assert wait_until(partial(_joins_in_haste, reader), WAIT_SECONDS, 0)


def _joins_in_haste(reader: KafkaEventLogReader) -> bool:
    reader.poll(1, 0.001)
    return bool(reader.assignment())


def test_two_readers_share_the_partitions_and_who_is_left_gets_all(wide_log: Opened) -> None:
    append(wide_log.writer(), *numbers(8))
    one, other = wide_log.reader(), wide_log.reader()
    everything = {Partition("feedback", number) for number in range(4)}
    poll_until(one, lambda: one.assignment() == everything)
    stop = threading.Event()
    polling = threading.Thread(target=lambda: [other.poll(1, 0.05) for _ in iter(stop.is_set, True)])
    polling.start()
    poll_until(one, lambda: len(one.assignment()) == len(other.assignment()) == 2)
    stop.set()
    polling.join()
    assert one.assignment() | other.assignment() == everything
    assert one.partitions() == other.partitions() == everything

    other.close()

    poll_until(one, lambda: one.assignment() == everything)
    one.seek({})
    assert sorted(record.value for record in read_all(one)) == numbers(8)


def test_nothing_is_read_between_a_rebalance_and_the_next_seek(wide_log: Opened) -> None:
    """Also where it ends with the partitions that were there before it."""
    append(wide_log.writer(), *numbers(100))
    one, other = wide_log.reader(), wide_log.reader()
    poll_until(one, one.assignment)
    before = one.assignment()
    assert not one.is_placed()
    assert one.poll(10, 0.2) == Poll([], {})
    one.seek({})
    assert one.is_placed()
    assert len(one.poll(10, WAIT_SECONDS).records) == 10

    joining = threading.Thread(target=poll_until, args=(other, other.assignment))
    joining.start()
    assert wait_until(lambda: _is_unplaced(one), WAIT_SECONDS, 0)
    poll_until(one, one.assignment)
    joining.join()
    other.close()
    poll_until(one, lambda: one.assignment() == before)

    assert not one.is_placed()
    assert one.poll(10, QUIET_SECONDS) == Poll([], {})
    one.seek({})
    assert sorted(record.value for record in read_all(one)) == sorted(numbers(100))


def _is_unplaced(reader: KafkaEventLogReader) -> bool:
    """A poll in which the partitions changed gives none of their records."""
    poll = reader.poll(10, 0.05)
    is_unplaced = not reader.is_placed() or not reader.assignment()
    assert not (is_unplaced and poll.records)
    return is_unplaced


_READER = """
import sys, time
from schemas.settings import Settings
from storage.kafka_reader import KafkaEventLogReader
reader = KafkaEventLogReader(Settings.model_validate_json(sys.argv[1]), time.time, ("feedback",))
while True:
    reader.poll(1, 0.1)
    print(len(reader.assignment()), flush=True)
"""


@pytest.mark.slow
def test_the_partitions_of_a_reader_that_was_killed_go_to_the_others(wide_log: Opened) -> None:
    settings = wide_log.settings.model_copy(update={"kafka_group": "readers"})
    command = [sys.executable, "-c", _READER, settings.model_dump_json()]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        assert any(line == "4\n" for line in victim.stdout)
        one = wide_log.reader()
        poll_until(one, lambda: len(one.assignment()) == 2)

        victim.kill()

        poll_until(one, lambda: len(one.assignment()) == 4)
