"""PPO (arXiv 1707.06347): a clipped policy gradient from the newest decisions, for `slate` and `weights`."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.loop_file import Loop
from trainer.adam import Adam
from trainer.agents.losses import bootstrapped, mean_squared_error
from trainer.agents.policy_losses import clipped_loss, generalized_advantages, normalized
from trainer.agents.stochastic import stochastic_policy
from trainer.agents.view import View
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates
from trainer.replay.statistics import NumberStatistics
from trainer.state import Kept, gather, scatter

_VALUE_WEIGHT = 0.5
"""Of the value's loss beside the policy's: arXiv 1707.06347, eq. 9, with the usual c₁."""


class PpoAgent:
    """Differences from the paper: the ratio is over the logged propensity, not over the policy of the last update;
    slates give an impression an item, drawn position by position; exploration is the ranker's and part of the policy.
    """

    def __init__(self, loop: Loop, view: View) -> None:
        self._settings = loop.learner
        self._policy = stochastic_policy(loop, view)
        trained = [*view.trained(), *self._policy.head_parameters()]
        self._optimizer = Adam(trained, self._settings.learning_rate)
        self._num_updates = torch.zeros((), dtype=torch.int64)  # a tensor, as all of the state

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        """`epochs` passes over the rollout, whose advantages and value targets are those before the first."""
        advantage, target = self._advantages(batch)
        advantage = normalized(advantage)
        figures = [
            self._step(batch.at(part), advantage[part], target[part], num_examples)
            for part in self._minibatches(len(batch.rows))
        ]
        self._num_updates += 1
        names = ("agent_loss", "value_loss", "clipped")
        return dict(zip(names, np.mean(figures, axis=0).tolist(), strict=True)) | {"value_mean": target.mean().item()}

    @torch.no_grad()
    def _advantages(self, batch: TransitionBatch) -> tuple[Tensor, Tensor]:
        """Advantages, and what V(s) should be, [B] each."""
        settings = self._settings
        value = self._policy.value(batch.state_slots, batch.state_numbers)
        next_value = self._policy.value(batch.next_state_slots, batch.next_state_numbers)
        error = bootstrapped(batch.reward, batch.terminated, settings.discount, next_value) - value
        decay = settings.discount * settings.gae_lambda
        advantage = generalized_advantages(error, batch.rows, batch.next_rows, decay)
        return advantage, advantage + value

    def _minibatches(self, num: int) -> Iterator[NDArray[np.int64]]:
        """Parts of 0 … num − 1 in an order that the number of updates decides, so that a restart draws the same."""
        rng = np.random.default_rng([self._settings.seed, int(self._num_updates)])
        num_parts = max(1, round(num / self._settings.minibatch_size))
        for _ in range(self._settings.epochs):
            yield from np.array_split(rng.permutation(num), num_parts)

    def _step(
        self, batch: TransitionBatch, advantage: Tensor, target: Tensor, num_examples: int
    ) -> tuple[float, float, float]:
        """One gradient step. Returns both losses and the share of ratios beyond the clip."""
        judged = self._policy.judge(batch)
        policy_loss = clipped_loss(judged.log_ratio, advantage, self._settings.clip)
        value_loss = mean_squared_error(judged.value, target)
        penalty = self._policy.view.id_penalty(self._settings.id_penalty / num_examples)
        self._optimizer.differentiate(policy_loss + _VALUE_WEIGHT * value_loss + judged.cost + penalty)
        self._optimizer.step()
        is_beyond = (judged.log_ratio.detach().exp() - 1.0).abs() > self._settings.clip
        return policy_loss.item(), value_loss.item(), is_beyond.float().mean().item()

    def act(self, probe: ProbeStates) -> NDArray[np.float32]:
        return self._policy.act(probe)

    def policy_tensors(self) -> dict[str, NDArray[np.float32]]:
        return self._policy.tensors()

    def rescale(self, statistics: NumberStatistics) -> None:
        self._policy.view.rescale(statistics)

    def state_dict(self) -> dict[str, Tensor]:
        return {"num_updates": self._num_updates} | gather(**self._parts())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._num_updates.copy_(state["num_updates"])
        scatter(state, **self._parts())

    def _parts(self) -> dict[str, Kept]:
        return {"policy": self._policy, "optimizer": self._optimizer}
