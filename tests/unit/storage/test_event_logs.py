"""The settings choose the event log."""

import time
from pathlib import Path

from schemas.settings import Settings
from storage.event_logs import open_reader, open_writer
from storage.kafka_reader import KafkaEventLogReader
from storage.kafka_writer import KafkaEventLogWriter
from storage.sql_log import SqlEventLogReader, SqlEventLogWriter


def test_without_kafka_it_is_in_sql(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    writer, reader = open_writer(settings, time.time), open_reader(settings, time.time)
    assert isinstance(writer, SqlEventLogWriter)
    assert isinstance(reader, SqlEventLogReader)
    writer.append("feedback", b"{}").result(60)
    assert [record.value for record in reader.poll(10, 0).records] == [b"{}"]
    writer.close()
    reader.close()


def test_where_kafka_is_named_it_is_there_and_need_not_answer() -> None:
    settings = Settings(kafka="127.0.0.1:1")
    writer, reader = open_writer(settings, time.time), open_reader(settings, time.time)
    assert isinstance(writer, KafkaEventLogWriter)
    assert isinstance(reader, KafkaEventLogReader)
    assert reader.assignment() == frozenset()
    writer.close()
    reader.close()
