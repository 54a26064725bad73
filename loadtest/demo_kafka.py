"""`python -m loadtest.demo_kafka`: the demo on real parts: Kafka and PostgreSQL beside it, and the same report."""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from loadtest.parts.kafka import LocalKafka
from loadtest.parts.postgresql import LocalPostgres
from loadtest.parts.server import PartFailedError, PartUnavailableError

ROOT = Path(__file__).parents[1]
UNAVAILABLE = 2


def run_demo(folder: Path, up_options: list[str]) -> int:
    """`steadyrank up` on parts of its own in `folder`, until it ends; returns its exit status.

    Raises:
        PartUnavailableError, PartFailedError: Kafka or PostgreSQL cannot be had, or does not come up.
    """
    with LocalKafka(folder / "kafka") as kafka, LocalPostgres(folder / "postgresql") as postgresql:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("STEADYRANK_")},
            "STEADYRANK_DATABASE_URL": postgresql.create_database("steadyrank"),
            "STEADYRANK_KAFKA": kafka.servers,
        }
        command = [sys.executable, str(ROOT / "steadyrank.py"), "up", "--data", str(folder), *up_options]
        # In a session of its own: a terminal's Ctrl-C is for this process, which passes it on once.
        up = subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: S603 (a command of ours)
        with _passing_on_signals(up):
            return up.wait()


@contextmanager
def _passing_on_signals(child: subprocess.Popen[bytes]) -> Iterator[None]:
    def pass_on(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m loadtest.demo_kafka",
        description=__doc__,
        epilog="Other options go to `steadyrank up`.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data/demo-kafka"), help="a new folder (default: %(default)s)"
    )
    options, up_options = parser.parse_known_args()
    if options.data.exists():
        parser.error(f"--data {options.data} is there already: remove it, or name another")
    sys.stdout.write("starting Kafka and PostgreSQL\n")
    sys.stdout.flush()
    try:
        return run_demo(options.data.absolute(), up_options)
    except (PartUnavailableError, PartFailedError) as error:
        sys.stderr.write(f"{error}\n")
        return UNAVAILABLE
    except KeyboardInterrupt:  # before there was anything to pass it on to
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
