"""What must not be is a problem; what may be is none."""

from collections import Counter
from typing import Any

import pytest

from loadtest.chaos.audit import DecisionFindings, EventFindings, LostDecision, RewardFindings
from loadtest.chaos.killer import Struck
from loadtest.chaos.ledger import Acknowledged
from loadtest.chaos.report import Evidence, make_report, problems, table
from storage.open_decisions import StoredEvent

KILLS = [Struck("serve", 1, "kill", 10.0, 11.0), Struck("kafka", 1, "kill", 20.0, 23.0)]
STOP = Struck("ingest", 2, "stop", 30.0, 38.0)


def evidence(**changes: Any) -> Evidence:
    good: dict[str, Any] = {
        "seconds": 10.0,
        "num_kills_wanted": 2,
        "num_events_wanted": 1,
        "struck": [*KILLS, STOP],
        "deaths": {"ingest-1": 1, "serve-1": 0},
        "killed_at_end": [],
        "acknowledged": {"e1": Acknowledged("e1", "d1", "a", "click", 1.0, 100.0, "spooled")},
        "num_repeats": 3,
        "counts": Counter({"/recommend 200": 5, "/feedback 202": 5, "/feedback 503": 1, "/recommend TimeoutError": 2}),
        "events": EventFindings(num_stored=1, unacknowledged=[StoredEvent("e2", "d1", "a", "view", 1.0, 100.0, 100.0)]),
        "rewards": RewardFindings(num_decisions=4, num_final=4),
        "decisions": DecisionFindings(5, [LostDecision("d5", 0.01, 10.0)], 0, 2),
        "lag_seconds": 12.0,
        "num_spool_bytes": 0,
        "num_policies": 1,
    }
    return Evidence(**good | changes)


def test_what_may_be_is_no_problem() -> None:
    report = make_report(evidence())
    assert problems(report) == []
    assert report["kills"] == {"serve": 1, "ingest": 0, "train": 0, "kafka": 1, "postgresql": 0}
    assert report["stops"]["ingest"] == 1
    assert report["acknowledged"] == {"http": 0, "spooled": 1, "producer": 0}
    assert report["decisions"]["lost_age_seconds"] == {"median": 0.01, "max": 0.01}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"events": EventFindings(lost=["e1"])}, "1 acknowledged events are lost"),
        ({"events": EventFindings(duplicated=["e1"])}, "1 events are stored twice"),
        ({"events": EventFindings(stuck=["e1"])}, "1 acknowledged events have not arrived"),
        ({"events": EventFindings(changed=["e1"])}, "1 events are stored with another content"),
        ({"rewards": RewardFindings(wrong=["d1", "d2"])}, "2 final rewards are wrong"),
        ({"rewards": RewardFindings(open=["d1"])}, "1 decisions have no final reward"),
        ({"rewards": RewardFindings(repeated=["d1"])}, "1 decisions are stored twice"),
        ({"rewards": RewardFindings(are_totals_right=False)}, "reward_totals"),
        ({"decisions": DecisionFindings(5, [LostDecision("d5", 60.0, 70.0)], 0, 0)}, "lost without a kill"),
        ({"struck": KILLS[:1]}, "after 1 kills"),
        ({"num_events_wanted": 2}, "and 1 events"),
        ({"lag_seconds": None}, "had not caught up"),
        ({"lag_seconds": 30.5}, "had not caught up"),
        ({"num_spool_bytes": 1}, "left in the spool"),
        ({"killed_at_end": ["serve-1"]}, "serve-1 did not end"),
        ({"counts": Counter({"/recommend 503": 1})}, "/recommend answered 503"),
        ({"counts": Counter({"/recommend 409": 1})}, "/recommend answered 409"),
        ({"counts": Counter({"/feedback 500": 1})}, "/feedback answered 500"),
        ({"counts": Counter({"/feedback 422": 1})}, "/feedback answered 422"),
    ],
)
def test_what_must_not_be_is_said(change: dict[str, Any], said: str) -> None:
    [problem] = problems(make_report(evidence(**change)))
    assert said in problem


def test_the_table_has_it_all() -> None:
    text = table(make_report(evidence()))
    for words in ("kafka", "SIGSTOP", "lost", "duplicated", "stuck", "wrong", "1 spooled", "gone after 12.0 s", "503"):
        assert words in text
