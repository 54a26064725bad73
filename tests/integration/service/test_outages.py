"""The store and the event log are away: what still answers, what says so, and that nothing accepted is lost."""

from pathlib import Path

import pytest

from schemas.loop_file import Loop
from schemas.settings import Settings
from service import bootstrap, store
from storage.sql_log import SqlEventLogWriter
from tests.integration.service.conftest import LocalRanker, locked


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits seconds for a lock."""
    monkeypatch.setattr(store, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(
        bootstrap, "SqlEventLogWriter", lambda url, clock: SqlEventLogWriter(url, clock, busy_seconds=0.05)
    )


def events_db(ranker: LocalRanker) -> Path:
    return ranker.settings.data / "events.db"


def store_db(settings: Settings) -> Path:
    return settings.data / "steadyrank.db"


def test_while_the_log_is_locked_feedback_is_503_and_none_is_taken(settings: Settings, loop: Loop) -> None:
    ranker = LocalRanker(settings, loop)
    with locked(events_db(ranker)):
        refused = ranker.post("/feedback", [{"decision_id": "d", "kind": "click", "event_id": f"e{i}"} for i in (1, 2)])
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.headers["content-type"] == "application/problem+json"
    accepted = ranker.post("/feedback", {"decision_id": "d", "kind": "click", "event_id": "e3"})
    assert accepted.json() == {"accepted": 1, "spooled": 0}
    assert [event.event_id for event in ranker.logged()[1]] == ["e3"]
    ranker.close()


def test_while_the_log_is_locked_decisions_are_made_and_logged_later(settings: Settings, loop: Loop) -> None:
    ranker = LocalRanker(settings, loop)
    with locked(events_db(ranker)):
        ids = [ranker.recommend(candidates=["a", "b"])["decision_id"] for _ in range(30)]
        ranker.wait(0.2)
    ranker.wait_for(lambda: len(ranker.logged()[0]) == 30)
    assert [decision.decision_id for decision in ranker.logged()[0]] == ids
    ranker.close()


def test_while_the_store_is_locked_it_goes_on_with_what_it_has(settings: Settings, loop: Loop) -> None:
    ranker = LocalRanker(settings, loop)
    ranker.wait_for(lambda: ranker.parts.is_ready)
    ranker.put_items({"item_id": "i1"}, {"item_id": "i2"})
    ranker.publish("000001", score=4.0)
    ranker.wait_for(lambda: ranker.recommend(candidates=["a"])["policy"])
    ranker.wait_for(lambda: len(ranker.recommend()["items"]) == 2)
    ranker.parts.store.close()  # or its idle connection would stand in the way of the lock
    with locked(store_db(settings)):
        ranker.wait_for(lambda: ranker.parts.health.trouble)
        answer = ranker.recommend()
        assert (len(answer["items"]), answer["policy"]["version"]) == (2, "000001")
        assert ranker.post("/feedback", {"decision_id": answer["decision_id"], "kind": "click"}).status_code == 202
        assert ranker.ask("GET", "/readyz").json()["trouble"] is not None
        refused = ranker.ask("PUT", "/items", json=[{"item_id": "i3"}])
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert ranker.ask("GET", "/policies").status_code == 503
        data = ranker.ask("GET", "/console/data").json()
        assert (data["policy"]["version"], data["reward"]) == ("000001", [])
        assert "locked" in data["trouble"]
        pending = ranker.ask("GET", f"/decisions/{answer['decision_id']}").json()
        assert pending["state"] == "pending"
    ranker.put_items({"item_id": "i3"})
    ranker.wait_for(lambda: len(ranker.recommend()["items"]) == 3)
    assert ranker.ask("GET", "/readyz").json()["trouble"] is None
    ranker.close()


def test_it_starts_while_the_store_is_locked_and_connects_later(settings: Settings, loop: Loop) -> None:
    with locked(store_db(settings)):
        ranker = LocalRanker(settings, loop)
        answer = ranker.recommend(candidates=["a", "b"], k=1)
        assert (answer["mode"], answer["items"][0]["propensity"]) == ("fallback", 0.5)
        ranker.wait_for(lambda: ranker.ask("GET", "/readyz").status_code == 200)
        assert "away" in ranker.recommend(candidates=["a"])["reason"]
    ranker.wait_for(lambda: ranker.ask("PUT", "/items", json=[{"item_id": "i1"}]).status_code == 200)
    ranker.publish("000001", score=1.0)
    ranker.wait_for(lambda: ranker.recommend()["policy"])
    ranker.close()


def test_it_starts_without_a_data_folder_that_can_be_made(tmp_path: Path, loop: Loop) -> None:
    (tmp_path / "file").write_text("no folder")
    ranker = LocalRanker(Settings(data=tmp_path / "file" / "data"), loop)
    assert ranker.recommend(candidates=["a"])["mode"] == "fallback"
    assert ranker.post("/feedback", {"decision_id": "d", "kind": "click"}).status_code == 503
    ranker.close()


def test_it_ends_while_all_is_away(settings: Settings, loop: Loop) -> None:
    with locked(settings.data / "events.db"), locked(store_db(settings)):
        ranker = LocalRanker(settings, loop)
        ranker.recommend(candidates=["a"])
        ranker.close()
    assert ranker.logged() == ([], [])
