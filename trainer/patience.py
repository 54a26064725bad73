"""Waiting for what is away."""

import logging
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from prometheus_client import Counter

from storage.database import StoreUnavailableError

_LOG = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 5.0

_T = TypeVar("_T")


def patiently(action: Callable[[], _T], stop: Event, failures: Counter) -> _T | None:
    """The action's result, from its first call that does not find the store or the disk away; None once `stop` is set.

    It is called at least once. Each failure is logged, counted by its class, and waited for longer than the one before.
    """
    backoff_seconds = FIRST_BACKOFF_SECONDS
    while True:
        try:
            return action()
        except (StoreUnavailableError, OSError) as error:
            _LOG.warning("again in %.1f s: %s", backoff_seconds, error)
            failures.labels(type(error).__name__).inc()
        if stop.wait(backoff_seconds):
            return None
        backoff_seconds = min(2 * backoff_seconds, MAX_BACKOFF_SECONDS)
