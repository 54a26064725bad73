"""Everything that a broken producer may write, through real Kafka and PostgreSQL: good elements are stored once, bad
ones are dead letters, and ingest goes on. `python -m loadtest.garbage` is the same with a million records.
"""

import uuid
from pathlib import Path

import pytest

from loadtest.garbage.plan import Plan
from loadtest.garbage.report import report
from loadtest.garbage.run import run
from schemas.settings import Settings

NUM_RECORDS = 11_000
"""One in eleven is good."""

pytestmark = pytest.mark.slow


def test_garbage_costs_nothing_but_itself(kafka_servers: str, postgresql_url: str, tmp_path: Path) -> None:
    name = uuid.uuid4().hex
    settings = Settings(
        data=tmp_path / "data",
        kafka=kafka_servers,
        kafka_topic_prefix=f"{name}-",
        kafka_group=name,
        kafka_partitions=3,
        database_url=postgresql_url,
    )
    findings = run(Plan(settings, tmp_path, NUM_RECORDS))
    assert findings.is_good, "\n".join(report(findings))
    assert findings.num_events > 1_000
    assert findings.num_decisions > 100
    assert findings.num_letters > 10_000
    assert len({kind for kind, _ in findings.reasons}) > 30
    assert {reason for _, reason in findings.reasons} == {
        "not_json",
        "wrong_shape",
        "bad_id",
        "too_far_ahead",
        "unknown_kind",
    }
