"""The production parts on this machine, each to be killed and frozen at will, and started again when it dies."""

import os
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGTERM
from types import TracebackType
from typing import Protocol, Self

from loadtest.chaos.faults import Victim
from loadtest.parts.kafka import LocalKafka
from loadtest.parts.postgresql import LocalPostgres
from loadtest.parts.process import Mortal, ProcessTree, wait_until
from loadtest.parts.server import free_port
from schemas.settings import Settings
from storage.database import migrate
from storage.kafka_topics import make_topics

ROOT = Path(__file__).parents[2]
BACKOFF_SECONDS = 0.5
"""Between a death that nobody asked for and the next start."""

_WATCH_SECONDS = 0.1
_READY_SECONDS = 60.0
_STOP_SECONDS = 10.0


class Part(Protocol):
    """What can be killed: a server of loadtest.parts, or a program of ours."""

    @property
    def is_running(self) -> bool: ...

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Program(Mortal):
    """A command that is a process while it runs; its output is appended to `log`."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command, self.log = command, log

    def start(self) -> None:
        """Does not wait until it is ready."""
        self.kill()
        self._process = ProcessTree(self._command, self.log)

    def stop(self, seconds: float = _STOP_SECONDS) -> bool:
        """SIGTERM, then SIGKILL; returns whether it ended by itself in that time."""
        if self._process is None:
            return True
        started_at = time.monotonic()
        self._process.terminate(SIGTERM, seconds)
        self._process = None
        return time.monotonic() < started_at + seconds


class Target:
    """A part of the cluster, in the hands of one strike at a time."""

    def __init__(self, victim: Victim, number: int, part: Part) -> None:
        self.victim, self.number, self.part = victim, number, part
        self.num_deaths = 0
        """Ends that nobody asked for."""
        self._free = threading.Lock()
        self._died_at: float | None = None

    @property
    def name(self) -> str:
        return f"{self.victim}-{self.number}"

    @contextmanager
    def seized(self) -> Iterator[bool]:
        """Whether it is ours until the end of the block: nobody else strikes or mends it then."""
        is_ours = self._free.acquire(blocking=False)
        try:
            yield is_ours
        finally:
            if is_ours:
                self._free.release()

    def mend(self, now: float) -> None:
        """Starts it again some time after it has died by itself."""
        with self.seized() as is_ours:
            if not is_ours or self.part.is_running:
                self._died_at = None
            elif self._died_at is None:
                self._died_at = now
                self.num_deaths += 1
            elif now >= self._died_at + BACKOFF_SECONDS:
                self._died_at = None
                self.part.kill()  # what it may have left
                self.part.start()


class Cluster:
    """As a context manager all of it runs; whatever dies is started again, and at the end all of it is killed."""

    def __init__(self, folder: Path, loop: Path, num_rankers: int = 2, num_ingest: int = 2) -> None:
        self._folder, self._loop = folder.absolute(), loop.absolute()
        self.logs = self._folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.kafka, self.postgresql = LocalKafka(self._folder / "kafka"), LocalPostgres(self._folder / "postgresql")
        self._ports = [free_port() for _ in range(num_rankers)]
        self._num_ingest = num_ingest
        self._stop = threading.Event()
        self._mending = threading.Thread(target=self._mend, name="supervisor", daemon=True)
        self.targets: list[Target] = []

    @property
    def urls(self) -> list[str]:
        """Of the rankers, by number."""
        return [f"http://127.0.0.1:{port}" for port in self._ports]

    def __enter__(self) -> Self:
        with ExitStack() as started:
            started.enter_context(self.kafka)
            started.enter_context(self.postgresql)
            started.callback(self._end_programs)
            self._start()
            self._started = started.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._started.close()

    def of(self, victim: Victim) -> list[Target]:
        return [target for target in self.targets if target.victim == victim]

    def wait_until_ready(self) -> None:
        """Until every ranker answers, and is ready.

        Raises:
            TimeoutError: one is not, in a minute.
        """
        for url in self.urls:
            if not wait_until(lambda url=url: _is_ready(url), _READY_SECONDS, 0.1):  # type: ignore[misc]  # mypy
                raise TimeoutError(f"the ranker at {url} is not ready; see {self.logs}")

    def stop_programs(self) -> list[str]:
        """In order; returns the names of those that had to be killed."""
        self._stop_mending()
        programs = [target for target in self.targets if isinstance(target.part, Program)]
        return [target.name for target in programs if isinstance(target.part, Program) and not target.part.stop()]

    def _start(self) -> None:
        self.settings = Settings(
            data=self._folder / "data",
            loop=self._loop,
            database_url=self.postgresql.create_database("steadyrank"),
            kafka=self.kafka.servers,
        )
        migrate(self.settings.store_url)
        make_topics(self.settings)
        self.targets = [Target("kafka", 1, self.kafka), Target("postgresql", 1, self.postgresql), *self._programs()]
        for target in self.targets:
            if isinstance(target.part, Program):
                target.part.start()
        self._mending.start()

    def _programs(self) -> Iterator[Target]:
        for number, port in enumerate(self._ports, 1):
            yield Target("serve", number, self._program(f"serve-{number}", "serve", "--port", str(port)))
        for number in range(1, self._num_ingest + 1):
            yield Target("ingest", number, self._program(f"ingest-{number}", "ingest"))
        yield Target("train", 1, self._program("train", "train"))

    def _program(self, name: str, *arguments: str) -> Program:
        settings, script = self.settings, str(ROOT / "steadyrank.py")
        variables = (f"STEADYRANK_DATABASE_URL={settings.database_url}", f"STEADYRANK_KAFKA={settings.kafka}")
        folders = ("--data", str(settings.data), "--loop", str(settings.loop))
        command = ["env", *_without_ours(), *variables, "OMP_NUM_THREADS=1", sys.executable, script, *arguments]
        return Program([*command, *folders], self.logs / f"{name}.log")

    def _mend(self) -> None:
        while not self._stop.wait(_WATCH_SECONDS):
            for target in self.targets:
                target.mend(time.monotonic())

    def _stop_mending(self) -> None:
        self._stop.set()
        if self._mending.is_alive():
            self._mending.join()

    def _end_programs(self) -> None:
        self._stop_mending()
        for target in self.targets:
            target.part.kill()


def _without_ours() -> Iterator[str]:
    """What `env` is told to leave out: settings that this process happens to have."""
    return (f"--unset={name}" for name in os.environ if name.startswith("STEADYRANK_"))


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=1) as response:  # noqa: S310 (our own http address)
            return bool(response.status == 200)
    except OSError:
        return False
