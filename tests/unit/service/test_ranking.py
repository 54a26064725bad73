"""Requests become decisions: candidates, modes, propensities, and what is logged of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from policies.policy import SlatePolicy
from schemas.loop_file import Loop
from schemas.messages import Candidate, Decision, Features, RecommendRequest
from service import ranking
from service.catalogue import ItemTables, Policy
from service.pool import MAX_SET, SAMPLE_SIZE
from service.problems import ProblemError
from service.ranking import Ranked, Ranker, Serving
from tests.unit.service import made

LOOP = made.slate_loop()
NOW = 1_010.0


@dataclass
class Item:
    item_id: str
    features: Features = field(default_factory=dict)
    deleted: bool = False


ITEMS = [Item(f"i{i}", {"price": float(i)}) for i in range(5)]


def ranker(loop: Loop = LOOP, policy: Policy | None = None, items: Sequence[Item] = ITEMS) -> Ranker:
    tables = ItemTables(loop)
    table = tables.changed(tables.seen_by(tables.empty(), policy), items, policy)
    serving = Serving(policy, table, "" if policy else "no policy yet")
    return Ranker(loop, lambda: serving, lambda: NOW, lambda: "made")


def greedy(loop: Loop = LOOP) -> tuple[Loop, Policy]:
    """Best first, always."""
    loop = made.slate_loop("kind = 'greedy'\nepsilon = 0.0")
    return loop, made.policy(loop)


def ids(ranked: Ranked) -> list[str]:
    return [item.item_id for item in ranked.answer.items]


def decision(ranked: Ranked) -> Decision:
    assert ranked.decision is not None
    return ranked.decision


def refusal(request: RecommendRequest, loop: Loop = LOOP, policy: Policy | None = None) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        ranker(loop, policy).rank(request)
    assert caught.value.status == 422
    return caught.value


# ------------------------------------------------------------------ which items


def test_without_candidates_the_whole_catalogue_is_ranked() -> None:
    ranked = ranker().rank(RecommendRequest(k=10))
    assert sorted(ids(ranked)) == ["i0", "i1", "i2", "i3", "i4"]
    assert decision(ranked).candidates is None


def test_the_loop_says_how_many_where_the_request_does_not() -> None:
    assert len(ids(ranker().rank(RecommendRequest()))) == 3


def test_excluded_items_are_left_out_of_the_catalogue_and_of_candidates() -> None:
    exclude = ["i0", "i2", "never-heard-of"]
    assert sorted(ids(ranker().rank(RecommendRequest(k=9, exclude=exclude)))) == ["i1", "i3", "i4"]
    listed = RecommendRequest(k=9, exclude=exclude, candidates=["i2", "i3", "new"])
    assert sorted(ids(ranker().rank(listed))) == ["i3", "new"]


def test_excluding_everything_is_refused() -> None:
    assert refusal(RecommendRequest(exclude=[item.item_id for item in ITEMS])).mistakes[0].loc == ("body", "exclude")
    assert refusal(RecommendRequest(candidates=["a"], exclude=["a"])).mistakes[0].loc == ("body", "exclude")


@pytest.mark.parametrize("candidates", [["i1", "i2", "i1"], ["i1", "new", Candidate("i1")], ["new", "i1", "new"]])
def test_a_candidate_that_comes_twice_is_refused_by_its_place(candidates: list[str | Candidate]) -> None:
    mistake = refusal(RecommendRequest(candidates=candidates)).mistakes[0]
    assert (mistake.loc, mistake.input) == (("body", "candidates", 2), "i1" if "i1" in candidates[::2] else "new")


@pytest.mark.parametrize(
    ("request_", "loc"),
    [
        (RecommendRequest(user_id="a\x00"), ("body", "user_id")),
        (RecommendRequest(session_id="a\n"), ("body", "session_id")),
        (RecommendRequest(decision_id="\x7f"), ("body", "decision_id")),
        (RecommendRequest(exclude=["a", "b\x85"]), ("body", "exclude", 1)),
        (RecommendRequest(candidates=["i1", "b\t"]), ("body", "candidates", 1)),
    ],
)
def test_control_characters_in_ids_are_refused(request_: RecommendRequest, loc: tuple[str | int, ...]) -> None:
    assert refusal(request_).mistakes[0].loc == loc


def test_ids_that_merely_do_not_print_are_good() -> None:
    assert ids(ranker().rank(RecommendRequest(candidates=["zero\u200bwidth"]))) == ["zero\u200bwidth"]


def test_unknown_keys_and_wrong_types_are_refused_where_they_are() -> None:
    assert refusal(RecommendRequest(context={"colour": 1})).mistakes[0].loc == ("body", "context", "colour")
    assert refusal(RecommendRequest(context={"page": "3"})).mistakes[0].loc == ("body", "context", "page")
    candidates: list[str | Candidate] = ["i1", Candidate("x", {"price": "cheap"})]
    mistake = refusal(RecommendRequest(candidates=candidates)).mistakes[0]
    assert (mistake.loc, mistake.input) == (("body", "candidates", 1, "features", "price"), "cheap")


def test_a_context_is_checked_also_while_no_policy_reads_it() -> None:
    assert refusal(RecommendRequest(context={"age": 5}), policy=None).status == 422


def test_an_empty_catalogue_is_no_error_and_no_decision() -> None:
    ranked = ranker(items=[]).rank(RecommendRequest())
    assert (ranked.answer.items, ranked.decision, ranked.answer.mode) == ([], None, "fallback")
    assert "empty" in (ranked.answer.reason or "")
    assert ranker(items=[], policy=made.policy(LOOP)).rank(RecommendRequest()).answer.policy is None


# ------------------------------------------------------------------ who chooses


def test_without_a_policy_chance_chooses_with_true_propensities() -> None:
    ranked = ranker().rank(RecommendRequest(k=3))
    assert [item.propensity for item in ranked.answer.items] == [1 / 5, 1 / 4, 1 / 3]
    assert (ranked.answer.mode, ranked.answer.policy, ranked.answer.reason) == ("fallback", None, "no policy yet")
    assert decision(ranked).exploration == {"kind": "uniform"}


def test_a_policy_ranks_by_its_scores_best_first() -> None:
    loop, policy = greedy()
    ranked = ranker(loop, policy).rank(RecommendRequest(k=5, context={"page": 50}))
    scores = [item.score for item in ranked.answer.items]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 5
    assert [item.propensity for item in ranked.answer.items] == [1.0] * 5
    assert (ranked.answer.mode, ranked.policy) == ("learned", policy)
    assert ranked.answer.policy is not None
    assert (ranked.answer.policy.version, ranked.answer.policy.age_seconds) == ("000001", 10.0)


@pytest.mark.parametrize("interaction", ["dot", "mlp"])
@pytest.mark.parametrize(
    "candidates",
    [
        ["i3", "i1"],
        ["i3", "i1", "i0", "i2"],
        ["i3", "unknown", "i1"],
        ["unknown", Candidate("new", {"price": 2.5})],
        [Candidate("i3", {"price": 9.0}), "i1"],
    ],
    ids=range(5),
)
def test_an_item_scores_as_it_does_alone(candidates: list[str | Candidate], interaction: str) -> None:
    """Known by the catalogue, unknown, with features of the request's own: each scores as the network says."""
    loop = made.slate_loop("kind = 'greedy'\nepsilon = 0.0", f"interaction = '{interaction}'")
    policy = made.policy(loop)
    assert isinstance(policy, SlatePolicy)
    ranked = ranker(loop, policy).rank(RecommendRequest(candidates=candidates, context={"page": 7, "age": "old"}))
    state = policy.state_vectors([policy.state_encoder.encode({"page": 7, "age": "old"})])[0]
    for item in decision(ranked).items:
        alone = policy.item_vectors([policy.item_encoder.encode(item.item_id, item.features)])
        assert item.score == pytest.approx(float(policy.scores(state, alone)[0]), abs=1e-6)


