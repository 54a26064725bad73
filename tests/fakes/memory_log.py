"""An event log in memory: topics of several partitions, and readers whose partitions are dealt out by hand.

It keeps the port of `storage.event_log` on any clock, so that a test decides when time passes, who reads what, how much
of it at once, and how long a record stays unseen after its append.
"""

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from storage.event_log import LogUnavailableError, Partition, Poll, Record, Topic

MARGIN_SECONDS = 1.0
"""A record is seen sooner after its append than this."""


@dataclass(frozen=True, slots=True)
class _Held:
    record: Record
    seen_from: float


class MemoryLog:
    """Safe for several threads."""

    def __init__(self, num_partitions: Mapping[Topic, int], clock: Callable[[], float]) -> None:
        self.clock = clock
        self._held: dict[Partition, list[_Held]] = {
            Partition(topic, number): [] for topic, num in num_partitions.items() for number in range(num)
        }
        self._next_offsets = dict.fromkeys(self._held, 0)
        self._changed = threading.Condition()  # guards the two above

    def partitions(self) -> frozenset[Partition]:
        return frozenset(self._held)

    def append(self, partition: Partition, value: bytes, unseen_seconds: float = 0.0) -> Record:
        """Readers see the record after `unseen_seconds`, and never before an earlier one of its partition."""
        with self._changed:
            held, now = self._held[partition], self.clock()
            last = held[-1] if held else _Held(Record(partition, -1, -math.inf, b""), -math.inf)
            record = Record(partition, self._next_offsets[partition], max(now, last.record.appended_at), value)
            held.append(_Held(record, max(now + unseen_seconds, last.seen_from)))
            self._next_offsets[partition] += 1
            self._changed.notify_all()
        return record

    def seen(self, partition: Partition, offset: int, max_records: int) -> list[Record]:
        """The first `max_records` from `offset` on that can be seen by now."""
        with self._changed:
            now = self.clock()
            found = [each.record for each in self._held[partition] if each.seen_from <= now]
        return [record for record in found if record.offset >= offset][:max_records]

    def forget(self, partition: Partition, below: int, appended_before: float) -> None:
        with self._changed:
            self._held[partition] = [
                each
                for each in self._held[partition]
                if each.record.offset >= below or each.record.appended_at >= appended_before
            ]

    def num_appended(self) -> int:
        with self._changed:
            return sum(self._next_offsets.values())

    def wait(self, num_appended: int, seconds: float) -> bool:
        """Until there are more than so many; False if there are not."""
        with self._changed:
            return self._changed.wait_for(lambda: self.num_appended() > num_appended, seconds)


class MemoryLogWriter:
    """To the partitions of a topic in turn."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._is_closed = False
        self._turns: dict[Topic, int] = {}

    def append(self, topic: Topic, value: bytes) -> Future[None]:
        future: Future[None] = Future()
        if self._is_closed:
            future.set_exception(LogUnavailableError("this writer of the event log is closed"))
            return future
        numbers = [partition.number for partition in self._log.partitions() if partition.topic == topic]
        turn = self._turns[topic] = self._turns.get(topic, -1) + 1
        self._log.append(Partition(topic, turn % len(numbers)), value)
        future.set_result(None)
        return future

    def close(self) -> None:
        self._is_closed = True


class MemoryLogReader:
    """One consumer of a group: `assign` is what a rebalance does to it.

    Nobody keeps two readers from having one partition at once: so it is while the one that lost it has not heard yet.
    """

    def __init__(self, log: MemoryLog, *, is_patient: bool = False) -> None:
        """Of no partition yet. A patient one waits for records as long as it is told to, by the wall's clock."""
        self.is_away = False
        """The log cannot be reached."""
        self.asks_for_ends = True
        """Whether a poll learns where the partitions end; if not, it has read up to its last record only."""
        self.max_records = 1_000
        """A poll gives no more, however many it is asked for."""
        self.first_turn = 0
        """Which of its partitions the next poll asks first; each poll moves it on."""
        self._log = log
        self._is_patient = is_patient
        self._assigned: frozenset[Partition] = frozenset()
        self._next_offsets: dict[Partition, int] = {}  # of those that were placed since the assignment
        self._read_up_to: dict[Partition, float] = {}

    def assign(self, partitions: Iterable[Partition]) -> None:
        """As Kafka does by default: every reader of the group gives up all that it has, and gets some of it again."""
        self._assigned = frozenset(partitions)
        self._next_offsets, self._read_up_to = {}, {}

    def assignment(self) -> frozenset[Partition]:
        return self._assigned

    def partitions(self) -> frozenset[Partition]:
        return self._log.partitions()

    def is_placed(self) -> bool:
        return self._assigned == self._next_offsets.keys()

    def seek(self, next_offsets: Mapping[Partition, int]) -> None:
        self._next_offsets = {partition: next_offsets.get(partition, 0) for partition in self._assigned}
        self._read_up_to = dict.fromkeys(self._assigned, -math.inf)

    def poll(self, max_records: int, timeout_seconds: float) -> Poll:
        if self.is_away:
            raise LogUnavailableError("the log is away")
        num_appended = self._log.num_appended()  # before it reads: what comes meanwhile is not to be slept through
        records = self._read(max_records)
        while not records and self._is_patient and self._log.wait(num_appended, timeout_seconds):
            num_appended = self._log.num_appended()
            records = self._read(max_records)
        return Poll(records, dict(self._read_up_to))

    def trim(self, next_offsets: Mapping[Partition, int], appended_before: float) -> None:
        for partition, offset in next_offsets.items():
            self._log.forget(partition, offset, appended_before)

    def close(self) -> None:
        pass

    def _read(self, max_records: int) -> list[Record]:
        asked_at = self._log.clock()
        records: list[Record] = []
        for partition in self._in_turn():
            room = min(max_records, self.max_records) - len(records)
            found = self._log.seen(partition, self._next_offsets[partition], room)
            self._note(partition, found, asked_at if len(found) < room and self.asks_for_ends else -math.inf)
            records += found
        return records

    def _in_turn(self) -> Iterator[Partition]:
        partitions = sorted(self._next_offsets, key=lambda partition: (partition.topic, partition.number))
        first = self.first_turn % len(partitions) if partitions else 0
        self.first_turn = first + 1
        return iter(partitions[first:] + partitions[:first])

    def _note(self, partition: Partition, found: list[Record], end_seen_at: float) -> None:
        read_up_to = max(self._read_up_to[partition], end_seen_at - MARGIN_SECONDS)
        for record in found[-1:]:
            self._next_offsets[partition] = record.offset + 1
            read_up_to = max(read_up_to, record.appended_at)
        self._read_up_to[partition] = read_up_to
