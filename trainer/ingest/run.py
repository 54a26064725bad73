"""Wires ingest to its parts: the process behind `steadyrank ingest`."""

import time
from threading import Event

from prometheus_client import CollectorRegistry

from schemas.loop_file import Loop
from schemas.settings import Settings
from storage.database import migrate, open_store
from storage.replay_store import ReplayStore
from storage.sql_log import SqlEventLogReader
from trainer.ingest.consumer import IngestConsumer
from trainer.metrics import IngestMetrics


def run_ingest(settings: Settings, loop: Loop, stop: Event, registry: CollectorRegistry | None = None) -> None:
    """Consumes until `stop` is set; blocks.

    Raises:
        StoreUnavailableError: the store could not be migrated at the start. Later it is only waited for.
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    migrate(settings.store_url)
    engine = open_store(settings.store_url)
    reader = SqlEventLogReader(settings.log_url, clock=time.time)
    metrics = IngestMetrics(registry or CollectorRegistry())
    try:
        IngestConsumer(
            reader, ReplayStore(engine), loop, time.time, metrics, retention_seconds=settings.log_retention_seconds
        ).run(stop)
    finally:
        reader.close()
        engine.dispose()
