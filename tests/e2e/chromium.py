"""A headless Chromium for the tests: Debian's own, installed where it lacks. Without one the tests fail, and say so."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

SWITCHES = (
    "--no-sandbox",  # Chromium refuses its sandbox to root
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
ALLOW_NONE = "ALLOW_NO_CHROMIUM"
INSTALL_SECONDS = 300


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser; every context of it is a fresh profile."""
    path = _path()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(SWITCHES))
        try:
            yield browser
        finally:
            browser.close()


def _path() -> Path:
    said = "" if _found() else _install()
    path = _found()
    if path is None and os.environ.get(ALLOW_NONE) == "1":
        pytest.skip(f"no Chromium, and {ALLOW_NONE}=1 allows that")
    if path is None:
        pytest.fail(f"No Chromium, so the console is not tested. Install it, or set {ALLOW_NONE}=1.\n{said}")
    return path


def _found() -> Path | None:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return None if found is None else Path(found)


def _install() -> str:
    """Installs it if that can be done here; what was said about it."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return "`apt-get install chromium` wants Debian and root."
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    said = ""
    for command in ("apt-get update -q", "apt-get install -q -y --no-install-recommends chromium"):
        done = subprocess.run(
            command.split(), capture_output=True, text=True, check=False, env=environment, timeout=INSTALL_SECONDS
        )
        said += (done.stdout + done.stderr)[-1000:]
    return said
