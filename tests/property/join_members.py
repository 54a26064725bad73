"""Processes of a consumer group that stand still or die where a story says so."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from schemas.loop_file import Loop
from storage.event_log import Poll
from storage.replay_store import IngestTransaction, ReplayStore
from tests.fakes.memory_log import MemoryLog, MemoryLogReader
from tests.property.join_stories import Step
from trainer.ingest.consumer import IngestConsumer
from trainer.metrics import IngestMetrics

_RETENTION_SECONDS = 30.0  # the log forgets within a story


class KilledError(Exception):
    """The process died here."""


class _WatchedTransaction:
    """Says so before each call."""

    def __init__(self, transaction: IngestTransaction, before_call: Callable[[], None]) -> None:
        self._transaction = transaction
        self._before_call = before_call

    def __getattr__(self, name: str) -> Any:
        self._before_call()
        return getattr(self._transaction, name)


class _WatchedStore(ReplayStore):
    """Says what it does: "begin", then 0, 1, … at each call on the transaction, before the commit, and after it."""

    def __init__(self, engine: Engine, on_commit: Callable[[], None]) -> None:
        super().__init__(engine)
        self.at: Callable[[str | int], None] = lambda _: None
        self._on_commit = on_commit

    @contextmanager
    def transaction(self) -> Iterator[IngestTransaction]:
        self.at("begin")
        self._num_calls = 0
        with super().transaction() as transaction:
            yield cast("IngestTransaction", _WatchedTransaction(transaction, self._count))
            self._count()
        self._on_commit()
        self._count()

    def _count(self) -> None:
        self._num_calls += 1
        self.at(self._num_calls - 1)


class _WatchedReader(MemoryLogReader):
    """Keeps what it gave last, and says when it is about to read."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.at: Callable[[str | int], None] = lambda _: None
        self.last_poll = Poll([], {})

    def poll(self, max_records: int, timeout_seconds: float) -> Poll:
        self.at("poll")
        self.last_poll = super().poll(max_records, timeout_seconds)
        return self.last_poll


class Member:
    """One process. `on_commit` gets what it read and has just written."""

    def __init__(
        self, log: MemoryLog, engine: Engine, loop: Loop, clock: Callable[[], float], on_commit: Callable[[Poll], None]
    ) -> None:
        self.is_busy = False
        self.reader = _WatchedReader(log)
        self._store = _WatchedStore(engine, lambda: on_commit(self._take_poll()))
        self._consumer = IngestConsumer(
            self.reader,
            self._store,
            loop,
            clock,
            IngestMetrics(CollectorRegistry()),
            retention_seconds=_RETENTION_SECONDS,
        )

    def step(self, step: Step, meanwhile: Callable[[], None]) -> None:
        """Raises `KilledError`, and what `IngestConsumer.step` raises."""

        def at(place: str | int) -> None:
            if place == step.dies_at:
                raise KilledError
            if place == step.frozen_at:
                meanwhile()

        self.reader.max_records = step.max_records
        self.reader.first_turn = step.first_turn
        self.reader.asks_for_ends = step.asks_for_ends
        self.reader.is_away = step.is_log_away
        self.reader.at = self._store.at = at
        self._take_poll()
        self.is_busy = True
        try:
            self._consumer.step()
        finally:
            self.is_busy = False

    def _take_poll(self) -> Poll:
        """What it read and has not written yet."""
        poll, self.reader.last_poll = self.reader.last_poll, Poll([], {})
        return poll
