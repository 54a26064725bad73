"""The MLP estimator finds the expected reward behind noise."""

import pytest
import torch

from tests.unit.agents.batches import batch_of, slate_loop, weights_loop
from trainer.replay.batch import TransitionBatch
from trainer.rewards.mlp import MlpEstimator

# The expected reward of item 0 and 1 in place 0, then in place 1; its top is what one event pays.
EXPECTED = torch.tensor([[0.1, 0.6], [0.5, 0.2]])


def draws(generator: torch.Generator, num: int, size: float = 1.0, low: float = 0.0) -> TransitionBatch:
    """Impressions whose reward is `low + size` with the expected share, else `low`."""
    place = torch.randint(0, 2, (num,), generator=generator)
    item = torch.randint(0, 2, (num,), generator=generator)
    happens = torch.rand(num, generator=generator) < EXPECTED[place, item]
    return batch_of(
        slate_loop(),
        num,
        state_slots=1 + place.unsqueeze(1),
        item_slots=1 + item.unsqueeze(1),
        reward=low + size * happens.float(),
    )


def all_pairs() -> TransitionBatch:
    place, item = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    return batch_of(slate_loop(), 4, state_slots=1 + place.unsqueeze(1), item_slots=1 + item.unsqueeze(1))


def estimator_of(**learner: float) -> MlpEstimator:
    torch.manual_seed(0)
    return MlpEstimator(slate_loop(estimator_learning_rate=1e-2, estimator_id_penalty=0.0, **learner))


@pytest.mark.parametrize(("size", "low"), [(1.0, 0.0), (1_000.0, -200.0)], ids=["clicks", "revenue"])
def test_it_finds_the_expected_reward_behind_noise_of_any_scale(size: float, low: float) -> None:
    estimator, generator = estimator_of(), torch.Generator().manual_seed(0)
    for _ in range(400):
        estimator.update(draws(generator, 512, size, low), num_examples=10_000)
    estimates = (estimator.predict(all_pairs()) - low) / size
    assert estimates.tolist() == pytest.approx(EXPECTED.flatten().tolist(), abs=0.05)


def test_before_it_learns_it_estimates_the_mean_reward() -> None:
    estimator = estimator_of()
    assert estimator.predict(all_pairs()).tolist() == [0.0] * 4
    batch = draws(torch.Generator().manual_seed(0), 512)
    estimator.update(batch, num_examples=10_000)
    assert estimator.predict(all_pairs()).tolist() == pytest.approx([batch.reward.mean().item()] * 4, abs=0.02)


def test_rewards_that_never_differ_teach_it_nothing_and_do_no_harm() -> None:
    estimator = estimator_of()
    batch = batch_of(slate_loop(), 8, reward=torch.full((8,), 3.0))
    assert estimator.update(batch, num_examples=8) == {}
    assert estimator.predict(batch).tolist() == [3.0] * 8


def test_it_refuses_stabilized_rewards() -> None:
    stabilized = all_pairs().with_reward(torch.ones(4))
    with pytest.raises(ValueError, match="raw rewards"):
        estimator_of().update(stabilized, num_examples=4)


def test_for_weights_it_estimates_what_an_action_brings() -> None:
    loop = weights_loop(estimator_learning_rate=1e-2)
    torch.manual_seed(0)
    estimator, generator = MlpEstimator(loop), torch.Generator().manual_seed(0)
    for _ in range(200):
        action = torch.rand(256, 2, generator=generator) * 2 - 1
        clicks = torch.bernoulli((1 + action[:, 0]) / 2, generator=generator)
        estimator.update(batch_of(loop, 256, action=action, reward=clicks), num_examples=10_000)
    probe = batch_of(loop, 3, action=torch.tensor([[-0.8, 0.0], [0.0, 0.5], [0.8, 0.0]]))
    assert estimator.predict(probe).tolist() == pytest.approx([0.1, 0.5, 0.9], abs=0.08)
