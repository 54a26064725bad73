"""Child processes that are restarted when they die, and ended together."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Thread

FIRST_BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 5.0
STEADY_SECONDS = 10.0
"""A child that lived this long is restarted after the first back-off again."""
KILL_AFTER_SECONDS = 3.5
"""From SIGTERM to SIGKILL."""
USAGE_ERROR = 2
"""The exit status of a child that was asked for something impossible: restarting it does not help."""

_TAIL_LINES = 8
_TAIL_BYTES = 4096


class ChildFailedError(Exception):
    """A child that says that it cannot do what it was asked; the text has its last lines."""


class Child:
    """One process, its log and its restarts. `on_line` gets its stdout line by line, in a thread, instead of the log;
    `files` are file descriptors that it inherits. Without a log it writes where this process does.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path | None,
        clock: Callable[[], float],
        *,
        on_line: Callable[[str], None] | None = None,
        files: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.restarts = 0
        self.state = "running"
        self._command, self._log, self._clock, self._on_line, self._files = command, log, clock, on_line, files
        self._backoff_seconds = FIRST_BACKOFF_SECONDS / 2
        self._restart_at = 0.0
        self._reader: Thread | None = None
        self._log_start = 0
        if log is not None:
            _rotate(log)
        self._start()

    @property
    def pid(self) -> int:
        """Of the process that runs, or ran last."""
        return self._process.pid

    def step(self) -> str | None:
        """Notice a death, or restart what is due; returns what there is to say.

        Raises:
            ChildFailedError: it ended with the status for a wrong use.
        """
        if self.state == "running" and self._process.poll() is not None:
            return self._died()
        if self.state == "waiting" and self._clock() >= self._restart_at:
            self.restarts += 1
            self._start()
            return f"{self.name} runs again (pid {self.pid})"
        return None

    def terminate(self) -> None:
        """Ask it to end, and do not restart it."""
        self.state = "stopped"
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def finish(self, max_seconds: float) -> None:
        """Wait for its end after `terminate`; kill it then."""
        try:
            self._process.wait(max(0.0, max_seconds))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close()

    def _start(self) -> None:
        with nullcontext() if self._log is None else self._log.open("ab") as log:
            self._log_start = 0 if log is None else log.tell()
            self._process = subprocess.Popen(  # noqa: S603 (a command of ours)
                self._command,
                stdin=subprocess.PIPE,  # never written to: the child ends when it closes
                stdout=log if self._on_line is None else subprocess.PIPE,
                stderr=log,
                pass_fds=self._files,
                start_new_session=True,  # the terminal's Ctrl-C is for the parent alone, which ends its children
            )
        self._started_at = self._clock()
        self.state = "running"
        if self._on_line is not None:
            self._reader = Thread(target=self._read, args=(self._process, self._on_line), daemon=True)
            self._reader.start()

    def _died(self) -> str:
        self._close()
        if self._process.returncode == USAGE_ERROR:
            self.state = "stopped"
            raise ChildFailedError(f"{self.name} cannot start{self._last_words()}")
        is_steady = self._clock() - self._started_at >= STEADY_SECONDS
        grown_seconds = FIRST_BACKOFF_SECONDS if is_steady else 2 * self._backoff_seconds
        self._backoff_seconds = min(grown_seconds, MAX_BACKOFF_SECONDS)
        self._restart_at = self._clock() + self._backoff_seconds
        self.state = "waiting"
        how = _how(self._process.returncode)
        return f"{self.name} died ({how}); restarting it in {self._backoff_seconds:g} s{self._last_words()}"

    def _close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._reader is not None:
            self._reader.join(1.0)

    def _last_words(self) -> str:
        if self._log is None:
            return ""
        with self._log.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(self._log_start, size - _TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
        return "".join([f"; the last of {self._log}:", *(f"\n    {line}" for line in lines)]) if lines else ""

    @staticmethod
    def _read(process: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                on_line(line.decode(errors="replace"))


class Supervisor:
    """The children of one process. `logs` is the folder of their logs, `say` gets what people should know. Not safe for
    several threads.
    """

    def __init__(
        self, logs: Path | None, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        if logs is not None:
            logs.mkdir(parents=True, exist_ok=True)
        self._logs, self._say, self._clock = logs, say, clock
        self.children: dict[str, Child] = {}

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        on_line: Callable[[str], None] | None = None,
        files: Sequence[int] = (),
    ) -> None:
        log = None if self._logs is None else self._logs / f"{name}.log"
        child = Child(name, command, log, self._clock, on_line=on_line, files=files)
        self.children[name] = child
        self._say(f"{name} runs (pid {child.pid})")

    def step(self) -> None:
        """Restart what died and is due; call it a few times a second. Raises `ChildFailedError`."""
        for child in self.children.values():
            if (news := child.step()) is not None:
                self._say(news)

    def stop(self, names: Iterable[str] | None = None, max_seconds: float = KILL_AFTER_SECONDS) -> None:
        """End these children, or all: SIGTERM at once, SIGKILL after `max_seconds`. Harmless to repeat."""
        children = [self.children[name] for name in (self.children if names is None else names)]
        for child in children:
            child.terminate()
        deadline = time.monotonic() + max_seconds
        for child in children:
            child.finish(deadline - time.monotonic())


def _rotate(log: Path) -> None:
    """The log of the run before is kept, as NAME.log.1."""
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))


def _how(returncode: int) -> str:
    if returncode >= 0:
        return f"exit status {returncode}"
    return f"signal {-returncode}"
