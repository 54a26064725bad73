"""SAC (arXiv 1801.01290, 1812.05905): a random policy that is paid for its entropy, for `weights`."""

from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.loop_file import Loop
from schemas.sections import WeightsAction
from trainer.adam import Adam
from trainer.agents.agent import WithTarget
from trainer.agents.critics import ActorTwinCritics
from trainer.agents.losses import (
    bootstrapped,
    mean_squared_error,
    soft_actor_loss,
    tanh_gaussian_log_density,
)
from trainer.agents.temperature import Temperature
from trainer.agents.view import View
from trainer.network_setup import start_at_zero
from trainer.networks import ActorHead
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates
from trainer.state import Kept

_MIN_LOG_SD, _MAX_LOG_SD = -5.0, 1.0
_FIRST_TEMPERATURE = 0.1


class GaussianActorCritics(ActorTwinCritics):
    """The actor is the mean of z, and alone in the policy's file; what gives its sd is a network beside it."""

    def __init__(self, loop: Loop, view: View) -> None:
        super().__init__(loop, view)
        self.log_sd = ActorHead(loop, view.state_dim)
        start_at_zero(self.log_sd.tower)

    def normal(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log sd [B, A] of z in states [B, Fs]."""
        return self.actor(state), self.log_sd(state).clamp(_MIN_LOG_SD, _MAX_LOG_SD)


class SacAgent(WithTarget[GaussianActorCritics]):
    """Differences from the papers: what is served is tanh of the mean, and the noise is the ranker's; an L2 penalty on
    the mean; embeddings of ids, which the critics' loss moves and the actor's does not. docs/agents/sac.md
    """

    def __init__(self, loop: Loop, view: View) -> None:
        assert isinstance(loop.action, WeightsAction), "the loop file makes sure of it"
        self._settings = loop.learner
        self._target_entropy = self._settings.entropy_per_dim * loop.action.dim
        self._online = GaussianActorCritics(loop, view)
        self._target = deepcopy(self._online)
        rate = self._settings.learning_rate
        valued = [*view.trained(), *self._online.critics.parameters()]
        acting = [*self._online.actor.parameters(), *self._online.log_sd.parameters()]
        self._critic_optimizer = Adam(valued, self._settings.critic_learning_rate or rate)
        self._actor_optimizer = Adam(acting, rate)
        self._temperature = Temperature(_FIRST_TEMPERATURE, rate)

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        state = self._online.view.state(batch.state_slots, batch.state_numbers)  # [B, Fs]
        figures = self._differentiate_critics(state, batch, num_examples)
        figures |= self._differentiate_actor(state.detach())
        for optimizer in (self._critic_optimizer, self._actor_optimizer, self._temperature):
            optimizer.step()
        self._follow()
        return figures

    def _differentiate_critics(self, state: Tensor, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        q = self._online.critics(state, batch.action)  # [2, B]
        target = bootstrapped(batch.reward, batch.terminated, self._settings.discount, self._next_value(batch))
        loss = mean_squared_error(q, target.expand_as(q))
        penalty = self._online.view.id_penalty(self._settings.id_penalty / num_examples)
        self._critic_optimizer.differentiate(loss + penalty)
        return {"agent_loss": loss.item(), "q_mean": q.mean().item()}

    def _differentiate_actor(self, state: Tensor) -> dict[str, float]:
        """The temperature's loss too, which wants the same draw."""
        mean, log_sd = self._online.normal(state)
        z, log_density = _drawn(mean, log_sd)
        value = self._online.critics(state, torch.tanh(z)).amin(dim=0)  # [B]
        alpha, penalty = self._temperature.value, self._settings.action_penalty
        self._actor_optimizer.differentiate(soft_actor_loss(value, log_density, alpha, mean, penalty))
        self._temperature.differentiate(-log_density, self._target_entropy)
        entropy = -log_density.mean().item()
        return {"policy_value": value.mean().item(), "entropy": entropy, "entropy_temperature": alpha.item()}

    @torch.no_grad()
    def _next_value(self, batch: TransitionBatch) -> Tensor:
        """What the next decision is worth, [B]: the lower target critic's value of a draw, and its entropy."""
        next_state = batch.next_state_slots, batch.next_state_numbers
        z, log_density = _drawn(*self._online.normal(self._online.view.state(*next_state)))
        value: Tensor = self._target.critics(self._target.view.state(*next_state), torch.tanh(z)).amin(dim=0)
        return value - self._temperature.value * log_density

    def act(self, probe: ProbeStates) -> NDArray[np.float32]:
        return self._online.act(probe)

    def policy_tensors(self) -> dict[str, NDArray[np.float32]]:
        return self._online.policy_tensors()

    def _parts(self) -> dict[str, Kept]:
        return {
            "online": self._online,
            "target": self._target,
            "actor_optimizer": self._actor_optimizer,
            "critic_optimizer": self._critic_optimizer,
            "temperature": self._temperature,
        }


def _drawn(mean: Tensor, log_sd: Tensor) -> tuple[Tensor, Tensor]:
    """A draw of z [B, A], through which gradients flow, and its log π(tanh z) [B]."""
    z = mean + log_sd.exp() * torch.randn_like(mean)
    return z, tanh_gaussian_log_density(mean, log_sd, z)
