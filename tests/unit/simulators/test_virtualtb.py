"""The world `virtualtb` on networks written down here, and its facts on the real ones where those are."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.messages import Recommendation
from schemas.sections import CategoryFeature
from simulators.virtualtb import (
    NUM_WEIGHTS,
    USER_FEATURES,
    VirtualTaobao,
    load_networks,
    one_hot,
)
from simulators.world import Actions, Outcome, State, WorldError, random_reward, select
from tests.fakes.taobao import FIVE, ONE_OR_TWO, world_of

FILES = ("generator_model.pt", "leave_model.pt", "action_model.pt")
REAL = Path(os.environ.get("STEADYRANK_TEST_VIRTUALTB", Path(__file__).parents[4] / "shared/data/virtualtb"))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def torch_network(file: Path) -> torch.nn.Sequential:
    """The same file as torch itself would run it."""
    tensors = torch.load(file, weights_only=True)
    layers: list[torch.nn.Module] = []
    for i in range(0, len(tensors), 2):
        num_out, num_in = tensors[f"{i}.weight"].shape
        layers += [torch.nn.Linear(num_in, num_out), torch.nn.LeakyReLU(0.01)]
    network = torch.nn.Sequential(*layers[:-1])
    network.load_state_dict(tensors)
    return network


def first_page(world: VirtualTaobao, num: int = 1) -> tuple[State, Actions]:
    state = world.start(num, rng())
    return state, np.zeros((num, NUM_WEIGHTS))


# ------------------------------------------------------------------ the networks


def test_the_networks_compute_what_torch_does(folder: Path) -> None:
    networks = load_networks(folder)
    for mlp, name, num_in in zip(
        (networks.generator, networks.leave, networks.action), FILES, (128, 88, 116), strict=True
    ):
        twin = torch_network(folder / name)
        x = rng().standard_normal((7, num_in)).astype(np.float32)
        assert mlp(x) == pytest.approx(twin(torch.from_numpy(x)).detach().numpy(), abs=1e-5)


def test_the_expected_reward_is_exact(folder: Path) -> None:
    world = VirtualTaobao(load_networks(folder))
    state = world.start(5, rng())
    state["num_pages"] = np.array([0, 1, 7, 30, 99])
    actions = world.random_actions(state, rng(1))
    twin = torch_network(folder / "action_model.pt")
    x = np.hstack([one_hot(state["features"]), state["num_pages"][:, None], actions]).astype(np.float32)
    share = torch.softmax(twin(torch.from_numpy(x))[:, :11].double(), dim=1)
    expected = (share @ torch.arange(11, dtype=torch.float64)).detach().numpy()
    assert world.oracle_reward(state, actions)[:, 0] == pytest.approx(expected, abs=1e-5)


def test_one_hot_puts_each_feature_in_its_own_part() -> None:
    dims = one_hot(np.array([[0] * 11, [size - 1 for size in USER_FEATURES]]))
    assert dims.sum(axis=1).tolist() == [11.0, 11.0]
    assert np.flatnonzero(dims[0]).tolist() == [0, 8, 16, 27, 38, 49, 60, 62, 64, 67, 85]
    assert np.flatnonzero(dims[1]).tolist() == [7, 15, 26, 37, 48, 59, 61, 63, 66, 84, 87]


# ------------------------------------------------------------------ a visit


def test_clicks_are_drawn_from_the_softmax() -> None:
    world = world_of(ONE_OR_TWO)
    state, actions = first_page(world, 20_000)
    rewards = world.step(state, actions, rng()).rewards
    assert set(np.unique(rewards)) == {1.0, 2.0}
    assert rewards.mean() == pytest.approx(1.5, abs=0.015)
    assert world.oracle_reward(state, actions) == pytest.approx(1.5)


@pytest.mark.parametrize(("leaves_at", "num_pages"), [(0, 1), (1, 1), (4, 4)])
def test_a_visit_ends_once_the_page_count_reaches_its_length(leaves_at: int, num_pages: int) -> None:
    world = world_of(FIVE, leaves_at)
    state, actions = first_page(world)
    for page in range(1, num_pages + 1):
        outcome = world.step(state, actions, rng())
        assert outcome.done.tolist() == [page == num_pages]
        state = outcome.next_state


def test_a_request_tells_the_page_before() -> None:
    world = world_of(FIVE)
    state, actions = first_page(world)
    [first] = world.requests(state)
    [second] = world.requests(world.step(state, actions, rng()).next_state)
    assert first.context is not None
    assert second.context is not None
    assert [first.context[key] for key in ("clicks", "index", "page")] == [0, 0, 0]
    assert [second.context[key] for key in ("clicks", "index", "page")] == [5, 4, 1]
    assert [first.context[f"f{i}"] for i in range(11)] == [second.context[f"f{i}"] for i in range(11)]
    assert first.context.keys() == world.loop.state.keys()
    assert first.candidates is None


def test_features_stay_within_the_sizes_of_the_loop_file() -> None:
    world = world_of(FIVE)
    features = world.start(2_000, rng())["features"]
    for i, size in enumerate(USER_FEATURES):
        described = world.loop.state[f"f{i}"]
        assert isinstance(described, CategoryFeature)
        assert described.size == size
        assert set(features[:, i].tolist()) == set(range(size))


def test_every_page_gives_its_clicks_and_the_last_one_the_leaving() -> None:
    outcome = Outcome(np.array([[0.0], [7.0]]), np.array([False, True]), {})
    first, last = world_of(FIVE).events(np.zeros((2, NUM_WEIGHTS)), outcome)
    assert [(e.kind, e.value, e.item_id) for e in first] == [("clicks", 0.0, None)]
    assert [(e.kind, e.value) for e in last] == [("clicks", 7.0), ("leave", 1.0)]


def test_bern30_pays_all_or_nothing_with_the_same_mean() -> None:
    world = world_of(FIVE, variant="bern30")
    state, actions = first_page(world, 20_000)
    outcome = world.step(state, actions, rng())
    assert set(np.unique(outcome.rewards)) == {0.0, 30.0}
    assert outcome.rewards.mean() == pytest.approx(5.0, abs=0.35)
    assert world.oracle_reward(state, actions) == pytest.approx(5.0)
    # The context shows what was paid, in its range, and not the clicks behind it.
    assert np.array_equal(outcome.next_state["clicks"], np.minimum(outcome.rewards[:, 0], 10))


def test_soft1000_divides_the_logits() -> None:
    world = world_of([0.0, 1000.0] + [-1e7] * 9, variant="soft1000")
    state, actions = first_page(world)
    assert world.oracle_reward(state, actions) == pytest.approx(0.7310586)  # σ(1)


def test_an_answer_without_its_27_weights_is_refused() -> None:
    world = world_of(FIVE)
    good = Recommendation("d", [], None, "fallback", action=[0.5] * 27)
    assert world.actions([good]).tolist() == [[0.5] * 27]
    for action in (None, [0.5] * 26):
        with pytest.raises(WorldError, match="27 weights"):
            world.actions([Recommendation("d", [], None, "fallback", action=action)])


# ------------------------------------------------------------------ broken folders


def test_a_broken_folder_is_named(folder: Path, tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    broken = tmp_path / "leave_model.pt"
    broken.write_bytes(broken.read_bytes()[:1000])
    with pytest.raises(WorldError, match=r"leave_model\.pt is not a file of PyTorch weights"):
        load_networks(tmp_path)
    broken.write_bytes(b"")
    with pytest.raises(WorldError, match=r"leave_model\.pt is not a file of PyTorch weights"):
        load_networks(tmp_path)
    broken.write_bytes((folder / "generator_model.pt").read_bytes())
    with pytest.raises(WorldError, match=r"leave_model\.pt has the tensors .*expected .*4\.weight"):
        load_networks(tmp_path)
    torch.save([1, 2], broken)
    with pytest.raises(WorldError, match=r"leave_model\.pt has the tensors list"):
        load_networks(tmp_path)
    broken.unlink()
    with pytest.raises(WorldError, match=r"has no file leave_model\.pt"):
        load_networks(tmp_path)


# ------------------------------------------------------------------ the real one


@pytest.mark.skipif(
    not REAL.is_dir(), reason="needs the simulator's weights: name their folder in STEADYRANK_TEST_VIRTUALTB"
)
def test_the_facts_of_virtual_taobao() -> None:
    world = VirtualTaobao(load_networks(REAL))
    assert random_reward(world, 4_000, rng()) / 10 == pytest.approx(0.018, abs=0.002)
    state, clicks, pages = world.start(4_000, rng()), 0.0, 0
    while len(state["num_pages"]):
        outcome = world.step(state, np.zeros((len(state["num_pages"]), NUM_WEIGHTS)), rng(pages))
        clicks, pages = clicks + float(outcome.rewards.sum()), pages + len(outcome.done)
        state = select(outcome.next_state, ~outcome.done)
    assert clicks / pages / 10 == pytest.approx(0.056, abs=0.005)
    assert pages / 4_000 == pytest.approx(7.7, abs=0.5)
