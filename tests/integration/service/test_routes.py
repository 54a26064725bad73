"""What the ranker does over HTTP, on a real store and event log."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.loop_file import Loop
from schemas.messages import Decision, LoggedItem
from schemas.settings import Settings
from service import app
from service.asgi import ASGIApp
from service.parts import Parts
from storage.database import open_store
from storage.open_decisions import StoredEvent
from storage.replay_store import ReplayStore, RewardRow
from storage.reward_tail import RewardTail
from tests.integration.service.conftest import LocalRanker
from tests.unit.service import made

# ------------------------------------------------------------------ recommend and feedback


def test_decisions_and_feedback_are_in_the_log_as_they_were_answered(ranker: LocalRanker) -> None:
    ranker.put_items({"item_id": "i1", "features": {"price": 3}}, {"item_id": "i2"})
    ranker.wait_for(lambda: len(ranker.parts.handle.current().table) == 2)
    answer = ranker.recommend(user_id="u", session_id="s", context={"page": 3})
    event = {"decision_id": answer["decision_id"], "item_id": "i1", "kind": "click"}
    accepted = ranker.post("/feedback", event)
    assert accepted.status_code == 202
    assert accepted.json() == {"accepted": 1, "spooled": 0, "event_ids": accepted.json()["event_ids"]}
    ranker.wait_for(lambda: ranker.logged()[0])
    (decision,), (logged,) = ranker.logged()
    assert decision.decision_id == answer["decision_id"]
    assert [item.item_id for item in decision.items] == [item["item_id"] for item in answer["items"]]
    assert {item.item_id: item.features for item in decision.items} == {"i1": {"price": 3}, "i2": {}}
    assert (logged.decision_id, logged.event_id) == (answer["decision_id"], accepted.json()["event_ids"][0])


def test_the_last_decisions_are_logged_when_the_ranker_ends(settings: Settings, loop: Loop) -> None:
    slow = settings.model_copy(update={"decision_log_seconds": 10.0})
    ranker = LocalRanker(slow, loop)
    ids = [ranker.recommend(candidates=["a"])["decision_id"] for _ in range(20)]
    assert ranker.logged()[0] == []
    ranker.close()
    assert [decision.decision_id for decision in ranker.logged()[0]] == ids


def test_a_request_that_is_sent_again_gets_its_answer_again_across_a_swap(ranker: LocalRanker) -> None:
    request = {"decision_id": "d", "candidates": ["a", "b", "c"]}
    first = ranker.post("/recommend", request)
    ranker.publish("000001", score=1.0)
    ranker.wait_for(lambda: ranker.recommend(candidates=["a"])["policy"])
    again = ranker.post("/recommend", request)
    assert again.content == first.content
    assert ranker.post("/recommend", request | {"k": 1}).status_code == 409
    last = ranker.recommend(candidates=["a"])["decision_id"]
    ranker.wait_for(lambda: last in {decision.decision_id for decision in ranker.logged()[0]})
    assert [decision.decision_id for decision in ranker.logged()[0]].count("d") == 1


def test_the_same_decision_id_draws_the_same_slate_in_another_process(tmp_path: Path, loop: Loop) -> None:
    slates = []
    for name in ("one", "other"):
        ranker = LocalRanker(Settings(data=tmp_path / name), loop)
        slates.append(ranker.recommend(decision_id="d", candidates=[f"i{i}" for i in range(50)])["items"])
        ranker.close()
    assert slates[0] == slates[1]


def test_an_empty_catalogue_answers_with_nothing_and_says_why(ranker: LocalRanker) -> None:
    answer = ranker.recommend()
    assert (answer["items"], answer["policy"], answer["mode"]) == ([], None, "fallback")
    assert "PUT /items" in answer["reason"]
    ranker.wait(0.1)
    assert ranker.logged()[0] == []


# ------------------------------------------------------------------ items


def test_items_are_put_got_ranked_and_deleted(ranker: LocalRanker) -> None:
    ranker.put_items({"item_id": "a/b c", "features": {"price": 3.5}}, {"item_id": "x", "features": {}})
    item = ranker.ask("GET", "/items/a%2Fb%20c").json()
    assert (item["item_id"], item["features"]) == ("a/b c", {"price": 3.5})
    assert datetime.fromisoformat(item["updated_at"]).tzinfo is not None
    ranker.wait_for(lambda: len(ranker.recommend()["items"]) == 2)
    for _ in range(2):
        assert ranker.ask("DELETE", "/items/x").status_code == 204
    assert ranker.ask("GET", "/items/x").status_code == 404
    ranker.wait_for(lambda: [item["item_id"] for item in ranker.recommend()["items"]] == ["a/b c"])


# ------------------------------------------------------------------ policies


def test_a_promoted_policy_serves_and_the_registry_is_told_over_http(ranker: LocalRanker) -> None:
    assert ranker.ask("GET", "/policies").json() == {"champion": None, "pinned": False, "policies": []}
    ranker.publish("000001", score=1.0)
    ranker.publish("000002", score=2.0)
    ranker.wait_for(lambda: (ranker.recommend(candidates=["a"])["policy"] or {}).get("version") == "000002")
    listed = ranker.ask("GET", "/policies").json()
    assert (listed["champion"], listed["pinned"]) == ("000002", False)
    assert {row["version"]: row["state"] for row in listed["policies"]} == {"000001": "published", "000002": "champion"}

    assert ranker.post("/policies/rollback").json() == {"champion": "000001", "pinned": True}
    ranker.wait_for(lambda: ranker.recommend(candidates=["a"])["policy"]["version"] == "000001")
    assert ranker.post("/policies/rollback").status_code == 409
    assert ranker.post("/policies/unpin").json() == {"champion": "000001", "pinned": False}
    assert ranker.post("/policies/000002/promote").json() == {"champion": "000002", "pinned": True}
    ranker.wait_for(lambda: ranker.recommend(candidates=["a"])["items"][0]["score"] == 2.0)
    assert ranker.post("/policies/000009/promote").status_code == 404


@pytest.mark.parametrize("name", ["weights.safetensors", "manifest.json", "golden.safetensors"])
def test_a_policy_with_a_flipped_byte_never_serves(ranker: LocalRanker, name: str) -> None:
    ranker.publish("000001", score=1.0)
    ranker.wait_for(lambda: ranker.recommend(candidates=["a"])["policy"])
    file = ranker.publish("000002", score=2.0) / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    # The ranker may have loaded it before the byte flipped: then it is champion again, from the file.
    ranker.publish("000003", score=3.0)
    ranker.wait_for(lambda: ranker.recommend(candidates=["a"])["policy"]["version"] == "000003")
    file.write_bytes(content)
    ranker.post("/policies/000002/promote")
    ranker.wait_for(lambda: "steadyrank_policy_failed_loads_total 1.0" in ranker.ask("GET", "/metrics").text)
    assert ranker.recommend(candidates=["a"])["policy"]["version"] == "000003"


def test_a_policy_of_another_loop_file_never_serves(ranker: LocalRanker, settings: Settings) -> None:
    ranker.publish("000001", score=1.0)
    changed = ranker.loop.model_copy(update={"network": ranker.loop.network.model_copy(update={"vector_dim": 5})})
    other = LocalRanker(settings, changed)
    other.wait_for(lambda: other.parts.is_ready)
    answer = other.recommend(candidates=["a"])
    assert (answer["mode"], answer["policy"]) == ("fallback", None)
    assert "000001" in answer["reason"]
    other.close()


# ------------------------------------------------------------------ the story of a decision


def test_the_story_of_a_decision_goes_on(ranker: LocalRanker) -> None:
    decision_id = ranker.recommend(user_id="u", candidates=["a", "b"], k=2)["decision_id"]

    def story() -> dict[str, object]:
        answer = ranker.ask("GET", f"/decisions/{decision_id}")
        assert answer.status_code == 200
        return answer.json()  # type: ignore[no-any-return]  # an object

    pending = story()
    assert (pending["state"], pending["decision_id"], pending["rewards"]) == ("pending", decision_id, None)
    assert len(pending["items"]) == 2  # type: ignore[arg-type]  # a list

    engine = open_store(ranker.settings.store_url)
    ranker.wait_for(lambda: ranker.logged()[0])
    (decision,), _ = ranker.logged()
    at = decision.decided_at.timestamp()
    with ReplayStore(engine).transaction() as ingest:
        ingest.add_decisions([(decision, at)])
        ingest.add_feedback([StoredEvent("e", decision_id, "a", "click", 1.0, at + 1, at + 2)])
    waiting = story()
    assert (waiting["state"], waiting["user_id"], waiting["mode"]) == ("waiting", "u", "fallback")
    assert [event["event_id"] for event in waiting["events"]] == ["e"]  # type: ignore[attr-defined]  # a list

    with ReplayStore(engine).transaction() as ingest:
        ingest.write_rewards([RewardRow(decision_id, (1.0, 0.0), False, at + 10, None)])
    joined = story()
    assert (joined["state"], joined["rewards"], joined["corrected_at"]) == ("joined", [1.0, 0.0], None)
    assert datetime.fromisoformat(str(joined["final_at"])) == datetime.fromtimestamp(at + 10, UTC)

    RewardTail(engine).write_trainings([(decision_id, "000007", [0.4, 0.1], [0.5, 0.2])])
    trained = story()
    assert trained["state"] == "trained"
    training = {"policy_version": "000007", "estimates": [0.4, 0.1], "stabilized": [0.5, 0.2]}
    assert trained["training"] == training
    engine.dispose()


def test_an_unknown_decision_is_404(ranker: LocalRanker) -> None:
    assert ranker.ask("GET", "/decisions/never").status_code == 404


# ------------------------------------------------------------------ keys


def test_with_keys_configured_only_probes_and_pages_are_open(settings: Settings, loop: Loop) -> None:
    ranker = LocalRanker(settings.model_copy(update={"api_keys": "secret, second"}), loop)
    ranker.wait_for(lambda: ranker.parts.is_ready)
    body = {"candidates": ["a"]}
    for headers in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": ""}):
        for method, path in (("POST", "/recommend"), ("POST", "/feedback"), ("GET", "/policies"), ("GET", "/metrics")):
            answer = ranker.ask(method, path, json=body, headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
        assert ranker.ask("GET", "/console/data", headers=headers).status_code == 401
    for key in ("secret", "second"):
        assert ranker.post("/recommend", body, headers={"X-API-Key": key}).status_code == 200
    for path in ("/livez", "/readyz", "/console", "/console/console.js", "/docs", "/openapi.json"):
        assert ranker.ask("GET", path).status_code == 200
    assert ranker.ask("GET", "/openapi.json").json()["security"] == [{"key": []}]
    ranker.close()


# ------------------------------------------------------------------ operations


def test_it_is_ready_only_once_it_has_looked_at_the_store(settings: Settings, loop: Loop) -> None:
    ranker = LocalRanker(settings, loop)
    assert ranker.ask("GET", "/livez").status_code == 200
    unready = ranker.ask("GET", "/readyz")
    assert (unready.status_code, unready.headers["retry-after"]) == (503, "1")
    ranker.wait_for(lambda: ranker.parts.is_ready)
    assert ranker.ask("GET", "/readyz").json() == {
        "status": "ready",
        "policy": None,
        "fallback": "no policy yet",
        "trouble": None,
    }
    ranker.close()


def test_probes_answer_get_only(ranker: LocalRanker) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        answer = ranker.post(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert ranker.ask("GET", "/livez").json() == {"status": "alive"}


def test_the_openapi_document_has_the_hot_routes_and_every_reference_leads_somewhere(ranker: LocalRanker) -> None:
    text = ranker.ask("GET", "/openapi.json").text
    document = ranker.ask("GET", "/openapi.json").json()
    paths = {"/recommend", "/feedback", "/items", "/decisions/{decision_id}", "/livez", "/readyz", "/metrics"}
    assert paths <= document["paths"].keys()
    schemas = document["components"]["schemas"]
    assert schemas["RecommendRequest"]["properties"]["k"]["anyOf"][0]["maximum"] == 1_000
    for part in text.split('"$ref":"#/components/schemas/')[1:]:
        assert part.split('"')[0] in schemas
    example = document["paths"]["/recommend"]["post"]["requestBody"]["content"]["application/json"]["example"]
    example["context"].pop("history")
    assert ranker.post("/recommend", example | {"context": {"page": 3}}).status_code == 200


def test_the_console_is_served_without_caching(ranker: LocalRanker) -> None:
    for path, kind in (("/console", "text/html"), ("/console/console.js", "text/javascript")):
        answer = ranker.ask("GET", path)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        assert answer.headers["content-type"].startswith(kind)


def test_console_data_tells_what_happened(ranker: LocalRanker) -> None:
    started = time.time()
    ranker.publish("000001", score=1.0, created_at=started, final_at=[started - 3, started - 2, started - 1])
    ranker.wait_for(lambda: ranker.recommend(candidates=["a"])["policy"])
    ranker.post("/feedback", {"decision_id": "d", "kind": "click"})
    store_rewards(ranker.settings, ranker.loop)
    store_rewards(ranker.settings, ranker.loop, "young-", age_seconds=0)  # final early: of those only the good ones are
    data = ranker.ask("GET", "/console/data?seconds=60").json()
    assert data["loop"] == {
        "name": "store",
        "agent": "dqn",
        "estimator": "mlp",
        "stabilizer": "blend",
        "wait_seconds": 10.0,
    }
    assert (data["policy"]["version"], data["policies"]["champion"]) == ("000001", "000001")
    assert [swap["version"] for swap in data["swaps"]] == ["000001"]
    assert data["freshness_total"]["count"] == 3
    assert 2 <= data["freshness"][0]["p50_seconds"] <= 2 + time.time() - started
    assert data["totals"]["feedback_accepted"] == data["totals"]["swaps"] == 1
    assert data["totals"]["decisions"] == sum(data["modes"].values()) > 0
    (row,) = data["reward"]
    assert (row["decisions"], row["learned"], row["fallback"], row["control"]) == (3, 0.5, None, 2.0)
    assert (data["lift"], data["baseline"]) == (None, None)
    ranker.wait_for(lambda: ranker.ask("GET", "/console/data?seconds=60").json()["latency"])


def store_rewards(settings: Settings, loop: Loop, prefix: str = "", *, age_seconds: float = 20.0) -> None:
    """Two decisions of a policy with rewards 1 and 0, and one of control with 2."""
    at = float(int(time.time() - age_seconds) // 2 * 2)
    modes = {"x": ("learned", 1.0), "y": ("explore", 0.0), "z": ("control", 2.0)}
    rewards = {prefix + name: what for name, what in modes.items()}
    engine = open_store(settings.store_url)
    with ReplayStore(engine).transaction() as ingest:
        for name, (mode, _) in rewards.items():
            items = [LoggedItem("i1", 0, 0.0, 1.0)]
            decision = Decision(name, datetime.fromtimestamp(at, UTC), mode, loop.hash, 1, items)  # type: ignore[arg-type]  # a mode
            ingest.add_decisions([(decision, at)])
        ingest.write_rewards([RewardRow(name, (reward,), False, at, None) for name, (_, reward) in rewards.items()])
    engine.dispose()


def test_metrics_tell_the_lift_where_there_are_control_users(settings: Settings) -> None:
    loop = made.slate_loop("kind = 'softmax'\ncontrol = 0.1")
    ranker = LocalRanker(settings, loop)
    ranker.wait_for(lambda: ranker.parts.is_ready)
    store_rewards(settings, loop)
    assert "steadyrank_lift{" not in ranker.ask("GET", "/metrics").text  # of one control decision there is no variance
    store_rewards(settings, loop, prefix="more-")
    assert 'steadyrank_lift{bound="mean"} -1.5' in ranker.ask("GET", "/metrics").text
    ranker.close()


def test_a_policy_that_served_before_this_process_says_nothing_of_freshness(ranker: LocalRanker) -> None:
    ranker.publish("000001", score=1.0, created_at=time.time() - 3_600, final_at=[time.time() - 3_601])
    ranker.wait_for(lambda: ranker.recommend(candidates=["a"])["policy"])
    assert ranker.ask("GET", "/console/data").json()["freshness_total"]["count"] == 0


def test_fastapi_is_loaded_once_by_the_first_request_that_wants_it(
    settings: Settings, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_routes, loaded = app._made_routes, []

    def recorded(parts: Parts) -> ASGIApp:
        loaded.append(parts)
        return make_routes(parts)

    monkeypatch.setattr(app, "_made_routes", recorded)
    ranker = LocalRanker(settings, loop)
    ranker.wait_for(lambda: ranker.parts.is_ready)
    decision = ranker.recommend(candidates=["a"])["decision_id"]
    event = {"decision_id": decision, "item_id": "a", "kind": "click"}
    assert ranker.post("/feedback", event).status_code == 202
    assert [ranker.ask("GET", path).status_code for path in ("/livez", "/readyz", "/metrics")] == [200] * 3
    assert not loaded
    assert [ranker.ask("GET", path).status_code for path in ("/policies", "/openapi.json")] == [200] * 2
    assert len(loaded) == 1
    ranker.close()
