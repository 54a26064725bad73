"""Wires ingest to its parts: the process behind `steadyrank ingest`."""

import gc
import time
from contextlib import ExitStack
from threading import Event

from prometheus_client import CollectorRegistry

from schemas.loop_file import Loop
from schemas.settings import Settings
from storage.database import migrate, open_store
from storage.event_logs import log_name, open_dead_letters, open_reader
from storage.replay_store import ReplayStore
from trainer.ingest.consumer import IngestConsumer
from trainer.ingest.dead_letter_limit import DeadLetterLimit
from trainer.metrics import IngestMetrics
from trainer.metrics_server import serving_metrics
from trainer.patience import patiently

_GC_ALLOCATIONS = 50_000


def run_ingest(settings: Settings, loop: Loop, stop: Event, registry: CollectorRegistry | None = None) -> None:
    """Consumes until `stop` is set; blocks. While the store or the log is away it waits.

    Raises:
        SettingsError: the port of its metrics cannot be had.
    """
    # A batch makes thousands of objects and drops them together: to look for cycles in between costs a tenth of it all.
    gc.set_threshold(_GC_ALLOCATIONS)
    metrics = IngestMetrics(registry or CollectorRegistry())
    settings.data.mkdir(parents=True, exist_ok=True)
    with ExitStack() as parts:
        parts.enter_context(serving_metrics(settings, metrics.registry))
        patiently(lambda: migrate(settings.store_url), stop, metrics.failures)
        engine = open_store(settings.store_url)
        parts.callback(engine.dispose)
        reader = open_reader(settings, time.time)
        parts.callback(reader.close)
        dead_letters = open_dead_letters(settings)
        if dead_letters is not None:
            parts.callback(dead_letters.close)
        IngestConsumer(
            reader,
            ReplayStore(engine, log_name(settings)),
            loop,
            time.time,
            metrics,
            limit=_limit(settings),
            dead_letters=dead_letters,
            retention_seconds=settings.log_retention_seconds,
        ).run(stop)


def _limit(settings: Settings) -> DeadLetterLimit | None:
    if not settings.dead_letter_limit:
        return None
    return DeadLetterLimit(settings.dead_letter_max_share, settings.dead_letter_window, settings.dead_letter_max_run)
