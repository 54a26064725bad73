"""`steadyrank serve --workers N`: rankers on one port, each a process of its own, restarted when they die."""

import logging
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event

from schemas.settings import Settings
from service.serve import listen
from service.up.supervisor import Supervisor

_TICK_SECONDS = 0.2

_log = logging.getLogger(__name__)


def run_workers(settings: Settings, program: Sequence[str], num_workers: int, stop: Event) -> None:
    """Until `stop` is set.

    Args:
        settings: of all of them.
        program: what runs the command line.
        num_workers: how many.
        stop: ends them all.

    Raises:
        SettingsError: the address cannot be bound.
        ChildFailedError: a worker cannot do what is asked; it has said why.
    """
    supervisor = Supervisor(None, _log.info)
    with _reserved(settings) as port, tempfile.TemporaryDirectory(prefix="steadyrank-") as folder:
        _log.info("%s:%d: %d workers", settings.host, port, num_workers)
        command = _command(settings, program, port, folder)
        try:
            for i in range(num_workers):
                supervisor.start(f"worker {i + 1}", command)
            while not stop.wait(_TICK_SECONDS):
                supervisor.step()
        finally:
            supervisor.stop()


def _command(settings: Settings, program: Sequence[str], port: int, metrics_folder: str) -> list[str]:
    where = ("--data", str(settings.data.absolute()), "--loop", str(settings.loop.absolute()))
    address = ("--host", settings.host, "--port", str(port))
    return [*program, "serve", *where, *address, "--worker-of", metrics_folder, "--until-stdin-closes"]


@contextmanager
def _reserved(settings: Settings) -> Iterator[int]:
    """The port, which stays ours while no worker listens. Each has a socket of its own on it, among which the kernel
    spreads connections evenly (Linux does); of one that dies the others get them from then on.
    """
    with listen(settings) as alone:  # so a port that another server shares with its own workers counts as taken
        address, family = alone.getsockname(), alone.family
    with socket.socket(family) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
        yield address[1]