def test_with_attention_an_item_scores_as_it_does_among_the_candidates() -> None:
    loop = made.slate_loop("kind = 'greedy'\nepsilon = 0.0", "interaction = 'attention'", size=4)
    policy = made.policy(loop)
    assert isinstance(policy, SlatePolicy)
    candidates: list[str | Candidate] = ["i3", "unknown", Candidate("i1", {"price": 9.0}), "i0"]
    ranked = ranker(loop, policy).rank(RecommendRequest(candidates=candidates, context={"page": 7, "age": "old"}))
    state = policy.state_vectors([policy.state_encoder.encode({"page": 7, "age": "old"})])[0]
    items = decision(ranked).items
    together = policy.item_vectors([policy.item_encoder.encode(item.item_id, item.features) for item in items])
    assert [item.score for item in items] == pytest.approx(policy.scores(state, together).tolist(), abs=1e-5)


def test_with_attention_items_outside_the_candidates_are_not_seen() -> None:
    """Of a catalogue of which nearly all are candidates as well."""
    loop = made.slate_loop("kind = 'greedy'\nepsilon = 0.0", "interaction = 'attention'")
    policy = made.policy(loop)
    assert isinstance(policy, SlatePolicy)
    context: Features = {"page": 7, "age": "old"}
    for request in (
        RecommendRequest(candidates=["i3", "i1", "i0"], context=context),
        RecommendRequest(exclude=["i2", "i4"], context=context),
    ):
        items = decision(ranker(loop, policy).rank(request)).items
        state = policy.state_vectors([policy.state_encoder.encode(context)])[0]
        together = policy.item_vectors([policy.item_encoder.encode(item.item_id, item.features) for item in items])
        assert len(items) == 3
        assert [item.score for item in items] == pytest.approx(policy.scores(state, together).tolist(), abs=1e-5)


