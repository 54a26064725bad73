"""Programs that tests need and Debian has: installed where they lack. Without one the tests fail, and say so."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

INSTALL_SECONDS = 300


def program(package: str, names: Sequence[str], allow_none: str) -> Path:
    """The path of the first of `names` that there is. Skips where the variable `allow_none` is 1."""
    said = "" if _found(names) else _install(package)
    path = _found(names)
    if path is None and os.environ.get(allow_none) == "1":
        pytest.skip(f"no {package}, and {allow_none}=1 allows that")
    if path is None:
        pytest.fail(f"No {package}, so what needs it is not tested. Install it, or set {allow_none}=1.\n{said}")
    return path


def _found(names: Sequence[str]) -> Path | None:
    found = next(filter(None, map(shutil.which, names)), None)
    return None if found is None else Path(found)


def _install(package: str) -> str:
    """Installs it if that can be done here; what was said about it."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return f"`apt-get install {package}` wants Debian and root."
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    said = ""
    for command in ("apt-get update -q", f"apt-get install -q -y --no-install-recommends {package}"):
        done = subprocess.run(
            command.split(), capture_output=True, text=True, check=False, env=environment, timeout=INSTALL_SECONDS
        )
        said += (done.stdout + done.stderr)[-1000:]
    return said
