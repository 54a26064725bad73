"""The gate lets sane policies pass and names what is wrong with the others."""

import numpy as np
import pytest

from schemas.loop_file import Loop, parse_loop
from trainer.evaluation.gate import Array, Verdict, judge
from trainer.replay.replay import ProbeStates

SLATE = parse_loop("""
name = "slate"
[item]
id = { kind = "category", buckets = 8 }
[action]
kind = "slate"
size = 1
[reward]
click = 1.0
wait = "1s"
[learner]
agent = "dqn"
[exploration]
kind = "softmax"
[promotion]
max_abs_score = 50.0
""")
WEIGHTS = parse_loop("""
name = "weights"
[action]
kind = "weights"
dim = 2
[reward]
click = 1.0
wait = "1s"
[learner]
agent = "ddpg"
[exploration]
kind = "gaussian"
""")
TENSORS = {"head.weight": np.ones(3, np.float32)}


def probe_of(item_slots: list[list[int]], mask: list[list[bool]] | None = None) -> ProbeStates:
    slots = np.array(item_slots)[:, :, None]
    num, width = slots.shape[:2]
    return ProbeStates(
        state_slots=np.zeros((num, 0), np.int64),
        state_numbers=np.zeros((num, 0), np.float32),
        item_slots=slots,
        item_numbers=np.zeros((num, width, 0), np.float32),
        mask=np.ones((num, width), np.bool_) if mask is None else np.array(mask),
    )


TWO = probe_of([[1, 2, 0], [3, 4, 5]], [[True, True, False], [True, True, True]])
NO_ITEMS = ProbeStates(
    state_slots=np.zeros((2, 0), np.int64),
    state_numbers=np.zeros((2, 0), np.float32),
    item_slots=np.zeros((2, 0, 0), np.int64),
    item_numbers=np.zeros((2, 0, 0), np.float32),
    mask=np.zeros((2, 0), np.bool_),
)


def judged(loop: Loop, probe: ProbeStates, outputs: list[list[float]], **given: Array) -> Verdict:
    array = np.array(outputs, np.float32)
    tensors = {"head.weight": given["weight"]} if "weight" in given else TENSORS
    return judge(loop, tensors, probe, array, given.get("replica", array), has_learned=True)


def names(verdict: Verdict) -> list[str]:
    return [reason.split(":")[0] for reason in verdict.reasons]


def test_a_sane_slate_policy_passes_with_its_figures() -> None:
    verdict = judged(SLATE, TWO, [[1.0, 2.0, np.nan], [0.0, -4.0, 1.0]])  # the third of the first is no candidate
    assert verdict.passed
    assert verdict.metrics == {"score_mean": 0.0, "score_max_abs": 4.0, "score_spread": 3.0, "replica_error": 0.0}


def test_weights_that_are_not_finite_are_named() -> None:
    verdict = judged(SLATE, TWO, [[1.0, 2.0, 0.0], [0.0, 1.0, 2.0]], weight=np.array([1.0, np.inf], np.float32))
    assert verdict.reasons == ("weights_not_finite: head.weight",)


def test_scores_that_are_not_finite_fail_and_leave_no_figure_that_json_lacks() -> None:
    verdict = judged(SLATE, TWO, [[1.0, np.nan, 0.0], [0.0, 1.0, 2.0]])
    assert names(verdict) == ["scores_not_finite", "replica_differs"]
    assert all(np.isfinite(value) for value in verdict.metrics.values())


def test_diverged_scores_fail_by_the_loop_files_limit() -> None:
    assert names(judged(SLATE, TWO, [[1.0, -51.0, 0.0], [0.0, 1.0, 2.0]])) == ["scores_diverged"]


def test_a_collapse_is_refused_once_enough_was_learned() -> None:
    flat = np.full((2, 3), 0.5, np.float32)
    assert names(judge(SLATE, TENSORS, TWO, flat, flat, has_learned=True)) == ["scores_collapsed"]
    assert judge(SLATE, TENSORS, TWO, flat, flat, has_learned=False).passed


def test_equal_scores_of_equal_items_are_no_collapse() -> None:
    assert judged(SLATE, probe_of([[2, 2, 2]]), [[0.5, 0.5, 0.5]]).passed


@pytest.mark.parametrize(("error", "passes"), [(0.5e-4, True), (2e-4, False)])
def test_the_rankers_network_must_agree(error: float, passes: bool) -> None:
    outputs = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.5]]
    replica = np.array(outputs, np.float32)
    replica[1, 1] += error
    assert judged(SLATE, TWO, outputs, replica=replica).passed is passes


def test_actions_may_be_one_constant_and_their_saturation_is_told() -> None:
    verdict = judged(WEIGHTS, NO_ITEMS, [[1.0, -0.5], [1.0, -0.5]])
    assert verdict.passed
    assert verdict.metrics == {
        "action_mean_abs": 0.75,
        "action_saturation": 0.5,
        "action_spread": 0.0,
        "replica_error": 0.0,
    }


def test_actions_outside_of_the_range_or_not_finite_fail() -> None:
    assert names(judged(WEIGHTS, NO_ITEMS, [[1.5, 0.0], [0.0, 0.0]])) == ["actions_out_of_range"]
    assert "actions_not_finite" in names(judged(WEIGHTS, NO_ITEMS, [[np.nan, 0.0], [0.0, 0.0]]))