def test_features_as_scored_are_those_of_catalogue_and_request_together() -> None:
    loop = made.slate_loop()
    candidates: list[str | Candidate] = [Candidate("i3", {"price": 9.0}), Candidate("i2", {"price": None}), "i1"]
    items = decision(ranker(loop).rank(RecommendRequest(candidates=candidates))).items
    assert {item.item_id: item.features for item in items} == {
        "i3": {"price": 9.0},
        "i2": {"price": 2.0},
        "i1": {"price": 1.0},
    }


def test_exploration_is_named_where_any_position_was_drawn_uniformly() -> None:
    loop = made.slate_loop("kind = 'softmax'\nepsilon = 1.0")
    ranked = ranker(loop, made.policy(loop)).rank(RecommendRequest())
    assert ranked.answer.mode == "explore"
    assert decision(ranked).exploration == {"kind": "softmax", "temperature": 0.1, "epsilon": 1.0}
    assert decision(ranked).policy_version == "000001"


def test_the_same_request_gets_the_same_slate_and_another_id_another() -> None:
    loop = made.slate_loop("kind = 'softmax'\nepsilon = 0.5")
    one = ranker(loop, made.policy(loop))
    slates = [ids(one.rank(RecommendRequest(decision_id=f"d{i % 20}", k=5))) for i in range(40)]
    assert slates[:20] == slates[20:]
    assert len({tuple(slate) for slate in slates}) > 5


def test_scores_that_are_not_finite_fall_back_and_say_so() -> None:
    tensors = made.random_tensors(LOOP)
    tensors["head.item_tower.out.bias"][-1] = np.inf
    ranked = ranker(LOOP, made.policy(LOOP, tensors)).rank(RecommendRequest(k=2))
    assert (ranked.answer.mode, ranked.answer.policy, ranked.policy) == ("fallback", None, None)
    assert "000001" in (ranked.answer.reason or "")
    assert [item.propensity for item in ranked.answer.items] == [1 / 5, 1 / 4]


def test_a_share_of_users_is_control_always() -> None:
    loop = made.slate_loop("kind = 'greedy'\ncontrol = 0.25")
    one = ranker(loop, made.policy(loop))
    modes = {f"u{i}": one.rank(RecommendRequest(user_id=f"u{i}")).answer.mode for i in range(2_000)}
    control = [user for user, mode in modes.items() if mode == "control"]
    assert len(control) / 2_000 == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 2_000))
    for user in control[:20]:
        again = one.rank(RecommendRequest(user_id=user, session_id="other", decision_id="other", k=2))
        assert (again.answer.mode, again.answer.policy) == ("control", None)
        assert [item.propensity for item in again.answer.items] == [1 / 5, 1 / 4]


