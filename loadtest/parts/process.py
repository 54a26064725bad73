"""A process and its children, signalled as one, that never outlive the process which started them."""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it brings no types

_WATCH = "read -r _; kill -9 -{pid} $(cat /proc/{pid}/task/{pid}/children 2>/dev/null)"
"""Its stdin closes when this process ends, however it ends; an `atexit` would not run after a kill -9."""

_SIGNAL_SECONDS = 10.0


def wait_until(happened: Callable[[], object], seconds: float, pause_seconds: float = 0.02) -> bool:
    """Whether it happened within that time."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_seconds)
    return True


class ProcessTree:
    """A started command; its output is appended to `log`."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 (a command of ours)
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a terminal's Ctrl-C is for the one who started it
            )
        self._watch = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _WATCH.format(pid=self.pid)], stdin=subprocess.PIPE, start_new_session=True
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Also while it is paused."""
        return self._process.poll() is None

    def terminate(self, number: signal.Signals, seconds: float) -> None:
        """Ask it to end by this signal, and kill it if it is still there after that time."""
        if self.is_running:
            self.resume()
            self._process.send_signal(number)
            wait_until(lambda: not self.is_running, seconds)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to all of its processes while none of them can react; returns when none is left."""
        children = self._signal(signal.SIGKILL)
        self._forget()
        if not wait_until(lambda: all(_is_gone(child) for child in children), _SIGNAL_SECONDS):
            raise TimeoutError(f"Processes are still there {_SIGNAL_SECONDS:g} s after SIGKILL: {children}")

    def pause(self) -> None:
        """SIGSTOP: it keeps its memory, its connections and its locks; returns when none of its processes runs."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> list[psutil.Process]:
        """To the children, then to the parent, which is stopped meanwhile so that it neither forks nor restarts any."""
        if not self.is_running:
            return []
        parent = psutil.Process(self.pid)
        _stop([parent])
        children: list[psutil.Process] = parent.children()
        if number == signal.SIGSTOP:
            _stop(children)
            return children
        for process in (*children, parent):
            _send(process, number)
        return children

    def _forget(self) -> None:
        # The watch goes first: until `wait`, nobody else can get the process id that it would kill.
        self._watch.kill()
        self._watch.communicate()
        self._process.wait()


class Mortal:
    """What is a process tree while it runs, and may be killed, frozen and started again. Starting sets `_process`."""

    _process: ProcessTree | None = None

    @property
    def is_running(self) -> bool:
        """Also while it is paused."""
        return self._process is not None and self._process.is_running

    def kill(self) -> None:
        """As by kill -9, all its processes."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP of all its processes: connections stay open, nothing answers."""
        if self._process is not None:
            self._process.pause()

    def resume(self) -> None:
        if self._process is not None:
            self._process.resume()


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _stop(processes: Sequence[psutil.Process]) -> None:
    """A process of many threads goes on for a moment after the signal."""
    for process in processes:
        _send(process, signal.SIGSTOP)
    if not wait_until(lambda: all(_has_stopped(process) for process in processes), _SIGNAL_SECONDS, 0.001):
        raise TimeoutError(f"Processes still run {_SIGNAL_SECONDS:g} s after SIGSTOP: {processes}")


def _has_stopped(process: psutil.Process) -> bool:
    try:
        return process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
    except psutil.NoSuchProcess:
        return True


def _is_gone(process: psutil.Process) -> bool:
    """A zombie is: whether someone adopts and reaps it is not ours to wait for."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
