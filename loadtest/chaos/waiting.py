"""Where events are that were acknowledged and are not in the store: in a spool, in the log behind where it was read to,
or nowhere.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import msgspec
from kafka import KafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # it brings no types
from sqlalchemy import Engine

from schemas.loop_file import Loop
from schemas.settings import Settings
from storage.database import reading
from storage.event_log import Record
from storage.offsets import stored_offsets
from storage.spool_file import SUFFIX, SpoolFile
from trainer.ingest.parse import parse

_READ_BYTES = 1 << 20


class _Event(msgspec.Struct):
    event_id: str


_EVENTS = msgspec.json.Decoder(list[_Event])


def waiting_ids(settings: Settings, engine: Engine, loop: Loop) -> set[str]:
    """Of feedback events that may still arrive. All programs must have ended, as they hold the spool's files."""
    assert settings.spool_folder is not None
    return {*_spooled_ids(settings.spool_folder), *_unread_ids(settings, engine, loop)}


def _spooled_ids(folder: Path) -> Iterator[str]:
    for path in folder.glob(f"*{SUFFIX}"):
        file = SpoolFile.take(path)
        assert file is not None, f"{path} is held by another process"
        while frames := file.read(_READ_BYTES):
            events = (_EVENTS.decode(frame.value) for frame in frames if frame.topic == "feedback")
            yield from (event.event_id for event in chain.from_iterable(events))
            file.relayed(frames[-1])
        file.close()


def _unread_ids(settings: Settings, engine: Engine, loop: Loop) -> Iterator[str]:
    with reading(engine) as connection:
        stored = {each: at for each, at in stored_offsets(connection, "kafka").items() if each.topic == "feedback"}
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka)
    names = {TopicPartition(partition.topic, partition.number): partition for partition in stored}
    ends = consumer.end_offsets(list(names))
    consumer.assign(list(names))
    for name, partition in names.items():
        consumer.seek(name, stored[partition])
    while any(consumer.position(name) < ends[name] for name in names):
        for name, batch in consumer.poll(timeout_ms=500).items():
            records = [Record(names[name], one.offset, one.timestamp / 1000, one.value or b"") for one in batch]
            yield from (event.event_id for event in parse(records, loop.feedback_kinds).events)
    consumer.close()
