"""The store and the event log are away: what still answers, what says so, and that nothing accepted is lost."""

import gc
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
        bootstrap,
        "open_writer",
        lambda settings, clock: SqlEventLogWriter(settings.log_url, clock, busy_seconds=0.05),
    )


@pytest.fixture
def spoolless(settings: Settings) -> Settings:
    return settings.model_copy(update={"spool": "off"})


def clicks(*event_ids: str) -> list[dict[str, str]]:
    return [{"decision_id": "d", "kind": "click", "event_id": event_id} for event_id in event_ids]


def feedback_ids(ranker: LocalRanker) -> set[str]:
    """Of what the event log has; what it was given twice counts once, as it does in the store."""
    return {event.event_id or "" for event in ranker.logged()[1]}


def spooled_bytes(settings: Settings) -> int:
    folder = settings.spool_folder
    assert folder is not None
    return sum(map(_size, folder.glob("*")))


def _size(path: Path) -> int:
    """Nothing where the ranker has removed it meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def events_db(ranker: LocalRanker) -> Path:
    return ranker.settings.data / "events.db"


def store_db(settings: Settings) -> Path:
    return settings.data / "steadyrank.db"


@contextmanager
def locked_out(ranker: LocalRanker) -> Iterator[None]:
    """Its store is locked. Its own connections would stand in the way, and a look at the store that was under way gives
    one back when the others are closed already.
    """
    deadline = time.monotonic() + 60
    with ExitStack() as lock:
        while True:
            ranker.parts.store.close()
            gc.collect()  # pools of an earlier round, with what was given back to them
            try:
                lock.enter_context(locked(store_db(ranker.settings), busy_seconds=0.1))
                break
            except sqlite3.OperationalError:
                assert time.monotonic() < deadline
        yield


def test_while_the_log_is_locked_feedback_waits_in_the_spool_and_is_logged_later(
    settings: Settings, loop: Loop
) -> None:
    ranker = LocalRanker(settings, loop)
    ranker.wait_for(lambda: ranker.parts.is_ready)
    with locked(events_db(ranker)):
        for i in range(20):
            accepted = ranker.post("/feedback", clicks(f"e{i}", f"f{i}"))
            assert (accepted.status_code, accepted.json()) == (202, {"accepted": 2, "spooled": 2})
        assert "the event log is away" in ranker.ask("GET", "/readyz").json()["trouble"]
        metrics = ranker.ask("GET", "/metrics").text
        assert "steadyrank_log_away 1.0" in metrics
        assert "steadyrank_feedback_spooled_total 40.0" in metrics
        assert spooled_bytes(settings) > 0
    ranker.wait_for(lambda: spooled_bytes(settings) == 0)
    assert feedback_ids(ranker) == {f"{name}{i}" for name in "ef" for i in range(20)}
    assert ranker.ask("GET", "/readyz").json()["trouble"] is None
    assert ranker.post("/feedback", clicks("last")).json() == {"accepted": 1, "spooled": 0}
    ranker.close()
    assert settings.spool_folder is not None
    assert list(settings.spool_folder.iterdir()) == []


def test_without_a_spool_feedback_is_503_while_the_log_is_locked_and_none_is_taken(
    spoolless: Settings, loop: Loop
) -> None:
    ranker = LocalRanker(spoolless, loop)
    with locked(events_db(ranker)):
        for _ in range(2):
            refused = ranker.post("/feedback", clicks("e1", "e2"))
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.headers["content-type"] == "application/problem+json"
    ranker.wait_for(lambda: ranker.post("/feedback", clicks("e3")).status_code == 202)
    assert feedback_ids(ranker) == {"e3"}
    assert not (spoolless.data / "spool").exists()
    ranker.close()


def test_past_the_spool_s_bound_feedback_is_503_and_what_was_taken_is_logged_later(
    settings: Settings, loop: Loop
) -> None:
    ranker = LocalRanker(settings.model_copy(update={"spool_max_bytes": 1 << 20}), loop)
    taken: set[str] = set()
    with locked(events_db(ranker)):
        for n in range(20):
            ids = [f"{n}-{i}-{'e' * 240}" for i in range(1_000)]
            answer = ranker.post("/feedback", clicks(*ids))
            if answer.status_code != 202:
                break
            taken.update(ids)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "the spool is full" in answer.json()["detail"]
        assert 2_000 <= len(taken) <= 4_000
    ranker.wait_for(lambda: ranker.post("/feedback", clicks("last")).json().get("spooled") == 0)
    ranker.wait_for(lambda: spooled_bytes(settings) == 0)
    assert feedback_ids(ranker) == {*taken, "last"}
    ranker.close()


def test_while_the_log_is_locked_decisions_are_made_and_logged_later(settings: Settings, loop: Loop) -> None:
    ranker = LocalRanker(settings, loop)
    with locked(events_db(ranker)):
        ids = [ranker.recommend(candidates=["a", "b"])["decision_id"] for _ in range(30)]
        ranker.wait_for(lambda: spooled_bytes(settings))
    ranker.wait_for(lambda: {decision.decision_id for decision in ranker.logged()[0]} == set(ids))
    ranker.close()


def test_without_a_spool_decisions_wait_in_memory_while_the_log_is_locked(spoolless: Settings, loop: Loop) -> None:
    ranker = LocalRanker(spoolless, loop)
    with locked(events_db(ranker)):
        ids = [ranker.recommend(candidates=["a", "b"])["decision_id"] for _ in range(30)]
        ranker.wait(0.2)
    ranker.wait_for(lambda: len(ranker.logged()[0]) == 30)
    assert [decision.decision_id for decision in ranker.logged()[0]] == ids
    ranker.close()


@pytest.mark.parametrize("spool", ["", "off"])
def test_durable_decisions_are_given_only_when_they_are_kept(settings: Settings, loop: Loop, spool: str) -> None:
    ranker = LocalRanker(settings.model_copy(update={"durable_decisions": True, "spool": spool}), loop)
    request = {"candidates": ["a", "b"], "decision_id": "during"}
    with locked(events_db(ranker)):
        answer = ranker.post("/recommend", request)
        assert answer.status_code == (200 if spool == "" else 503)
        assert answer.headers.get("retry-after") == (None if spool == "" else "1")
    ranker.wait_for(lambda: ranker.post("/recommend", request).status_code == 200)
    given = ranker.recommend(**request)
    ranker.wait_for(lambda: ranker.logged()[0])
    (decision,) = ranker.logged()[0]
    assert [item.item_id for item in decision.items] == [item["item_id"] for item in given["items"]]
    ranker.wait_for(lambda: ranker.parts.log.trouble is None)
    last = ranker.recommend(candidates=["a", "b"])["decision_id"]
    assert ranker.logged()[0][-1].decision_id == last
    ranker.close()


def test_while_the_store_is_locked_it_goes_on_with_what_it_has(settings: Settings, loop: Loop) -> None:
    ranker = LocalRanker(settings, loop)
    ranker.wait_for(lambda: ranker.parts.is_ready)
    ranker.put_items({"item_id": "i1"}, {"item_id": "i2"})
    ranker.publish("000001", score=4.0)
    ranker.wait_for(lambda: ranker.recommend(candidates=["a"])["policy"])
    ranker.wait_for(lambda: len(ranker.recommend()["items"]) == 2)
    with locked_out(ranker):
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
    ranker.wait_for(lambda: ranker.ask("PUT", "/items", json=[{"item_id": "i3"}]).status_code == 200)
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


def test_it_starts_and_serves_without_a_broker(settings: Settings, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the writer is the one of the settings
    without = settings.model_copy(update={"kafka": "127.0.0.1:1", "log_patience_seconds": 1.0})
    ranker = LocalRanker(without, loop)
    decided = ranker.recommend(candidates=["a"])["decision_id"]
    assert ranker.post("/feedback", clicks("e1")).json() == {"accepted": 1, "spooled": 1}
    ranker.close()
    again = LocalRanker(settings, loop)  # on another log, which shows what the spool holds
    again.wait_for(lambda: not spooled_bytes(settings))
    assert feedback_ids(again) == {"e1"}
    assert [decision.decision_id for decision in again.logged()[0]] == [decided]
    again.close()


@pytest.mark.parametrize("spool", ["", "off"])
def test_it_ends_while_all_is_away(settings: Settings, loop: Loop, spool: str) -> None:
    """What it decided is there for the next start, if there is a spool."""
    with locked(settings.data / "events.db"), locked(store_db(settings)):
        ranker = LocalRanker(settings.model_copy(update={"spool": spool}), loop)
        decided = ranker.recommend(candidates=["a"])["decision_id"]
        ranker.close()
    assert ranker.logged() == ([], [])
    again = LocalRanker(settings, loop)
    again.wait_for(lambda: not spooled_bytes(settings))
    assert [decision.decision_id for decision in again.logged()[0]] == ([decided] if spool == "" else [])
    again.close()
