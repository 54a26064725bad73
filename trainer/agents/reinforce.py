"""REINFORCE with off-policy correction and a baseline, from the replay, for `slate` and `weights`."""

from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.loop_file import Loop
from trainer.adam import Adam
from trainer.agents.losses import bootstrapped, polyak_update
from trainer.agents.policy_losses import capped_weight, weighted_policy_loss, weighted_squared_error
from trainer.agents.stochastic import stochastic_policy
from trainer.agents.view import View
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates
from trainer.replay.statistics import NumberStatistics
from trainer.state import Kept, OfParts


class ReinforceAgent(OfParts):
    """After arXiv 1812.02353. Differences: the behaviour's propensities are logged, not estimated; the return is
    r + γ V(s′), less the baseline V(s); no top-K correction, since slates are drawn position by position.
    """

    def __init__(self, loop: Loop, view: View) -> None:
        self._settings = loop.learner
        self._policy = stochastic_policy(loop, view)
        self._target = deepcopy(self._policy)
        trained = [*view.trained(), *self._policy.head_parameters()]
        self._optimizer = Adam(trained, self._settings.learning_rate)

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        judged = self._policy.judge(batch)
        weight = capped_weight(judged.log_ratio, self._settings.max_weight)
        target = bootstrapped(batch.reward, batch.terminated, self._settings.discount, self._next_value(batch))
        policy_loss = weighted_policy_loss(judged.log_prob, weight, target - judged.value)
        value_loss = weighted_squared_error(judged.value, target, weight)
        penalty = self._policy.view.id_penalty(self._settings.id_penalty / num_examples)
        self._optimizer.differentiate(policy_loss + value_loss + judged.cost + penalty)
        self._optimizer.step()
        polyak_update([*self._target.parameters()], [*self._policy.parameters()], self._settings.polyak)
        figures = {"agent_loss": policy_loss, "value_loss": value_loss, "value_mean": judged.value.mean()}
        return {name: figure.item() for name, figure in figures.items()} | {"weight_mean": weight.mean().item()}

    @torch.no_grad()
    def _next_value(self, batch: TransitionBatch) -> Tensor:
        """What the next decision is worth, [B]: the slowly moving copy's V(s′)."""
        return self._target.value(batch.next_state_slots, batch.next_state_numbers)

    def act(self, probe: ProbeStates) -> NDArray[np.float32]:
        return self._policy.act(probe)

    def policy_tensors(self) -> dict[str, NDArray[np.float32]]:
        return self._policy.tensors()

    def rescale(self, statistics: NumberStatistics) -> None:
        for policy in (self._policy, self._target):
            policy.view.rescale(statistics)

    def _parts(self) -> dict[str, Kept]:
        return {"policy": self._policy, "target": self._target, "optimizer": self._optimizer}
