"""An actor-critic over candidate sets with attention over history and candidates, for `interaction = "attention"`."""

from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from schemas.loop_file import Loop
from trainer.adam import Adam
from trainer.agents.agent import WithTarget
from trainer.agents.losses import bootstrapped, expected_value, mean_squared_error
from trainer.agents.view import View
from trainer.network_setup import start_at_zero
from trainer.networks import JointHead, SlateHead, export, slate_head
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates
from trainer.state import Kept


class ActorCritic(nn.Module):
    """The actor's scores and the critic's Q of candidates, [B, C] each."""

    def __init__(self, loop: Loop, view: View) -> None:
        super().__init__()
        self.view = view
        self.actor: SlateHead = slate_head(loop, view.state_dim, view.item_dim)
        self.critic = JointHead(loop, view.state_dim, view.item_dim, attends=True)
        start_at_zero(self.actor)
        start_at_zero(self.critic)

    def forward(
        self, state: tuple[Tensor, Tensor], items: tuple[Tensor, Tensor], mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores and Q [B, C]. The actor reads the features without moving them: the critic's loss teaches them."""
        s, i = self.view.state(*state), self.view.items(*items)
        history = self.view.history(state[0])
        still = None if history is None else (history[0].detach(), history[1])
        return self.actor(s.detach(), i.detach(), mask, still), self.critic(s, i, mask, history)


class DrrAttAgent(WithTarget[ActorCritic]):
    """After DRR (arXiv 1810.12027). Differences: the actor scores the candidates and acts by the softmax of the scores,
    in place of a vector by whose product items rank; the value of a decision is the critic's mean under that softmax.
    """

    def __init__(self, loop: Loop, view: View) -> None:
        self._settings = loop.learner
        self._online = ActorCritic(loop, view)
        self._target = deepcopy(self._online)
        trained = [*view.trained(), *self._online.actor.parameters(), *self._online.critic.parameters()]
        self._optimizer = Adam(trained, self._settings.learning_rate)

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        state, mask = (batch.state_slots, batch.state_numbers), batch.candidate_mask
        scores, values = self._online(state, (batch.candidate_slots, batch.candidate_numbers), mask)
        q = values.gather(1, batch.chosen.unsqueeze(1)).squeeze(1)  # [B]
        target = bootstrapped(batch.reward, batch.terminated, self._settings.discount, self._next_value(batch))
        critic = mean_squared_error(q, target)
        gain = expected_value(scores, values.detach(), mask).mean()
        penalty = self._settings.action_penalty * scores.masked_fill(~mask, 0.0).square().mean()
        id_penalty = self._online.view.id_penalty(self._settings.id_penalty / num_examples)
        self._optimizer.differentiate(critic - gain + penalty + id_penalty)
        self._optimizer.step()
        self._follow()
        return {"agent_loss": critic.item(), "q_mean": q.mean().item()}

    @torch.no_grad()
    def _next_value(self, batch: TransitionBatch) -> Tensor:
        """The target critic's mean under the target actor, [B]; 0 without candidates."""
        state = batch.next_state_slots, batch.next_state_numbers
        items = batch.next_item_slots, batch.next_item_numbers
        scores, values = self._target(state, items, batch.next_mask)
        return expected_value(scores, values, batch.next_mask)

    @torch.no_grad()
    def act(self, probe: ProbeStates) -> NDArray[np.float32]:
        state = probe.states()
        items = probe.items()
        scores: NDArray[np.float32] = self._online(state, items, torch.from_numpy(probe.mask))[0].numpy()  # [P, C]
        return scores

    def policy_tensors(self) -> dict[str, NDArray[np.float32]]:
        return export(self._online.view.merged(), self._online.actor)

    def _parts(self) -> dict[str, Kept]:
        return {"online": self._online, "target": self._target, "optimizer": self._optimizer}
