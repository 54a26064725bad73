"""The consumer: event log → store, exactly once, and rewards as the watermark passes (DESIGN §6 and §7.6)."""

import logging
from collections.abc import Callable
from threading import Event

from schemas.loop_file import Loop
from storage.database import StoreUnavailableError
from storage.event_log import DeadLetterSink, EventLogReader, LogUnavailableError, Partition, Poll
from storage.offsets import StaleOffsetsError
from storage.replay_store import IngestTransaction, ReplayStore
from trainer.ingest.dead_letter_limit import DeadLetterLimit
from trainer.ingest.finality import RewardChanges, reward_changes
from trainer.ingest.parse import Parsed, parse
from trainer.metrics import IngestMetrics

_LOG = logging.getLogger(__name__)

MAX_RECORDS = 5_000
MAX_FINALS = 2_000
"""Due rewards made final in one transaction; what is left waits for the next step."""
POLL_SECONDS = 0.5
PAUSE_SECONDS = 0.05
"""After a step that found little, so that records which arrive one by one share a transaction."""
PAUSED_SECONDS = 1.0
"""Between two looks whether someone resumed it."""
TRIM_EVERY_SECONDS = 60.0
FIRST_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 5.0
_ADVICE = (
    "`steadyrank dead-letters list` shows it; mend the producer or the loop file, then `steadyrank dead-letters resume`"
)