def test_control_goes_by_session_without_a_user_and_by_decision_without_either() -> None:
    loop = made.slate_loop("kind = 'greedy'\ncontrol = 0.5")
    one = ranker(loop, made.policy(loop))

    def is_control(request: RecommendRequest) -> bool:
        return one.rank(request).answer.mode == "control"

    for name in (f"x{i}" for i in range(50)):
        by_user = is_control(RecommendRequest(user_id=name, session_id="s"))
        assert by_user == is_control(RecommendRequest(session_id=name, decision_id="d"))
        assert by_user == is_control(RecommendRequest(decision_id=name))


def test_of_a_large_catalogue_a_policy_for_sets_scores_a_uniform_sample() -> None:
    loop = made.slate_loop("kind = 'softmax'\nepsilon = 1.0", "interaction = 'mlp'", size=1)
    items = [Item(f"i{i}") for i in range(MAX_SET + 1)]
    one = ranker(loop, made.policy(loop), items)
    drawn = [one.rank(RecommendRequest(decision_id=f"d{i}")).answer.items[0] for i in range(200)]
    assert {item.propensity for item in drawn} == {1 / SAMPLE_SIZE}
    rows = [int(item.item_id[1:]) for item in drawn]
    assert len(set(rows)) > 190
    # A uniform mean over 200 draws has sd MAX_SET / √12 / √200.
    assert np.mean(rows) == pytest.approx(MAX_SET / 2, abs=4 * MAX_SET / math.sqrt(12 * 200))


def test_a_sample_leaves_out_what_is_excluded() -> None:
    loop = made.slate_loop("kind = 'softmax'", "interaction = 'mlp'", size=1_000)
    items = [Item(f"i{i}") for i in range(MAX_SET + 500)]
    excluded = [f"i{i}" for i in range(0, 500, 2)]
    ranked = ranker(loop, made.policy(loop), items).rank(RecommendRequest(exclude=excluded, k=1_000))
    assert len(set(ids(ranked))) == SAMPLE_SIZE
    assert not {*excluded} & {*ids(ranked)}


# ------------------------------------------------------------------ what is logged


def test_a_decision_holds_all_that_learning_needs() -> None:
    loop, policy = greedy()
    request = RecommendRequest(
        user_id="u", session_id="s", context={"page": 3, "age": None}, candidates=["i1", "i2"], exclude=["i9"]
    )
    logged = decision(ranker(loop, policy).rank(request))
    assert (logged.decision_id, logged.user_id, logged.session_id) == ("made", "u", "s")
    assert logged.decided_at.timestamp() == NOW
    assert logged.context == {"page": 3}
    assert (logged.candidates, logged.exclude) == (["i1", "i2"], ["i9"])
    assert [item.position for item in logged.items] == [0, 1]
    assert logged.loop_hash == loop.hash
    assert 0 <= logged.seed < 2**63


def test_clipped_numbers_and_unknown_values_are_counted() -> None:
    candidates: list[str | Candidate] = [Candidate("x", {"price": 99.0}), "i1"]
    ranked = ranker().rank(RecommendRequest(context={"page": 1e9, "age": "middle"}, candidates=candidates))
    assert (ranked.num_clipped, ranked.num_unknown) == (2, 1)


def test_integers_beyond_any_double_are_clipped() -> None:
    assert ranker().rank(RecommendRequest(context={"page": 10**400})).num_clipped == 1


# ------------------------------------------------------------------ weights


WEIGHTS = made.weights_loop()
TASTES = [Item("a", {"taste": [1.0, 0.0]}), Item("b", {"taste": [0.0, 1.0]}), Item("c", {"taste": [-1.0, -1.0]})]


def test_items_rank_by_the_played_action_and_have_no_propensity() -> None:
    ranked = ranker(WEIGHTS, made.policy(WEIGHTS), TASTES).rank(RecommendRequest())
    action = ranked.answer.action
    assert action is not None
    values = {"a": action[0], "b": action[1], "c": -action[0] - action[1]}
    assert ids(ranked) == sorted(values, key=lambda name: -values[name])
    for item in ranked.answer.items:
        assert item.score == pytest.approx(values[item.item_id], abs=1e-6)
        assert item.propensity is None
    logged = decision(ranked)
    assert (logged.action, logged.log_density) == (action, ranked.answer.log_density)
    assert logged.log_density is not None


