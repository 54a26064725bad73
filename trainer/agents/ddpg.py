"""DDPG (arXiv 1509.02971): a critic Q(s, a) and an actor that climbs it, for `weights`."""

from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from schemas.loop_file import Loop
from schemas.sections import WeightsAction
from trainer.adam import Adam
from trainer.agents.agent import WithTarget
from trainer.agents.losses import actor_loss, bootstrapped, mean, mean_squared_error
from trainer.agents.view import View
from trainer.network_setup import start_at_zero
from trainer.networks import ActorHead, Mlp, export
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates
from trainer.state import Kept


class ActorCritic(nn.Module):
    """Actor and critic over one view of the state."""

    def __init__(self, loop: Loop, view: View) -> None:
        super().__init__()
        assert isinstance(loop.action, WeightsAction), "the loop file makes sure of it"
        shape = loop.network
        self.view = view
        self.actor = ActorHead(loop, view.state_dim)
        self.critic = Mlp(view.state_dim + loop.action.dim, shape.hidden, 1, layer_norm=shape.layer_norm)
        start_at_zero(self.actor.tower)
        start_at_zero(self.critic)

    def value(self, state: Tensor, action: Tensor) -> Tensor:
        """Q [B] of actions [B, A] in states [B, Fs]."""
        value: Tensor = self.critic(torch.cat([state, action], dim=1)).squeeze(1)
        return value


class DdpgAgent(WithTarget[ActorCritic]):
    """Differences from the paper: an L2 penalty on the actor's pre-tanh output; embeddings of ids, which the critic's
    loss moves and the actor's does not; the noise is the ranker's.
    """

    def __init__(self, loop: Loop, view: View) -> None:
        self._settings = loop.learner
        self._online = ActorCritic(loop, view)
        self._target = deepcopy(self._online)
        rate = self._settings.learning_rate
        valued = [*view.trained(), *self._online.critic.parameters()]
        self._critic_optimizer = Adam(valued, self._settings.critic_learning_rate or rate)
        self._actor_optimizer = Adam(self._online.actor.parameters(), rate)

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        state = self._online.view.state(batch.state_slots, batch.state_numbers)  # [B, Fs]
        q = self._online.value(state, batch.action)  # [B]
        target = bootstrapped(batch.reward, batch.terminated, self._settings.discount, self._next_value(batch))
        critic_loss = mean_squared_error(q, target)
        z = self._online.actor(state.detach())  # [B, A]
        value = self._online.value(state.detach(), torch.tanh(z))
        penalty = self._online.view.id_penalty(self._settings.id_penalty / num_examples)
        self._critic_optimizer.differentiate(critic_loss + penalty)
        self._actor_optimizer.differentiate(actor_loss(value, z, self._settings.action_penalty))
        self._critic_optimizer.step()
        self._actor_optimizer.step()
        self._follow()
        return {"agent_loss": critic_loss.item(), "q_mean": mean(q).item(), "policy_value": mean(value).item()}

    @torch.no_grad()
    def _next_value(self, batch: TransitionBatch) -> Tensor:
        """What the next decision is worth, [B]: the target critic's value of the target actor's action."""
        state = self._target.view.state(batch.next_state_slots, batch.next_state_numbers)
        return self._target.value(state, torch.tanh(self._target.actor(state)))

    @torch.no_grad()
    def act(self, probe: ProbeStates) -> NDArray[np.float32]:
        state = self._online.view.state(*probe.states())
        actions: NDArray[np.float32] = torch.tanh(self._online.actor(state)).numpy()  # [P, A]
        return actions

    def policy_tensors(self) -> dict[str, NDArray[np.float32]]:
        return export(self._online.view.merged(), self._online.actor)

    def _parts(self) -> dict[str, Kept]:
        return {
            "online": self._online,
            "target": self._target,
            "actor_optimizer": self._actor_optimizer,
            "critic_optimizer": self._critic_optimizer,
        }
