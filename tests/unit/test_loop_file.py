"""The loop file: what it means, and that each mistake is answered by its key, the value and what would be right."""

from pathlib import Path

import pytest

from schemas.loop_file import LoopFileError, parse_loop, read_loop
from schemas.sections import NumberFeature

GOOD = """
name = "storefront"
[state]
page = { kind = "number", max = 100 }
age = { kind = "category", values = ["18-24", "25-34"] }
history = { kind = "items", length = 20 }
[item]
id = { kind = "category", buckets = 65536 }
price = { kind = "number" }
[action]
kind = "slate"
size = 10
[reward]
click = 1.0
purchase = 5.0
wait = "10s"
closes = ["purchase"]
seen = "view"
[session]
timeout = "30m"
ends = ["leave"]
[learner]
agent = "dqn"
[exploration]
kind = "softmax"
"""


def test_what_a_good_file_says() -> None:
    loop = parse_loop(GOOD)
    assert loop.reward.of_kind == {"click": 1.0, "purchase": 5.0}
    assert loop.reward.wait_seconds == 10.0
    assert loop.session.timeout_seconds == 1800.0
    assert loop.feedback_kinds == {"click", "purchase", "view", "leave"}
    page, price = loop.state["page"], loop.item["price"]
    assert isinstance(page, NumberFeature)
    assert isinstance(price, NumberFeature)
    assert page.low == 0.0  # with max alone, min is 0
    assert price.low is None


def test_the_stabilizer_that_is_not_named_goes_by_the_action() -> None:
    assert parse_loop(GOOD).learner.stabilizer == "blend"
    assert parse_loop(GOOD.replace('agent = "dqn"', 'agent = "dqn"\nstabilizer = "srs"')).learner.stabilizer == "srs"
    weights = GOOD.replace('kind = "slate"\nsize = 10', 'kind = "weights"\ndim = 2').replace('"dqn"', '"ddpg"')
    assert parse_loop(weights.replace('"softmax"', '"gaussian"')).learner.stabilizer == "raw"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('wait = "10s"', "wait = 10", ["reward.wait", "10", '"10s"']),
        ('wait = "10s"', 'wait = "0s"', ["reward.wait", "greater than 0"]),
        ('wait = "10s"', "", ["reward.wait", "required"]),
        ("max = 100", 'max = "x"', ["state.page.max", "'x'", "number"]),
        ("max = 100", "min = 3, max = 3", ["state.page", "below"]),
        ("size = 10", "size = 0", ["action.size", "greater than or equal to 1", "0"]),
        ("size = 10", "size = 10\ncolour = 3", ["action.colour", "not permitted"]),
        ('agent = "dqn"', 'agent = "ddpg"', ["learner.agent", "'ddpg'", "use dqn"]),
        ('agent = "dqn"', 'agent = "dqn"\n[network]\ninteraction = "attention"', ["'attention'", "use dot, mlp"]),
        ('agent = "dqn"', 'agent = "dqn-att"', ["network.interaction", "'dot'", "'dqn-att'", "use attention"]),
        ('agent = "dqn"', 'agent = "drr-att"', ["network.interaction", "'dot'", "'drr-att'", "use attention"]),
        ('agent = "dqn"', 'agent = "oracle"', ["'oracle'", "dqn, ddpg"]),
        ('kind = "softmax"', 'kind = "gaussian"', ["exploration.kind", "softmax, greedy"]),
        ('agent = "dqn"', 'agent = "ppo"\nclip = 0.0', ["learner.clip", "greater than 0"]),
        ("purchase = 5.0", "purchase = nan", ["reward.purchase", "finite"]),
        ('kind = "number", max', 'kind = "numeral", max', ["state.page", "numeral", "'number'"]),
        ("length = 20", "length = 0", ["state.history.length"]),
        ('closes = ["purchase"]', 'closes = ["buy"]', ["reward.closes", "'buy'"]),
        ('id = { kind = "category", buckets = 65536 }', "", ["state.history", "id"]),
        ('values = ["18-24", "25-34"]', 'values = ["a"], size = 3', ["state.age", "exactly one"]),
        ("[item]", "[item", ["not TOML"]),
    ],
)
def test_a_mistake_is_named(old: str, new: str, words: list[str]) -> None:
    assert old in GOOD
    with pytest.raises(LoopFileError) as caught:
        parse_loop(GOOD.replace(old, new, 1), "loop.toml")
    for word in ("loop.toml", *words):
        assert word in str(caught.value)


