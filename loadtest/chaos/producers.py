"""The load beside the service: producers who write to the topic themselves, of the decisions that shoppers were given.

One JSON object a record, or an array, with no key or any; some events without an id, some without a time.
"""

import argparse
import heapq
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from random import Random
from threading import Event, Lock
from typing import Any

import msgspec
from kafka import KafkaProducer  # type: ignore[import-untyped]  # it brings no types
from kafka.errors import KafkaError, KafkaTimeoutError  # type: ignore[import-untyped]  # the same

from loadtest.chaos.events import Sending, Storyteller
from loadtest.chaos.ledger import Acknowledged, Answered, Asked, LedgerReader, LedgerWriter, Tally
from schemas.messages import FeedbackEvent
from service.up.lifeline import stopped_by_signals

TOPIC = "feedback"
MAX_IN_FLIGHT = 1_000
"""Records; kafka-python itself knows no bound."""
MAX_PER_ARRAY = 20
LEAVE_SECONDS = 30.0

_TICK_SECONDS = 0.02
_PAUSE_SECONDS = 0.5
_OPTIONS = {
    "acks": "all",
    "linger_ms": 5,
    "max_block_ms": 1000,
    "delivery_timeout_ms": 30_000,
    "request_timeout_ms": 5000,
    "reconnect_backoff_max_ms": 1000,
    "bootstrap_timeout_ms": 2000,
}

Record = tuple[tuple[FeedbackEvent, ...], bool]
"""Events, and whether they are sent as an array."""


class Outlet:
    """A producer, and another one when it has failed. `stored` and `failed` are called from its thread."""

    def __init__(self, servers: str, rng: Random) -> None:
        self._servers, self._rng = servers, rng
        self._producer: Any = None
        self._in_flight, self._changed = 0, Lock()
        self._is_broken = Event()

    @property
    def num_in_flight(self) -> int:
        return self._in_flight

    def send(self, value: bytes, stored: Callable[[Any], None], failed: Callable[[BaseException], None]) -> None:
        """`stored` gets what the broker said of it. Blocks for a few seconds where no broker answers.

        Raises:
            KafkaError: it was not sent.
        """
        if self._producer is None or self._is_broken.is_set():
            self._connect()
        key = None if self._rng.random() < 0.5 else self._rng.randbytes(8)
        sent = self._producer.send(TOPIC, value, key=key)
        self._count(+1)
        sent.add_callback(self._settled, stored)
        sent.add_errback(self._broke, failed)

    def close(self, seconds: float) -> None:
        """Waits for what is in flight."""
        if self._producer is not None:
            with suppress(KafkaTimeoutError):
                self._producer.flush(timeout=seconds)
            self._dismiss()

    def _connect(self) -> None:
        self._dismiss()
        self._producer = KafkaProducer(bootstrap_servers=self._servers, **_OPTIONS)
        self._is_broken.clear()

    def _dismiss(self) -> None:
        """Its own `close` waits for what it cannot send any more."""
        if self._producer is not None:
            self._producer._sender.force_close()  # noqa: SLF001 see above
            self._producer = None

    def _settled(self, then: Callable[[Any], None], outcome: Any) -> None:
        self._count(-1)
        then(outcome)

    def _broke(self, then: Callable[[BaseException], None], error: BaseException) -> None:
        self._is_broken.set()
        self._settled(then, error)

    def _count(self, change: int) -> None:
        with self._changed:
            self._in_flight += change


