"""`python -m loadtest.garbage`: a million records of garbage with good ones between them, against `steadyrank ingest`.

Afterwards every good element must be stored once and as it was written, every bad one must be a dead letter with its
bytes, and the consumer must neither have ended nor have failed a step.
"""

import argparse
import sys
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path

from loadtest.garbage.kinds import GOOD_EVERY
from loadtest.garbage.plan import Plan
from loadtest.garbage.report import report
from loadtest.garbage.run import run
from loadtest.parts.kafka import LocalKafka
from loadtest.parts.postgresql import LocalPostgres
from schemas.settings import Settings


def main() -> int:
    """Returns 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser("python -m loadtest.garbage", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000, help="of garbage (default: %(default)s)")
    parser.add_argument("--store", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory()))
        kafka = parts.enter_context(LocalKafka(folder / "kafka"))
        url = ""
        if options.store == "postgresql":
            url = parts.enter_context(LocalPostgres(folder / "postgresql")).create_database("steadyrank")
        settings = Settings(data=folder / "data", kafka=kafka.servers, kafka_group=uuid.uuid4().hex, database_url=url)
        findings = run(Plan(settings, folder, options.records * GOOD_EVERY // (GOOD_EVERY - 1), options.seed))
    sys.stdout.writelines(f"{line}\n" for line in report(findings))
    return 0 if findings.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
