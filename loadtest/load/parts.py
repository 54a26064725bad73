"""The whole of steadyrank for a load test: `steadyrank up`, on embedded parts or on Kafka and PostgreSQL."""

import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

from loadtest.chaos.stored import stored_events
from loadtest.ingest import command
from loadtest.parts.kafka import LocalKafka
from loadtest.parts.postgresql import LocalPostgres
from loadtest.parts.process import ProcessTree, wait_until
from loadtest.parts.server import PartFailedError, free_port
from schemas.settings import Settings
from simulators.worlds import WorldSpec
from storage.database import open_store
from storage.story import num_feedback

_READY_SECONDS = 60.0
_STOP_SECONDS = 10.0
_DRAIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Whole:
    """What runs, and where it is."""

    settings: Settings
    url: str

    def stored_ids(self, num_expected: int) -> list[str]:
        """Of all feedback, once so much is stored, or half a minute later."""
        engine = open_store(self.settings.store_url)
        try:
            wait_until(lambda: num_feedback(engine) >= num_expected, _DRAIN_SECONDS, 0.2)
            return [event.event_id for event in stored_events(engine)]
        finally:
            engine.dispose()


@contextmanager
def running(folder: Path, world: WorldSpec, *, on_kafka: bool) -> Iterator[Whole]:
    """All of it, in a folder, ready for requests; ended at the end of the block.

    Raises:
        PartUnavailableError, PartFailedError: Kafka or PostgreSQL cannot be had, or something does not come up.
    """
    with ExitStack() as parts:
        # Shoppers on the same machine leave no core idle, and the learner is judged too.
        settings = Settings(data=folder / "data", loop=world.loop_path, train_session_nice=0)
        if on_kafka:
            kafka = parts.enter_context(LocalKafka(folder / "kafka"))
            postgresql = parts.enter_context(LocalPostgres(folder / "postgresql"))
            where = {"kafka": kafka.servers, "database_url": postgresql.create_database("steadyrank")}
            settings = settings.model_copy(update=where)
        port, log = free_port(), folder / "up.log"
        up = ProcessTree(command(settings, "up", "--port", str(port)), log)
        parts.callback(up.terminate, SIGTERM, _STOP_SECONDS)
        url = f"http://127.0.0.1:{port}"
        if not wait_until(lambda: not up.is_running or _is_ready(url), _READY_SECONDS, 0.1) or not up.is_running:
            raise PartFailedError(f"steadyrank up does not answer; see {log} and {settings.data / 'logs'}")
        yield Whole(settings, url)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=1) as response:  # noqa: S310 (our own http address)
            return bool(response.status == 200)
    except OSError:
        return False
