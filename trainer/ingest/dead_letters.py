"""`steadyrank dead-letters`: look at what ingest could not read, replay it, and let ingest go on."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import TextIO

from schemas.loop_file import Loop
from schemas.settings import Settings
from storage.database import migrate, open_store
from storage.dead_letters import SqlDeadLetters
from storage.event_log import DeadLetter, EventLogWriter, LogUnavailableError
from storage.event_logs import DeadLetters, log_name, open_dead_letters, open_writer
from storage.replay_store import ReplayStore
from trainer.ingest.replay_letters import revived

SHOWN = 100
_BATCH = 200
_APPEND_SECONDS = 30.0
_SHOWN_BYTES = 200


def run_list(settings: Settings, out: TextIO, limit: int = SHOWN) -> None:
    """The oldest `limit`, a line each, and how many there are of each reason.

    Raises:
        StoreUnavailableError, LogUnavailableError: what holds them is away.
    """
    reasons: Counter[str] = Counter()
    with _opened(settings) as letters:
        for letter in letters.read():
            reasons[letter.reason] += 1
            if reasons.total() <= limit:
                out.write(_line(letter))
    out.write(f"{_sum(reasons)}\n")


def run_replay(settings: Settings, loop: Loop, out: TextIO) -> None:
    """Appends to the event log again what is good under the loop file of now. Harmless to repeat: ids are kept.

    Raises:
        StoreUnavailableError, LogUnavailableError: some was not replayed; do it again.
    """
    num_replayed, still_bad = 0, Counter[str]()
    with _opened(settings) as letters, ExitStack() as parts:
        writer = open_writer(settings, time.time)
        parts.callback(writer.close)
        remaining = letters.read()
        while batch := list(islice(remaining, _BATCH)):
            judged = [(letter, revived(letter, loop.feedback_kinds, time.time())) for letter in batch]
            good = [(letter, value) for letter, value in judged if isinstance(value, bytes)]
            _append(writer, good)
            letters.forget([letter for letter, _ in good])
            num_replayed += len(good)
            still_bad.update(each.reason for _, each in judged if isinstance(each, DeadLetter))
    out.write(f"{num_replayed:,} replayed; still bad: {_sum(still_bad)}\n")


def run_resume(settings: Settings, out: TextIO) -> None:
    """Lets ingest go on that the dead-letter limit paused.

    Raises:
        StoreUnavailableError: the store is away.
    """
    with ExitStack() as parts:
        num_ended = _store(settings, parts).resume(time.time())
    out.write("ingest goes on\n" if num_ended else "ingest was not paused\n")


def _store(settings: Settings, parts: ExitStack) -> ReplayStore:
    migrate(settings.store_url)
    engine = open_store(settings.store_url)
    parts.callback(engine.dispose)
    return ReplayStore(engine, log_name(settings))


@contextmanager
def _opened(settings: Settings) -> Iterator[DeadLetters]:
    with ExitStack() as parts:
        letters: DeadLetters | None = open_dead_letters(settings)
        if letters is None:
            migrate(settings.store_url)
            engine = open_store(settings.store_url)
            parts.callback(engine.dispose)
            letters = SqlDeadLetters(engine)
        parts.callback(letters.close)
        yield letters


def _append(writer: EventLogWriter, good: Iterable[tuple[DeadLetter, bytes]]) -> None:
    appends: list[Future[None]] = [writer.append(letter.partition.topic, value) for letter, value in good]
    for append in appends:
        try:
            append.result(_APPEND_SECONDS)
        except FutureTimeoutError as error:
            raise LogUnavailableError(f"the event log took nothing for {_APPEND_SECONDS:g} s") from error


def _line(letter: DeadLetter) -> str:
    at = datetime.fromtimestamp(letter.received_at, UTC).isoformat(timespec="seconds")
    origin = f"{letter.partition.topic}/{letter.partition.number} {letter.offset}[{letter.index}]"
    value = letter.value[:_SHOWN_BYTES] + (b"..." if len(letter.value) > _SHOWN_BYTES else b"")
    return f"{at}  {origin}  {letter.reason}: {letter.detail}\n    {value!r}\n"


def _sum(reasons: Counter[str]) -> str:
    if not reasons:
        return "none"
    return f"{reasons.total():,} ({', '.join(f'{reason} {num:,}' for reason, num in reasons.most_common())})"
