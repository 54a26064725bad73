"""TD3 (arXiv 1802.09477): DDPG with twin critics, a delayed actor and smoothed targets, for `weights`."""

from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.loop_file import Loop
from trainer.adam import Adam
from trainer.agents.agent import WithTarget
from trainer.agents.critics import ActorTwinCritics
from trainer.agents.losses import actor_loss, bootstrapped, mean, mean_squared_error, smoothed_action
from trainer.agents.view import View
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates
from trainer.state import Kept


class CountedActorCritics(ActorTwinCritics):
    """Knows how often it was updated, for the actor's delay."""

    num_updates: Tensor

    def __init__(self, loop: Loop, view: View) -> None:
        super().__init__(loop, view)
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))


class Td3Agent(WithTarget[CountedActorCritics]):
    """Differences from the paper: an L2 penalty on the actor's pre-tanh output; embeddings of ids, which the critics'
    loss moves and the actor's does not; the noise is the ranker's. docs/agents/td3.md
    """

    def __init__(self, loop: Loop, view: View) -> None:
        self._settings = loop.learner
        self._online = CountedActorCritics(loop, view)
        self._target = deepcopy(self._online)
        rate = self._settings.learning_rate
        valued = [*view.trained(), *self._online.critics.parameters()]
        self._critic_optimizer = Adam(valued, self._settings.critic_learning_rate or rate)
        self._actor_optimizer = Adam(self._online.actor.parameters(), rate)

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        self._online.num_updates += 1
        moves_actor = self._online.num_updates.item() % self._settings.actor_delay == 0
        state = self._online.view.state(batch.state_slots, batch.state_numbers)  # [B, Fs]
        figures = self._differentiate_critics(state, batch, num_examples)
        if moves_actor:
            figures |= self._differentiate_actor(state.detach())
        self._critic_optimizer.step()
        if moves_actor:
            self._actor_optimizer.step()
            self._follow()
        return figures

    def _differentiate_critics(self, state: Tensor, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        q = self._online.critics(state, batch.action)  # [2, B]
        target = bootstrapped(batch.reward, batch.terminated, self._settings.discount, self._next_value(batch))
        loss = mean_squared_error(q, target.expand_as(q))
        penalty = self._online.view.id_penalty(self._settings.id_penalty / num_examples)
        self._critic_optimizer.differentiate(loss + penalty)
        return {"agent_loss": loss.item(), "q_mean": mean(q).item()}

    def _differentiate_actor(self, state: Tensor) -> dict[str, float]:
        z = self._online.actor(state)  # [B, A]
        value = self._online.critics(state, torch.tanh(z))[0]  # of the first critic alone, as in the paper
        self._actor_optimizer.differentiate(actor_loss(value, z, self._settings.action_penalty))
        return {"policy_value": mean(value).item()}

    @torch.no_grad()
    def _next_value(self, batch: TransitionBatch) -> Tensor:
        """What the next decision is worth, [B]: the lower target critic's value near the target actor's action."""
        state = self._target.view.state(batch.next_state_slots, batch.next_state_numbers)
        action = torch.tanh(self._target.actor(state))
        near = smoothed_action(action, torch.randn_like(action), self._settings.smoothing_sd)
        value: Tensor = self._target.critics(state, near).amin(dim=0)
        return value

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
        }
