"""What a real part is to a test: started, frozen, killed, and started again on the data that it left."""

import random
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from loadtest.parts.process import Mortal, ProcessTree

_START_SECONDS = 180.0  # a JVM on a busy machine
_STOP_SECONDS = 30.0
_TAIL_BYTES = 3000


class PartUnavailableError(Exception):
    """A part cannot be had on this machine; the text says what is missing and what to do about it."""


class PartFailedError(Exception):
    """A part was started and does not answer; the text has the end of its log."""


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on.

    From below those that outgoing connections get (32768 and up on Linux, 49152 elsewhere): while a server is down, a
    client of whomever might be given its port, and it could not start again.
    """
    while True:
        port = random.randrange(10_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class LocalServer(Mortal, ABC):
    """One server on the loopback address, in a folder of its own; its port and its data stay over restarts.

    As a context manager it is started, and killed at the end: whoever needs an orderly end calls `stop`.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, folder: Path, port: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self.port = port or free_port()
        self.log = self.folder / f"{self.name}.log"

    @abstractmethod
    def _prepare(self) -> Sequence[str]:
        """Make its data folder unless there is one; returns the command that runs it."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it can be worked with now."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Of its first process; it must have been started."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it answers; nothing if it runs.

        Raises:
            PartUnavailableError: what it needs is not on this machine.
            PartFailedError: it ended, or did not answer in three minutes, or another server has its port.
        """
        if not self.is_running:
            if self._listens():  # it would be taken for ours
                raise PartFailedError(f"{self.name} cannot start: another server listens on port {self.port}.")
            self._process = ProcessTree(self._prepare(), self.log)
            self.wait()

    def wait(self, seconds: float = _START_SECONDS) -> None:
        """Until it answers, which it may have to learn again after `resume`.

        Raises:
            PartFailedError: it ended, or did not answer in that time.
        """
        deadline = time.monotonic() + seconds
        while not self._answers():
            if not self.is_running or time.monotonic() > deadline:
                self.kill()
                raise PartFailedError(f"{self.name} on port {self.port} does not answer. Its log:\n{self._log_tail()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """An orderly end."""
        if self._process is not None:
            self._process.terminate(self.stop_signal, _STOP_SECONDS)
            self._process = None

    def restart(self) -> None:
        """An orderly end and a start."""
        self.stop()
        self.start()

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _log_tail(self) -> str:
        return self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
