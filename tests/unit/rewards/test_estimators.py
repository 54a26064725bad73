"""What holds for every estimator with every head, alone, in an ensemble and calibrated; and each one's own formula."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from schemas.kinds import CALIBRATIONS, ESTIMATORS, HEADS
from schemas.loop_file import Loop
from tests.unit.agents.batches import batch_of, history_loop, random_batch, slate_loop, weights_loop
from trainer.networks import Embeddings
from trainer.rewards import make_estimator
from trainer.rewards.din import InterestNetwork
from trainer.rewards.ensemble import Ensemble, poisson_weights
from trainer.rewards.estimator import RewardEstimator
from trainer.rewards.fm import FactorizationMachine
from trainer.rewards.mean import ItemSums, shrunk_means

LOOPS = {"slate": history_loop, "weights": weights_loop}
SETTINGS: list[dict[str, Any]] = [
    *({"estimator": name, "head": head} for name, head in product(ESTIMATORS, HEADS) if name != "mean"),
    *({"estimator": name, "calibration": each} for name, each in product(ESTIMATORS, CALIBRATIONS)),
    *({"estimator": name, "ensemble_size": 3, "calibration": "temperature"} for name in ESTIMATORS),
]
FITTING = [
    (action, settings)
    for action, settings in product(LOOPS, SETTINGS)
    if action in ESTIMATORS[settings["estimator"]].actions
]
NAMES = ["-".join([action, *map(str, settings.values())]) for action, settings in FITTING]
every = pytest.mark.parametrize(("action", "settings"), FITTING, ids=NAMES)


def make(loop: Loop, seed: int = 0) -> RewardEstimator:
    torch.manual_seed(seed)
    return make_estimator(loop)


def fitted(loop: Loop) -> RewardEstimator:
    estimator = make(loop)
    for seed in range(40):
        estimator.observe(random_batch(loop, seed=seed + 100))
        estimator.update(random_batch(loop, seed=seed), num_examples=1_000)
    return estimator


@every
def test_it_estimates_finite_rewards_and_learns(action: str, settings: dict[str, Any]) -> None:
    loop = LOOPS[action](**settings)
    estimator, batch = make(loop), random_batch(loop)
    assert estimator.predict(batch).abs().max() < 1e-6  # nothing was seen
    figures = [estimator.update(batch, num_examples=32)["estimator_loss"] for _ in range(100)]
    assert figures[-1] < figures[0]
    estimate = estimator.predict(batch)
    assert estimate.shape == (32,)
    assert estimate.isfinite().all()
    assert not estimate.requires_grad
    assert estimate.mean().item() == pytest.approx(batch.reward.mean().item(), abs=0.15)


@every
def test_from_its_state_it_goes_on_exactly_as_it_would_have(action: str, settings: dict[str, Any]) -> None:
    loop = LOOPS[action](**settings)
    estimator, other = fitted(loop), make(loop, seed=1)
    other.load_state_dict({name: tensor.clone() for name, tensor in estimator.state_dict().items()})
    for seed in range(3):
        batch = random_batch(loop, seed=seed)
        for each in (estimator, other):
            each.observe(batch)
        assert estimator.update(batch, 1_000) == other.update(batch, 1_000)
        assert torch.equal(estimator.predict(batch), other.predict(batch))


@every
def test_it_refuses_stabilized_rewards(action: str, settings: dict[str, Any]) -> None:
    loop = LOOPS[action](**settings)
    with pytest.raises(ValueError, match="raw rewards"):
        make(loop).update(random_batch(loop).with_reward(torch.ones(32)), num_examples=32)


# ------------------------------------------------------------------ the factorization machine


def machine(loop: Loop, num_outputs: int = 1) -> tuple[FactorizationMachine, Embeddings]:
    torch.manual_seed(0)
    embeddings = Embeddings(loop)
    network = FactorizationMachine(loop, embeddings, num_outputs)
    for parameter in (*network.parameters(), *embeddings.parameters()):
        nn.init.zeros_(parameter)
    return network, embeddings


@torch.no_grad()
def test_the_machine_by_hand() -> None:
    loop = slate_loop()
    network, embeddings = machine(loop, num_outputs=2)
    place, item = (embeddings.table_names.index(name) for name in ("state.place", "item.id"))
    embeddings.tables[place][1] = torch.tensor([1.0, 2.0, 0.0, 0.0])
    embeddings.tables[item][7] = torch.tensor([3.0, -1.0, 5.0, 0.0])
    network.of_state_numbers[0] = torch.tensor([0.0, 0.0, 0.5, 0.0])
    network.bias[:] = torch.tensor([0.1, 0.0])
    network.of_rows.tables[place][1] = torch.tensor([0.2, 0.0])
    network.of_rows.tables[item][7] = torch.tensor([0.3, 0.0])
    network.of_numbers[0] = torch.tensor([0.25, 0.0])
    network.of_products[:, 0] = torch.tensor([0.0, 1.0, 1.0, 0.0])
    batch = batch_of(
        loop, 1, state_slots=torch.tensor([[1]]), state_numbers=torch.tensor([[2.0]]), item_slots=torch.tensor([[7]])
    )
    # Linear: .1 + .2 + .3 + 2 · .25 = 1.1. Products: place × item 3 − 2 = 1, number × item 2 · .5 · 5 = 5.
    # The second output has no linear terms, and weighs only the dimensions 1 and 2: −2 + 5.
    assert network(embeddings, batch).tolist() == [pytest.approx([7.1, 3.0])]


@torch.no_grad()
def test_for_weights_the_action_stands_for_the_item() -> None:
    loop = weights_loop()
    network, embeddings = machine(loop)
    embeddings.tables[0][1] = torch.tensor([1.0, 2.0, 0.0, 0.0])
    network.of_item_numbers[0] = torch.tensor([0.5, 0.25, 9.0, 9.0])
    network.of_numbers[1] = 3.0  # of the state's one number and the action's two
    batch = batch_of(loop, 1, state_slots=torch.tensor([[1]]), action=torch.tensor([[0.5, 0.0]]))
    assert network(embeddings, batch).tolist() == [pytest.approx([3.0 * 0.5 + 0.5 * (0.5 + 0.5)])]


@torch.no_grad()
def test_biases_of_ids_are_penalized() -> None:
    network, embeddings = machine(slate_loop())
    network.of_rows.tables[embeddings.table_names.index("item.id")][3] = 2.0
    network.of_rows.tables[embeddings.table_names.index("state.place")][1] = 9.0  # a small table
    assert network.id_penalty().item() == pytest.approx(0.25 * 4.0)


# ------------------------------------------------------------------ interest


@torch.no_grad()
def test_interest_is_the_weighted_sum_of_the_history_without_its_padding() -> None:
    loop = history_loop()
    embeddings = Embeddings(loop)
    network = InterestNetwork(loop, embeddings, 1)
    nn.init.zeros_(network.attention.out.weight)
    nn.init.constant_(network.attention.out.bias, 0.5)
    slots = torch.tensor([[1, 4, 6, 0], [1, 0, 0, 0]])  # the place, then the history
    batch = batch_of(loop, 2, state_slots=slots, item_slots=torch.tensor([[2], [2]]))
    table = embeddings.tables[embeddings.table_names.index("item.id")]
    interest = network.interest(embeddings, batch)
    assert torch.allclose(interest[0], 0.5 * (table[4] + table[6]))
    assert not interest[1].any()


def test_it_learns_that_a_repeated_item_pays() -> None:
    """The reward is 1 where the candidate is in the history: the mean of the history alone hardly tells."""
    torch.manual_seed(0)
    loop = history_loop(estimator="din", estimator_learning_rate=1e-2, estimator_id_penalty=0.0)
    estimator, generator = make_estimator(loop), torch.Generator().manual_seed(0)

    def draw(num: int) -> Any:
        history = torch.randint(1, 9, (num, 3), generator=generator)
        item = torch.randint(1, 9, (num, 1), generator=generator)
        slots = torch.cat([torch.ones(num, 1, dtype=torch.int64), history], dim=1)
        return batch_of(loop, num, state_slots=slots, item_slots=item, reward=(history == item).any(dim=1).float())

    for _ in range(400):
        estimator.update(draw(256), num_examples=10_000)
    probe = draw(500)
    assert (estimator.predict(probe) - probe.reward).square().mean() < 0.05


# ------------------------------------------------------------------ the mean


def test_shrinking_by_hand() -> None:
    # Two groups of 2: rewards 0, 2 and 4, 6; their means 1 and 5, of all 3. σ² = (2 + 2) / (4 − 2) = 2.
    # Among: 2 · 4 + 2 · 4 = 16; τ² = (16 − 1 · 2) / (4 − 8 / 4) = 7. Share: 7 / (7 + 2 / 2) = 7/8.
    means = shrunk_means(torch.tensor([2.0, 2.0, 0.0]), torch.tensor([2.0, 10.0, 0.0]), torch.tensor(56.0))
    assert means.tolist() == pytest.approx([3 - 2 * 7 / 8, 3 + 2 * 7 / 8, 3.0])


def test_groups_that_differ_by_no_more_than_noise_get_the_mean_of_all() -> None:
    means = shrunk_means(torch.tensor([2.0, 2.0]), torch.tensor([1.0, 1.0]), torch.tensor(2.0))
    assert means.tolist() == pytest.approx([0.5, 0.5])


def test_what_is_shown_again_counts_once() -> None:
    once, thrice = ItemSums(4), ItemSums(4)
    ids, rewards = torch.tensor([1, 1, 2, 2]), torch.tensor([0.0, 2.0, 4.0, 6.0])
    once.add(ids, rewards, num_examples=4)
    for _ in range(3):
        thrice.add(ids, rewards, num_examples=4)
    assert torch.allclose(once.means(), thrice.means())


# ------------------------------------------------------------------ the ensemble


def test_bootstrap_weights_are_poisson_and_stay_an_impressions_own() -> None:
    rows, positions = np.arange(40_000), np.zeros(40_000, np.int64)
    first, second = poisson_weights(rows, positions, 0), poisson_weights(rows, positions, 1)
    assert np.array_equal(first[::-1], poisson_weights(rows[::-1].copy(), positions, 0))
    shares = np.bincount(first, minlength=6) / len(rows)
    assert shares[:4] == pytest.approx([np.exp(-1), np.exp(-1), np.exp(-1) / 2, np.exp(-1) / 6], abs=0.01)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(first, poisson_weights(rows, positions + 1, 0))[0, 1]) < 0.02


def test_an_ensemble_estimates_the_mean_of_its_members_and_their_spread() -> None:
    torch.manual_seed(0)
    loop = slate_loop(estimator="mlp")
    members = [make_estimator(loop) for _ in range(3)]
    ensemble, batch = Ensemble(members), random_batch(loop)
    assert not ensemble.spread(batch).any()
    for seed in range(20):
        ensemble.update(random_batch(loop, seed=seed), num_examples=100)
    estimates = torch.stack([member.predict(batch) for member in members])
    assert torch.allclose(ensemble.predict(batch), estimates.mean(dim=0))
    assert torch.allclose(ensemble.spread(batch), ((estimates - estimates.mean(dim=0)) ** 2).mean(dim=0).sqrt())
    assert (ensemble.spread(batch) > 0).any()
    assert ensemble.embeddings is members[0].embeddings
