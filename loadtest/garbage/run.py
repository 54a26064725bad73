"""One run: write the records while ingest reads them, wait until all are read, and audit."""

import time

from loadtest.garbage.audit import Findings, audit, expected_of
from loadtest.garbage.plan import Plan
from loadtest.garbage.producers import produce_all
from loadtest.ingest import Ingest
from storage.kafka_topics import make_topics

LOOP_TEXT = """
name = "garbage"
[state]
page = { kind = "number" }
[item]
id = { kind = "category", buckets = 16 }
[action]
kind = "slate"
size = 2
[reward]
click = 1.0
wait = "10s"
[learner]
agent = "dqn"
[exploration]
kind = "softmax"
"""
_STUCK_SECONDS = 180.0
_LOOK_SECONDS = 0.2


def run(plan: Plan) -> Findings:
    """What became of all records.

    Raises:
        TimeoutError: ingest reads no more.
    """
    loop = plan.folder / "loop.toml"
    loop.write_text(LOOP_TEXT)
    settings = plan.settings.model_copy(update={"loop": loop, "dead_letter_limit": False})
    make_topics(settings)
    started_at = time.monotonic()
    with Ingest(settings, plan.folder) as ingest:
        produce_all(plan)
        _wait_until_read(ingest, plan.num_records)
        seconds = time.monotonic() - started_at
        troubles = [f"{name}: {num:.0f} failed" for name, num in ingest.num_failed().items()]
        if not ingest.process.is_running:
            troubles.append("ingest ended")
    return audit(plan, expected_of(settings), seconds, troubles + ingest.complaints())


def _wait_until_read(ingest: Ingest, num_records: int) -> None:
    """Until so many are read and committed, or the consumer has ended."""
    num_read, changed_at = -1, time.monotonic()
    while num_read < num_records and ingest.process.is_running:
        now_read = ingest.num_read()
        if now_read > num_read:
            num_read, changed_at = now_read, time.monotonic()
        elif time.monotonic() > changed_at + _STUCK_SECONDS:
            raise TimeoutError(f"ingest stands at {num_read:,} of {num_records:,} records; see {ingest.log}")
        time.sleep(_LOOK_SECONDS)
