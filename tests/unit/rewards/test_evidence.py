"""What fresh data say, worked out by hand."""

import pytest
import torch

from trainer.rewards.evidence import Evidence


def evidence_of(reward: list[float], estimate: list[float], probed: list[float]) -> Evidence:
    evidence = Evidence()
    evidence.observe(torch.tensor(reward), torch.tensor(estimate), torch.tensor(probed))
    return evidence


def test_the_probes_r2_by_hand() -> None:
    # r − r̂ = .5, −.5, 1, −1: Σδ² = 2.5. The probe leaves .25, −.5, .5, −1: Σ = 1.5625.
    evidence = evidence_of([1.0, 0.0, 2.0, 0.0], [0.5, 0.5, 1.0, 1.0], [0.25, 0.0, 0.5, 0.0])
    assert evidence.probe_r2 == pytest.approx(1 - 1.5625 / 2.5)


def test_a_probe_that_errs_more_than_silence_is_below_zero() -> None:
    assert evidence_of([1.0, 0.0], [0.5, 0.5], [-0.5, 0.5]).probe_r2 == pytest.approx(1 - 2.0 / 0.5)


def test_the_t_statistic_by_hand() -> None:
    # As in test_noise_meter: the correlation is .25 / √.125, over 4 impressions.
    evidence = evidence_of([0.0, 0.0, 2.0, 2.0], [0.5, 1.0, 1.0, 1.5], [0.0] * 4)
    assert evidence.estimate_t == pytest.approx(0.25 / 0.125**0.5 * 2)


@pytest.mark.parametrize("reward", [[], [1.0], [1.0, 1.0]])
def test_nothing_is_known_from_nothing(reward: list[float]) -> None:
    evidence = evidence_of(reward, reward, [0.0] * len(reward))
    assert (evidence.probe_r2, evidence.estimate_t) == (0.0, 0.0)


def clicks(num: int, every: int) -> torch.Tensor:
    return (torch.arange(num) % every == 0).float()


@pytest.mark.parametrize(("every", "num"), [(5, 2_210), (100, 66_660)])
def test_it_forgets_by_clicks_and_not_by_impressions(every: int, num: int) -> None:
    # The kurtosis of clicks of rate p is (1 − 3pq) / pq: 3.25 at 20 % and 98 at 1 %, times 680 is a half-life.
    evidence = Evidence()
    evidence.observe(torch.tensor([1.0, 0.0]), torch.zeros(2), torch.tensor([1.0, 0.0]))  # a probe that knew it all
    reward = clicks(num, every)
    evidence.observe(reward, torch.zeros(num), torch.zeros(num))
    first = 1.0 / (1.0 + 2 * float(reward.sum()))  # a click that counts half, among those that count whole
    assert evidence.probe_r2 == pytest.approx(first, rel=0.02)


def test_while_all_rewards_are_the_same_nothing_is_forgotten() -> None:
    evidence = evidence_of([0.0] * 4, [0.5] * 4, [-0.5] * 4)
    evidence.observe(torch.zeros(1_000_000), torch.full((1_000_000,), 0.5), torch.zeros(1_000_000))
    assert evidence.probe_r2 == pytest.approx(4 / 1_000_004)


def test_evidence_goes_on_from_its_state() -> None:
    evidence = evidence_of([1.0, 0.0, 1.0], [0.5, 0.2, 0.9], [0.1, 0.0, 0.0])
    other = Evidence()
    other.load_state_dict(evidence.state_dict())
    assert (other.probe_r2, other.estimate_t) == (evidence.probe_r2, evidence.estimate_t)


def test_one_huge_reward_does_not_drown_the_others() -> None:
    # 100 of 1,000 pay 1, and one of them 1,000: mean 1.099, variance 1,000.1 − 1.2, so that it counts as 95.915.
    reward = (torch.arange(1_000) % 10 == 0).float()
    estimate = 0.05 + 0.1 * reward
    reward[0], estimate[0] = 1_000.0, 0.05
    evidence = evidence_of(reward.tolist(), estimate.tolist(), [0.0] * 1_000)
    bound = 1.099 + 3 * (((reward - 1.099) ** 2).mean().item()) ** 0.5
    assert bound == pytest.approx(95.915, abs=0.001)
    counted = torch.corrcoef(torch.stack([reward.clamp(max=bound), estimate]))[0, 1].item()
    assert evidence.estimate_t == pytest.approx(counted * 1_000**0.5, rel=1e-4)
    assert evidence.estimate_t > 2 * torch.corrcoef(torch.stack([reward, estimate]))[0, 1].item() * 1_000**0.5
