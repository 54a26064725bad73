"""A headless Chromium for the tests: Debian's own, installed where it lacks. Without one the tests fail, and say so."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests.debian import program

SWITCHES = (
    "--no-sandbox",  # Chromium refuses its sandbox to root
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
ALLOW_NONE = "ALLOW_NO_CHROMIUM"


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser; every context of it is a fresh profile."""
    path = program("chromium", ("chromium", "chromium-browser", "google-chrome"), ALLOW_NONE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(SWITCHES))
        try:
            yield browser
        finally:
            browser.close()
