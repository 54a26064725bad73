"""`/metrics` of a process that answers nothing else: ingest and the learner."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from schemas.settings import Settings, SettingsError

_LOG = logging.getLogger(__name__)


@contextmanager
def serving_metrics(settings: Settings, registry: CollectorRegistry) -> Iterator[None]:
    """Answers `/metrics` with the registry and the process's own figures, from threads, where `metrics_port` is set.

    Raises:
        SettingsError: the address cannot be bound.
    """
    host, port = settings.host, settings.metrics_port
    if port is None:
        yield
        return
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise SettingsError(
            f"STEADYRANK_METRICS_PORT: cannot listen on {host}:{port}: {error.strerror}. "
            "Each process of a machine needs a port of its own"
        ) from error
    process = ProcessCollector(registry=registry)
    _LOG.info("metrics on http://%s:%d/metrics", f"[{host}]" if ":" in host else host, port)
    try:
        yield
    finally:
        registry.unregister(process)
        server.shutdown()
        server.server_close()
        thread.join()
