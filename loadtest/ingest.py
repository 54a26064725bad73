"""`steadyrank ingest` as a process of its own, with its metrics and its log to look at."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM
from types import TracebackType
from typing import Self
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from loadtest.parts.process import ProcessTree
from loadtest.parts.server import free_port
from schemas.settings import Settings

ROOT = Path(__file__).parents[1]
_STOP_SECONDS = 20.0
_BAD_LINES = (" WARNING ", " ERROR ", "Traceback")
_PASSED_ON = (
    "database_url",
    "kafka",
    "kafka_topic_prefix",
    "kafka_group",
    "kafka_partitions",
    "dead_letter_limit",
    "train_session_nice",
)


class Ingest:
    """One consumer of the group that the settings name. As a context manager it runs, and at the end is told to end."""

    def __init__(self, settings: Settings, folder: Path, name: str = "ingest") -> None:
        self._port = free_port()
        self.log = folder / f"{name}.log"
        self._command = command(settings, "ingest", "--metrics-port", str(self._port))

    def __enter__(self) -> Self:
        self.process = ProcessTree(self._command, self.log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate(SIGTERM, _STOP_SECONDS)

    def num_read(self) -> int:
        """Records that it has read and committed; 0 while it does not answer."""
        return round(self.samples().get("steadyrank_ingest_records_total", 0.0))

    def num_failed(self) -> dict[str, float]:
        """Steps that failed, by the metric's name with the error's."""
        return {name: num for name, num in self.samples().items() if "failed_steps_total" in name and num > 0}

    def complaints(self) -> list[str]:
        """The lines of its log that say that something is the matter."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if any(word in line for word in _BAD_LINES)]

    def samples(self) -> dict[str, float]:
        """The values of its metrics, by name and labels; none while it does not answer."""
        try:
            with urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        families = text_string_to_metric_families(text)
        return {
            one.name + (str(one.labels) if one.labels else ""): one.value for each in families for one in each.samples
        }


def command(settings: Settings, *arguments: str) -> list[str]:
    """Of a program of ours with these settings, instead of those that this process happens to have."""
    program = ["env", *_variables(settings), sys.executable, str(ROOT / "steadyrank.py"), *arguments]
    return [*program, "--data", str(settings.data), "--loop", str(settings.loop)]


def _variables(settings: Settings) -> Iterator[str]:
    yield from (f"--unset={name}" for name in os.environ if name.startswith("STEADYRANK_"))
    yield from (f"STEADYRANK_{name.upper()}={getattr(settings, name)}" for name in _PASSED_ON)
