"""The study's arrays are what the product's ranker and replay would have made of the same decisions."""

import numpy as np
import pytest
import torch

from policies.features import ItemEncoder, StateEncoder
from policies.slates import slate_propensities
from schemas.loop_file import GreedyExploration, SoftmaxExploration
from simulators.shop import Dials, Shop
from studies.batched import BatchedRun, EncodedShop
from studies.online import changed

SHOP = Shop(3, Dials(leave=2.0))


def run_of(num_decisions: int, **exploration: object) -> BatchedRun:
    loop = changed(SHOP.loop, exploration=exploration)
    run = BatchedRun(SHOP, loop, 0, num_decisions)
    run.run(num_points=1, num_evaluated=10)
    return run


def test_states_and_items_are_encoded_as_the_product_does() -> None:
    encoded, state = EncodedShop(SHOP, SHOP.loop), SHOP.start(20, np.random.default_rng(0))
    state["satisfaction"] = np.linspace(-1, 1, 20)
    states, items = StateEncoder(SHOP.loop), ItemEncoder(SHOP.loop)
    catalogue = {item.item_id: item.features for item in SHOP.catalogue()}
    probe = encoded.probe(state)
    for i, request in enumerate(SHOP.requests(state)):
        one = states.encode(request.context)
        assert probe.state_slots[i].tolist() == one.slots
        assert probe.state_numbers[i].tolist() == pytest.approx(one.numbers)
        assert request.candidates is not None
        for j, candidate in enumerate(request.candidates):
            assert isinstance(candidate, str)
            assert probe.item_slots[i, j].tolist() == items.encode(candidate, catalogue[candidate]).slots


def test_a_transition_leads_to_where_the_shop_leads() -> None:
    run = run_of(2_000)
    batch = run._memory.sample(1_000)
    assert batch is not None
    user = batch.state_slots[:, 0].numpy() - 1
    place = np.argsort(run._encoded.item_rows)[run._memory._columns.slate[batch.rows, 0] - 1]
    before, after = (2 * numbers[:, 0].numpy() - 1 for numbers in (batch.state_numbers, batch.next_state_numbers))
    goes_on = ~batch.terminated.numpy()
    assert 0.01 < batch.terminated.float().mean() < 0.2
    assert (batch.next_state_slots[goes_on] == batch.state_slots[goes_on]).all()
    expected = SHOP.next_satisfaction(user, before, place)
    assert after[goes_on] == pytest.approx(expected[goes_on], abs=1e-6)
    truth = SHOP.click_probability(user, before, place)
    assert run._memory.expected[batch.rows].numpy() == pytest.approx(truth, abs=1e-6)
    assert not batch.next_mask[batch.terminated].any()
    assert batch.next_mask[~batch.terminated].all()


@pytest.mark.parametrize(
    "exploration", [SoftmaxExploration(kind="softmax", temperature=0.2, epsilon=0.1), GreedyExploration(kind="greedy")]
)
def test_propensities_are_those_of_the_ranker(exploration: SoftmaxExploration | GreedyExploration) -> None:
    run = run_of(2_000, **exploration.model_dump())
    run._loop = run._loop.model_copy(update={"exploration": exploration})
    shares = run._shares()
    for row, scores in zip(shares, run.learner.act(run._encoded.probe(run._state)), strict=True):
        for i in range(10):
            assert row[i] == pytest.approx(slate_propensities(scores, [i], exploration)[0], abs=1e-6)


def test_the_same_seed_learns_the_same() -> None:
    torch.set_num_threads(1)
    one, other = run_of(1_000), run_of(1_000)
    tensors = other.learner.policy_tensors()
    assert all((tensors[name] == tensor).all() for name, tensor in one.learner.policy_tensors().items())