class Producers:
    """Say of each decision in the shoppers' ledger what there is to say, and note what the broker has taken."""

    def __init__(
        self, outlet: Outlet, heard: LedgerReader, ledger: LedgerWriter, rng: Random, wait_seconds: float
    ) -> None:
        self._outlet, self._heard, self._ledger, self._rng = outlet, heard, ledger, rng
        self._storyteller = Storyteller("k", rng, wait_seconds)
        self._due: list[tuple[float, int, Sending]] = []
        self._number = count().__next__
        self._again: deque[FeedbackEvent] = deque()
        self._encode = msgspec.json.Encoder().encode
        self.counts: Counter[str] = Counter()

    def run(self, stop: Event) -> None:
        while not stop.wait(_TICK_SECONDS):
            self._hear()
            while self._outlet.num_in_flight < MAX_IN_FLIGHT and (events := self._next_events()):
                are_sent = [self._send(*record) for record in self._packed(events)]
                if not all(are_sent):
                    stop.wait(_PAUSE_SECONDS)
                    break

    def _hear(self) -> None:
        now = time.time()
        for entry in self._heard.read():
            if isinstance(entry, Answered | Asked):
                for sending in self._storyteller.story(entry.decision_id, entry.item_ids, now):
                    heapq.heappush(self._due, (sending.at, self._number(), sending))

    def _next_events(self) -> list[FeedbackEvent]:
        """Some that are due, if any are."""
        events: list[FeedbackEvent] = []
        while self._again and len(events) < MAX_PER_ARRAY:
            events.append(self._again.popleft())
        while self._due and self._due[0][0] <= time.time() and len(events) < MAX_PER_ARRAY:
            events += map(self._untimed, heapq.heappop(self._due)[2].events)
        return events

    def _untimed(self, event: FeedbackEvent) -> FeedbackEvent:
        """Some of those without an id have no time either; with one, a repeat would tell of another time."""
        if event.event_id is None and self._rng.random() < 0.5:
            return msgspec.structs.replace(event, occurred_at=None)
        return event

    def _packed(self, events: Sequence[FeedbackEvent]) -> Iterator[Record]:
        if self._rng.random() < 0.3:
            yield tuple(events), True
        else:
            yield from (((event,), False) for event in events)

    def _send(self, events: tuple[FeedbackEvent, ...], is_array: bool) -> bool:
        """Whether it is on its way; else it is tried again."""
        value = self._encode(events if is_array else events[0])

        def stored(metadata: Any) -> None:
            self._ledger.add(*_acknowledged(events, metadata))
            self.counts["kafka acknowledged"] += 1

        def failed(error: BaseException) -> None:
            self.counts[f"kafka {type(error).__name__}"] += 1
            # It may be in the log all the same: without an id it would then be another event.
            self._again.extend(event for event in events if event.event_id is not None)

        try:
            self._outlet.send(value, stored, failed)
        except KafkaError as error:
            self.counts[f"kafka {type(error).__name__}"] += 1
            self._again.extend(events)
            return False
        return True


def _acknowledged(events: Sequence[FeedbackEvent], metadata: Any) -> Iterator[Acknowledged]:
    """Where the broker says that it has a record, but not where, nobody knows the ids that it gives."""
    for index, event in enumerate(events):
        event_id = event.event_id
        if event_id is None and metadata.offset >= 0:
            event_id = f"{TOPIC}:{metadata.partition}:{metadata.offset}:{index}"
        at = metadata.timestamp / 1000 if event.occurred_at is None else event.occurred_at.timestamp()
        if event_id is not None:
            yield Acknowledged.of(event, event_id, at, "producer")


def _main(options: argparse.Namespace) -> None:
    stop = stopped_by_signals()
    rng = Random(options.seed)
    outlet, heard = Outlet(options.kafka, rng), LedgerReader(options.decisions)
    with LedgerWriter(options.ledger) as ledger:
        producers = Producers(outlet, heard, ledger, rng, options.wait_seconds)
        producers.run(stop)
        outlet.close(LEAVE_SECONDS)
        ledger.add(Tally(producers.counts))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", required=True, help="bootstrap servers")
    parser.add_argument("--decisions", type=Path, required=True, help="the shoppers' ledger")
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--wait-seconds", type=float, required=True, help="the loop's attribution window")
    _main(parser.parse_args())