class IngestConsumer:
    """One consumer of the event log. `step` and `run` block; not safe for several threads."""

    def __init__(
        self,
        reader: EventLogReader,
        store: ReplayStore,
        loop: Loop,
        clock: Callable[[], float],
        metrics: IngestMetrics,
        *,
        limit: DeadLetterLimit | None = None,
        dead_letters: DeadLetterSink | None = None,
        retention_seconds: float = 3600.0,
    ) -> None:
        """`dead_letters` takes what is bad before the rest is stored; without one the store's own table does."""
        self._reader = reader
        self._store = store
        self._loop = loop
        self._clock = clock
        self._metrics = metrics
        self._limit = limit
        self._dead_letters = dead_letters
        self._retention_seconds = retention_seconds
        self._offsets: dict[Partition, int] = {}  # as stored
        self._is_in_step = False  # whether the reader stands where the store says
        self._known: frozenset[Partition] = frozenset()  # to the store
        self._is_behind = False
        self._is_paused = False
        self._trim_at = clock() + TRIM_EVERY_SECONDS

    def run(self, stop: Event) -> None:
        """Steps until `stop` is set. A step that fails is logged, counted, and done again from the stored offsets."""
        backoff_seconds = FIRST_BACKOFF_SECONDS
        while not stop.is_set():
            try:
                num_records = 0 if self._look_for_pause() else self.step()
            except Exception as error:  # noqa: BLE001 whatever is wrong, the log keeps until it is put right
                is_known = isinstance(error, StoreUnavailableError | LogUnavailableError | StaleOffsetsError)
                _LOG.warning("ingest: step failed, again in %.1f s: %s", backoff_seconds, error, exc_info=not is_known)
                self._metrics.failures.labels(type(error).__name__).inc()
                if isinstance(error, StaleOffsetsError):
                    backoff_seconds = FIRST_BACKOFF_SECONDS  # nothing is away
                stop.wait(backoff_seconds)
                backoff_seconds = min(2 * backoff_seconds, MAX_BACKOFF_SECONDS)
            else:
                backoff_seconds = FIRST_BACKOFF_SECONDS
                if self._is_paused:
                    stop.wait(PAUSED_SECONDS)
                elif num_records < MAX_RECORDS and not self._is_behind:
                    stop.wait(PAUSE_SECONDS)

    def step(self) -> int:
        """Reads what has come, writes it and makes final what is due, in one transaction. Returns the records read.

        Raises:
            StoreUnavailableError, LogUnavailableError: nothing was written; stepping again is harmless.
            StaleOffsetsError: another consumer was here; the next step goes on from where it got to.
        """
        self._place_reader()
        poll = self._reader.poll(MAX_RECORDS, 0.0 if self._is_behind else POLL_SECONDS)
        known = self._reader.partitions()
        parsed = parse(poll.records, self._loop.feedback_kinds)
        why_pause = self._limit.add(parsed.judged) if self._limit else None
        next_offsets = self._offsets | {record.partition: record.offset + 1 for record in poll.records}
        self._is_in_step = False  # until the commit the reader is ahead of the store
        if self._dead_letters is not None:
            self._dead_letters.put(parsed.dead_letters)
        with self._store.transaction() as transaction:
            transaction.make_known(known - self._known)
            transaction.advance(self._offsets, next_offsets, poll.read_up_to)
            self._write(transaction, parsed)
            changes = self._write_rewards(transaction, parsed)
            if why_pause:
                transaction.pause(self._clock(), why_pause)
        self._is_in_step, self._offsets, self._known = True, next_offsets, self._known | known
        self._observe(poll, parsed, changes)
        self._trim()
        return len(poll.records)

    def _look_for_pause(self) -> bool:
        """Whether ingest is paused; says so when that changes."""
        is_paused = self._store.is_paused()
        if is_paused and not self._is_paused:
            _LOG.error("ingest is paused: too much of what it read was bad. %s", _ADVICE)
        if self._is_paused and not is_paused:
            _LOG.info("ingest goes on")
            if self._limit:
                self._limit.reset()
        self._is_paused = is_paused
        self._metrics.paused.set(is_paused)
        return is_paused

    def _place_reader(self) -> None:
        """Seeks to the stored offsets: at the start, after a failed step, and when the assignment changed."""
        if self._is_in_step and self._reader.is_placed():
            return
        stored = self._store.next_offsets()
        self._offsets = {partition: stored[partition] for partition in self._reader.assignment() if partition in stored}
        self._reader.seek(self._offsets)
        if self._limit:
            self._limit.reset()  # what is read again counts once

    def _write(self, transaction: IngestTransaction, parsed: Parsed) -> None:
        transaction.add_decisions(parsed.decisions)
        transaction.add_feedback(parsed.events)
        if self._dead_letters is None:
            transaction.add_dead_letters(parsed.dead_letters)

    def _write_rewards(self, transaction: IngestTransaction, parsed: Parsed) -> RewardChanges:
        ended_at = transaction.watermark("feedback") - self._loop.reward.wait_seconds
        if not (parsed.decisions or parsed.events or transaction.has_due(ended_at)):
            self._is_behind = False
            return RewardChanges([], [], 0)
        transaction.lock_rewards()
        due = transaction.due(ended_at, MAX_FINALS)
        self._is_behind = len(due) == MAX_FINALS
        touched = transaction.touched(self._may_have_changed(transaction, parsed))
        new_event_ids = {event.event_id for event in parsed.events}
        changes = reward_changes(due, touched, new_event_ids, self._loop, self._clock())
        transaction.write_rewards([*changes.finals, *changes.corrections])
        return changes

    def _may_have_changed(self, transaction: IngestTransaction, parsed: Parsed) -> set[str]:
        """Final decisions that new events speak of, those that one closes, and new ones that an earlier one did."""
        closes = self._loop.reward.closes
        ids = transaction.final_among({event.decision_id for event in parsed.events})
        ids.update(event.decision_id for event in parsed.events if event.kind in closes)
        if closes and parsed.decisions:
            new_ids = [decision.decision_id for decision, _ in parsed.decisions]
            earliest = min(min(decision.decided_at.timestamp(), at) for decision, at in parsed.decisions)
            ids |= transaction.with_events(new_ids, closes, earliest)
        return ids

    def _observe(self, poll: Poll, parsed: Parsed, changes: RewardChanges) -> None:
        now, metrics = self._clock(), self._metrics
        metrics.records.inc(len(poll.records))
        metrics.elements.labels("decisions").inc(len(parsed.decisions))
        metrics.elements.labels("feedback").inc(len(parsed.events))
        for letter in parsed.dead_letters:
            metrics.dead_letters.labels(letter.reason).inc()
        metrics.finals.inc(len(changes.finals))
        metrics.corrections.inc(len(changes.corrections))
        metrics.strangers.inc(changes.num_strangers)
        metrics.lag.set(now - min((at for p, at in poll.read_up_to.items() if p.topic == "feedback"), default=now))
        if poll.records:
            metrics.delay.observe(max(0.0, now - min(record.appended_at for record in poll.records)))

    def _trim(self) -> None:
        now = self._clock()
        if now >= self._trim_at:
            self._trim_at = now + TRIM_EVERY_SECONDS
            self._reader.trim(self._offsets, now - self._retention_seconds)