def test_without_a_policy_the_action_is_uniform() -> None:
    ranked = ranker(WEIGHTS, None, TASTES).rank(RecommendRequest(candidates=["c", Candidate("n", {"taste": [2, 2]})]))
    assert ranked.answer.log_density == pytest.approx(-2 * math.log(2))
    assert (ranked.answer.mode, ranked.answer.reason) == ("fallback", "no policy yet")
    assert sorted(ids(ranked)) == ["c", "n"]


def test_without_a_catalogue_there_is_an_action_and_no_items() -> None:
    ranked = ranker(WEIGHTS, made.policy(WEIGHTS), []).rank(RecommendRequest())
    assert ranked.answer.items == []
    assert len(decision(ranked).action or ()) == 2
    assert ranked.answer.mode in {"learned", "explore"}


def test_items_without_as_many_numbers_as_the_action_are_not_ranked() -> None:
    loop = made.weights_loop("price = { kind = 'number' }")
    ranked = ranker(loop, made.policy(loop), [Item("a", {"price": 1.0})]).rank(RecommendRequest())
    assert ranked.answer.items == []
    assert ranked.answer.action is not None


def test_an_action_that_is_not_finite_falls_back() -> None:
    tensors = made.random_tensors(WEIGHTS)
    tensors["head.tower.out.bias"][:] = np.nan
    ranked = ranker(WEIGHTS, made.policy(WEIGHTS, tensors), []).rank(RecommendRequest())
    assert ranked.answer.mode == "fallback"
    assert ranked.answer.log_density == pytest.approx(-2 * math.log(2))


@pytest.mark.parametrize("interaction", ["dot", "mlp", "attention"])
@pytest.mark.parametrize("scores_at_once", [1, 12, 24_000])
def test_requests_that_are_ranked_together_get_what_they_get_alone(
    scores_at_once: int, interaction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "_SCORES_AT_ONCE", scores_at_once)
    loop = made.slate_loop("kind = 'softmax'\ntemperature = 1.0\nepsilon = 0.2", f"interaction = '{interaction}'")
    served = ranker(loop, made.policy(loop))
    requests = [
        *(RecommendRequest(decision_id=f"d{i}", context={"page": i}) for i in range(5)),
        RecommendRequest(decision_id="fewer", candidates=["i1", "i2"]),
        RecommendRequest(decision_id="as few", candidates=["i4", "i0"]),
        RecommendRequest(decision_id="other k", k=1),
        RecommendRequest(decision_id="unknown", candidates=["i1", "new"]),
    ]
    together = [each.answer for each in served.rank_all(requests) if isinstance(each, Ranked)]
    alone = [served.rank(request).answer for request in requests]
    assert [[item.item_id for item in each.items] for each in together] == [
        [item.item_id for item in each.items] for each in alone
    ]
    for one, other in zip(together, alone, strict=True):
        assert [item.propensity for item in one.items] == pytest.approx([item.propensity for item in other.items])
        assert [item.score for item in one.items] == pytest.approx([item.score for item in other.items], abs=1e-5)


def test_scores_that_are_not_finite_cost_only_their_own_request() -> None:
    loop = made.slate_loop()
    tensors = made.random_tensors(loop)
    tensors["embeddings.state.age"][2] = np.inf  # "old"
    served = ranker(loop, made.policy(loop, tensors))
    requests = [RecommendRequest(context={"age": age}) for age in ("young", "old", "young")]
    with np.errstate(all="ignore"):
        modes = [each.answer.mode for each in served.rank_all(requests) if isinstance(each, Ranked)]
    assert [mode == "fallback" for mode in modes] == [False, True, False]


def test_a_request_that_breaks_a_rule_costs_only_itself() -> None:
    loop = made.slate_loop()
    requests = [RecommendRequest(k=1), RecommendRequest(context={"colour": 1}), RecommendRequest(k=2)]
    first, wrong, last = ranker(loop, made.policy(loop)).rank_all(requests)
    assert isinstance(wrong, ProblemError)
    assert wrong.status == 422
    assert [len(each.answer.items) for each in (first, last) if isinstance(each, Ranked)] == [1, 2]
