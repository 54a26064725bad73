"""`make loadtest`: steadyrank, locust's shoppers on it, and at the end whether the thresholds were kept.

Exit status 1 where one was not, 2 where something was wrong before there was any load.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.load.parts import Whole, running
from loadtest.load.report import put_into_html, summary, table
from loadtest.load.tally import ACKNOWLEDGED, FIGURES, UNANSWERED, compare
from loadtest.load.thresholds import Figures, Thresholds, ThresholdsError, judge, read_thresholds
from loadtest.parts.server import PartFailedError, PartUnavailableError
from simulators.world import WorldError
from simulators.worlds import parse_world

HERE = Path(__file__).parents[1]
BROKEN, BAD_INPUT = 1, 2
NUM_PRODUCERS = 2

_STOP_SECONDS = 40
"""What locust's users have at the end to finish their page."""


class LoadError(Exception):
    """locust did not get through its run."""


@dataclass(frozen=True, slots=True)
class Load:
    """What locust is to do."""

    folder: Path
    world: str
    seconds: float
    num_shoppers: int
    think_seconds: float

    @property
    def html(self) -> Path:
        return self.folder / "report.html"

    def run(self, whole: Whole) -> None:
        """Raises `LoadError`."""
        log = self.folder / "locust.log"
        with log.open("wb") as output:
            done = subprocess.run(self._command(whole), stdout=output, stderr=output, cwd=HERE.parent, check=False)  # noqa: S603
        if done.returncode != 0:
            raise LoadError(f"locust ended with status {done.returncode}: {log.read_text()[-2000:]}")

    def _command(self, whole: Whole) -> list[str]:
        kafka, num_users = whole.settings.kafka, self.num_shoppers
        if kafka:
            num_users += NUM_PRODUCERS
        options = {
            "--host": whole.url,
            "--users": num_users,
            "--spawn-rate": max(1, num_users // 2),
            "--run-time": f"{self.seconds:.0f}s",
            "--stop-timeout": _STOP_SECONDS,
            "--exit-code-on-error": 0,
            "--html": self.html,
            "--world": self.world,
            "--think": self.think_seconds,
            "--kafka": kafka,
            "--producers": NUM_PRODUCERS,
            "--folder": self.folder,
        }
        words = [f"{name}={value}" for name, value in options.items()]
        program = [sys.executable, "-m", "locust", "--locustfile", str(HERE / "locustfile.py")]
        return [*program, "--headless", "--only-summary", *words]

    def ids(self, file: str) -> list[str]:
        return (self.folder / file).read_text().split()

    def figures(self, whole: Whole) -> Figures:
        """locust's, with what the store says."""
        figures: dict[str, object] = json.loads((self.folder / FIGURES).read_text())
        acknowledged = self.ids(ACKNOWLEDGED)
        stored = whole.stored_ids(len(acknowledged))
        return figures | {"feedback": compare(acknowledged, self.ids(UNANSWERED), stored)}


def conclude(load: Load, thresholds: Thresholds, figures: Figures) -> int:
    """Says how it went, on the terminal and in the report; returns the exit status."""
    (load.folder / FIGURES).write_text(json.dumps(figures, indent=2) + "\n")
    verdicts, lines = judge(thresholds, figures), list(summary(figures))
    put_into_html(load.html, verdicts, lines)
    _say("\n".join([*lines, "", *table(verdicts), "", f"report: {load.html}"]))
    return BROKEN if any(verdict.is_kept is False for verdict in verdicts) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m loadtest.load", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=_positive, default=60.0, help="of load (default: %(default)g)")
    add("--shoppers", type=int, default=60, help="at once (default: %(default)s)")
    add(
        "--think",
        type=float,
        default=0.3,
        metavar="SECONDS",
        help="between two pages, on average (default: %(default)s)",
    )
    add("--world", default="shop", help="whose shoppers (default: %(default)s)")
    add("--kafka", action="store_true", help="on Kafka and PostgreSQL, fetched and started for it")
    add("--thresholds", type=Path, default=HERE / "thresholds.toml", metavar="FILE", help="default: %(default)s")
    add("--folder", type=Path, default=Path("data/loadtest"), help="emptied first (default: %(default)s)")
    return parser.parse_args(arguments)


def _positive(text: str) -> float:
    if (seconds := float(text)) < 1:
        raise ValueError(text)
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    try:
        world, thresholds = parse_world(options.world), read_thresholds(options.thresholds)
    except (WorldError, ThresholdsError) as error:
        return _fail(str(error), BAD_INPUT)
    folder: Path = options.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    load = Load(folder, str(world), options.seconds, options.shoppers, options.think)
    try:
        with running(folder, world, on_kafka=options.kafka) as whole:
            _say(f"{load.num_shoppers} shoppers for {load.seconds:g} s on {whole.url}")
            load.run(whole)
            figures = load.figures(whole)
    except (PartUnavailableError, PartFailedError) as error:
        return _fail(str(error), BAD_INPUT)
    except LoadError as error:
        return _fail(str(error), BROKEN)
    return conclude(load, thresholds, figures)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _fail(text: str, status: int) -> int:
    sys.stderr.write(text + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
