"""The blend by hand: what it weighs, and when it stays away from the estimates or from the rewards."""

import pytest
import torch

from tests.unit.agents.batches import batch_of, random_batch, slate_loop
from trainer.replay.batch import TransitionBatch
from trainer.rewards.blend import Blend, blend_weight
from trainer.rewards.mlp import MlpEstimator


def test_the_weight_by_hand() -> None:
    assert blend_weight(0.01, 3.0) == pytest.approx(0.01 / (0.01 + 0.99 / 10))  # .092
    assert blend_weight(0.5, 3.0) == pytest.approx(10 / 11)
    assert blend_weight(0.0, 3.0) == 0.0
    assert blend_weight(-0.2, 3.0) == 0.0
    assert blend_weight(1.0, 3.0) == 1.0


def test_before_the_estimates_are_known_to_be_good_the_rewards_are_raw() -> None:
    assert blend_weight(-0.2, 1.9) == 1.0
    loop = slate_loop(stabilizer="blend")
    batch = random_batch(loop)
    assert torch.equal(Blend(loop).rewards(batch, MlpEstimator(loop)), batch.reward)


def fresh_batch(estimates: list[float]) -> tuple[TransitionBatch, torch.Tensor]:
    """Impressions of item 1 paid 1 and of item 2 paid 0, with these estimates of the two, 500 times."""
    loop = slate_loop()
    item = torch.tensor([1, 2] * 500)
    batch = batch_of(loop, 1_000, item_slots=item.unsqueeze(1), reward=(item == 1).float())
    return batch, torch.tensor(estimates * 500)


class Estimates:
    """An estimator that says what it is told to."""

    def __init__(self, estimate: torch.Tensor) -> None:
        self.estimate = estimate

    def predict(self, batch: TransitionBatch) -> torch.Tensor:  # noqa: ARG002 that of the batch at hand
        return self.estimate


def probed(blend: Blend, estimates: list[float], num_updates: int) -> Blend:
    batch, estimate = fresh_batch(estimates)
    for _ in range(num_updates):
        blend.fit(batch, Estimates(estimate), num_examples=100_000)  # type: ignore[arg-type]  # predicts, and no more
    blend.observe(batch, estimate)
    return blend


def test_estimates_whose_rest_is_noise_stand_alone() -> None:
    blend = Blend(slate_loop())
    loop, noise = slate_loop(), torch.randint(0, 2, (4_000,), generator=torch.Generator().manual_seed(0)).float()
    batch = batch_of(loop, 4_000, item_slots=torch.randint(1, 121, (4_000, 1)), reward=noise)
    blend.observe(batch, 0.4 + 0.2 * noise)  # they correlate with the rewards, and the probe knows nothing: R = 0
    assert blend.figures()["probe_r2"] == 0.0
    estimate = torch.full((4_000,), 0.3)
    assert torch.equal(blend.rewards(batch, Estimates(estimate)), estimate)  # type: ignore[arg-type]


def test_what_the_estimator_misses_is_let_through() -> None:
    torch.manual_seed(0)
    blend = probed(Blend(slate_loop(estimator_learning_rate=1e-2)), [0.6, 0.4], 300)
    assert blend.figures()["probe_r2"] > 0.9
    assert blend.weight > 0.99
    batch, estimate = fresh_batch([0.6, 0.4])
    assert blend.rewards(batch, Estimates(estimate)) == pytest.approx(batch.reward, abs=0.01)  # type: ignore[arg-type]


def test_the_mixture_by_hand() -> None:
    torch.manual_seed(0)
    blend = probed(Blend(slate_loop(estimator_learning_rate=1e-2)), [0.6, 0.4], 12)
    batch, estimate = fresh_batch([0.6, 0.4])
    rho, w = blend._probe.predict(batch), blend.weight
    assert 0.1 < rho[0] < 0.39
    mixed = estimate + rho + w * (batch.reward - estimate - rho)
    assert torch.allclose(blend.rewards(batch, Estimates(estimate)), mixed)  # type: ignore[arg-type]
