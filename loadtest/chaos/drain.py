"""Whether all that was acknowledged has arrived: how far the consumers are, what waits in spools, what is not final."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from kafka import KafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # it brings no types
from kafka.errors import KafkaError  # type: ignore[import-untyped]  # the same
from sqlalchemy import Engine, func, select

from loadtest.parts.process import wait_until
from schemas.settings import Settings
from schemas.tables import rewards
from storage.database import StoreUnavailableError, reading
from storage.event_log import Partition, Topic
from storage.offsets import stored_offsets, watermark
from storage.spool_file import SUFFIX

LAG_SECONDS = 1.0
"""The lag is 0 if what the log held is stored so soon."""

_POLL_SECONDS = 0.1


class Drain:
    """Reads only. Not safe for several threads."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings, self._engine = settings, engine
        self._consumer: Any = None

    def wait_until_caught_up(self, seconds: float) -> bool:
        """Whether the consumers come to have stored everything up to the present, or to `LAG_SECONDS` ago."""
        deadline = time.monotonic() + seconds
        while (left_seconds := deadline - time.monotonic()) > 0:
            ends = self.end_offsets()
            if ends is not None and wait_until(
                lambda ends=ends: self._are_stored(ends),  # type: ignore[misc]  # mypy
                min(LAG_SECONDS, left_seconds),
                _POLL_SECONDS,
            ):
                return True
        return False

    def end_offsets(self) -> Mapping[Partition, int] | None:
        """Of all partitions; None: the log is away."""
        try:
            if self._consumer is None:
                self._consumer = KafkaConsumer(bootstrap_servers=self._settings.kafka, bootstrap_timeout_ms=2000)
            return {
                Partition(topic, name.partition): end
                for topic in get_args(Topic)
                for name, end in self._consumer.end_offsets(self._names(topic), timeout_ms=2000).items()
            }
        except KafkaError:
            return None

    def num_spool_bytes(self) -> int:
        """In all files that wait to be relayed."""
        folder = self._settings.spool_folder
        assert folder is not None
        return sum(_size(path) for path in folder.glob(f"*{SUFFIX}"))

    def wait_until_relayed(self, seconds: float) -> bool:
        return wait_until(lambda: self.num_spool_bytes() == 0, seconds, _POLL_SECONDS)

    def wait_until_final(self, seconds: float) -> bool:
        """Whether no reward is open any more."""
        return wait_until(lambda: self.num_open() == 0, seconds, _POLL_SECONDS)

    def num_open(self, decided_before: float = math.inf) -> int | None:
        """Decisions without a final reward; None: the store is away."""
        statement = select(func.count()).where(rewards.c.final_at.is_(None), rewards.c.decided_at <= decided_before)
        try:
            with reading(self._engine) as connection:
                return connection.execute(statement).scalar_one()
        except StoreUnavailableError:
            return None

    def watermark(self) -> float:
        with reading(self._engine) as connection:
            return watermark(connection, "kafka", "feedback")

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()

    def _names(self, topic: Topic) -> list[Any]:
        return [TopicPartition(topic, number) for number in self._consumer.partitions_for_topic(topic) or ()]

    def _are_stored(self, ends: Mapping[Partition, int]) -> bool:
        try:
            with reading(self._engine) as connection:
                stored = stored_offsets(connection, "kafka")
        except StoreUnavailableError:
            return False
        return all(stored.get(partition, 0) >= end for partition, end in ends.items())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # relayed meanwhile
        return 0
