"""What must hold before `steadyrank up` starts anything: each failure is an `UpError` that says what to do."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from schemas.loop_file import Loop

LOCK_FILE = "up.lock"
LOOP_FILE = "loop.json"
_BACKLOG = 2_048  # who connects while the ranker is restarted waits here


class UpError(Exception):
    """`steadyrank up` cannot start; the text says why and what to do."""


class _Owner(msgspec.Struct):
    """`loop.json`: the loop that a data folder belongs to."""

    name: str
    hash: str


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the data folder and hold it: a second `up` on it is refused. The lock goes with the process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK_FILE).open("a+")
    except OSError as error:
        raise UpError(f"the data folder {folder.absolute()} cannot be used: {error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UpError(
                f"steadyrank up runs on {folder.absolute()} already (pid {file.read().strip() or 'unknown'}): "
                "stop that one, or take another folder with --data"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def claim(folder: Path, loop: Loop) -> str | None:
    """Note that the data folder belongs to this loop. Returns what there is to say if its shape has changed.

    Raises:
        UpError: it belongs to a loop of another name, whose decisions this one cannot learn from.
    """
    path, me = folder / LOOP_FILE, _Owner(loop.name, loop.hash)
    owner = _owner(path) or me
    if owner.name != me.name:
        raise UpError(
            f"the data folder {folder.absolute()} belongs to the loop {owner.name!r}, and this one is {me.name!r}: "
            f"take another folder, as in --data {folder / me.name}, or remove that one to start anew"
        )
    path.write_bytes(msgspec.json.encode(me))
    if owner.hash == me.hash:
        return None
    return (
        "the loop's features, action or network have changed: its old policies do not serve any more, "
        "and the learner begins anew from the stored decisions"
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there, on any free port for 0; the caller closes it.

    Raises:
        UpError: the port is in use, or the address is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise UpError(_port_problem(host, port, error)) from error


def check_report_path(path: Path) -> None:
    """Raises `UpError` where the report could not be written at the end."""
    if path.is_dir() or not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise UpError(f"--report {path} cannot be written: give a file in a folder that exists")


def address(host: str, port: int) -> str:
    """The URL at which this machine reaches a ranker that listens on `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 a comparison
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def _owner(path: Path) -> _Owner | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Owner)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _port_problem(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is in use: stop what listens there, or take another with --port (0: any free one)"
        )
    return f"nothing can listen on {host}, port {port}: {error.strerror or error}"