def test_several_mistakes_are_named_at_once() -> None:
    with pytest.raises(LoopFileError) as caught:
        parse_loop(GOOD.replace("size = 10", "size = 0").replace("max = 100", 'max = "x"'))
    assert len(str(caught.value).splitlines()) == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoopFileError, match=r"nowhere\.toml cannot be read"):
        read_loop(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("max = 100", "max = 99", True),
        ("size = 10", "size = 9", True),
        ("[learner]", "[network]\nhidden = [64]\n[learner]", True),
        ("click = 1.0", "click = 2.0", False),
        ('kind = "softmax"', 'kind = "greedy"', False),
        ('timeout = "30m"', 'timeout = "1h"', False),
    ],
)
def test_the_hash_covers_what_shapes_the_network(old: str, new: str, changes: bool) -> None:
    assert (parse_loop(GOOD.replace(old, new, 1)).hash != parse_loop(GOOD).hash) is changes


def learner_of(**settings: str | int) -> str:
    lines = "\n".join(f"{key} = {value!r}" for key, value in settings.items())
    return GOOD.replace('agent = "dqn"', f'agent = "dqn"\n{lines}')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (learner_of(estimator="oracle"), ["'oracle'", "mlp, fm, din, mean"]),
        (learner_of(head="cauchy"), ["'cauchy'", "auto, bernoulli"]),
        (learner_of(calibration="platt"), ["'platt'", "none, temperature, isotonic"]),
        (learner_of(ensemble_size=0), ["learner.ensemble_size", "greater than or equal to 1"]),
        (
            learner_of(estimator="din").replace('history = { kind = "items", length = 20 }', ""),
            ["learner.estimator = 'din'", '"items"', "use mlp, fm, mean"],
        ),
        (learner_of(estimator="mean", stabilizer="srs2"), ["learner.stabilizer = 'srs2'", "use raw, srs,"]),
        (learner_of(estimator="mean", head="poisson"), ["learner.head = 'poisson'", "use auto"]),
    ],
)
def test_an_estimator_that_does_not_fit_is_told_what_does(text: str, words: list[str]) -> None:
    with pytest.raises(LoopFileError) as caught:
        parse_loop(text)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("estimator", ["mean", "din"])
def test_for_weights_only_estimators_that_see_the_action_fit(estimator: str) -> None:
    text = learner_of(estimator=estimator).replace('kind = "slate"\nsize = 10', 'kind = "weights"\ndim = 3')
    with pytest.raises(LoopFileError, match=r'needs action.kind = "slate".*; use mlp, fm'):
        parse_loop(text.replace('"dqn"', '"ddpg"').replace('"softmax"', '"gaussian"'))


@pytest.mark.parametrize("agent", ["ppo", "reinforce"])
def test_policy_gradients_need_probabilities_that_move_with_the_scores(agent: str) -> None:
    greedy = learner_of().replace('"dqn"', f'"{agent}"').replace('kind = "softmax"', 'kind = "greedy"')
    with pytest.raises(LoopFileError, match=rf"'greedy' does not fit learner.agent = '{agent}'; use softmax$"):
        parse_loop(greedy)


@pytest.mark.parametrize(("agent", "steps"), [("dqn", 1), ("reinforce", 1), ("ppo", 3 * 4)])
def test_an_agent_of_rollouts_takes_several_steps_an_update(agent: str, steps: int) -> None:
    learner = learner_of(batch_size=250, minibatch_size=64, epochs=3).replace('"dqn"', f'"{agent}"')
    assert parse_loop(learner).learner.steps_per_update == steps
