"""SAC over candidate sets (arXiv 1910.07207): a softmax policy that is paid for its entropy, for `slate`."""

from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from schemas.loop_file import Loop
from schemas.sections import SoftmaxExploration
from trainer.adam import Adam
from trainer.agents.agent import WithTarget
from trainer.agents.critics import SlateCritics
from trainer.agents.losses import (
    bootstrapped,
    log_shares,
    mean_squared_error,
    slate_entropy,
    soft_slate_value,
)
from trainer.agents.temperature import Temperature
from trainer.agents.view import View
from trainer.network_setup import start_at_zero, tempered
from trainer.networks import export, slate_head
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates
from trainer.state import Kept

_TEMPERATURE_WITHOUT_SOFTMAX = 0.1  # the best of the candidates is the same whatever it is


class SlateActorCritics(nn.Module):
    """An actor, which gives the logits of its policy, and twin critics over one view."""

    def __init__(self, loop: Loop, view: View) -> None:
        super().__init__()
        self.view = view
        self.actor = slate_head(loop, view.state_dim, view.item_dim)
        self.critics = SlateCritics(loop, view)
        start_at_zero(self.actor)

    def features(self, state: tuple[Tensor, Tensor], items: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Features of states [B, Fs] and of items [B, N, Fi]."""
        return self.view.state(*state), self.view.items(*items)

    def log_policy(self, features: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """The logarithm of π [B, N]: see `log_shares`."""
        return log_shares(self.actor(*features), mask)


class SacDiscreteAgent(WithTarget[SlateActorCritics]):
    """Differences from the paper: candidate sets in place of a fixed set of actions; a target entropy that is a share
    of the greatest; embeddings of ids, which the critics' loss moves and the actor's does not. See
    docs/agents/sac-discrete.md
    """

    def __init__(self, loop: Loop, view: View) -> None:
        self._settings = loop.learner
        self._online = SlateActorCritics(loop, view)
        self._target = deepcopy(self._online)
        rate = self._settings.learning_rate
        valued = [*view.trained(), *self._online.critics.parameters()]
        self._critic_optimizer = Adam(valued, self._settings.critic_learning_rate or rate)
        self._actor_optimizer = Adam(self._online.actor.parameters(), rate)
        self._ranker_temperature = _temperature(loop)
        # The ranker's softmax(Q / temperature) is the best policy at this α.
        self._temperature = Temperature(self._ranker_temperature, rate)

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        figures = self._differentiate_critics(batch, num_examples)
        figures |= self._differentiate_actor(batch)
        for optimizer in (self._critic_optimizer, self._actor_optimizer, self._temperature):
            optimizer.step()
        self._follow()
        return figures

    def _differentiate_critics(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        items = batch.item_slots.unsqueeze(1), batch.item_numbers.unsqueeze(1)
        features = self._online.features((batch.state_slots, batch.state_numbers), items)
        q = self._online.critics(*features).squeeze(2)  # [2, B]
        target = bootstrapped(batch.reward, batch.terminated, self._settings.discount, self._next_value(batch))
        loss = mean_squared_error(q, target.expand_as(q))
        penalty = self._online.view.id_penalty(self._settings.id_penalty / num_examples)
        self._critic_optimizer.differentiate(loss + penalty)
        return {"agent_loss": loss.item(), "q_mean": q.mean().item()}

    def _differentiate_actor(self, batch: TransitionBatch) -> dict[str, float]:
        """The temperature's loss too, which wants the same policy."""
        state, mask = (batch.state_slots, batch.state_numbers), batch.candidate_mask
        with torch.no_grad():
            features = self._online.features(state, (batch.candidate_slots, batch.candidate_numbers))
            q = self._online.critics(*features).amin(dim=0)  # [B, C]
        logs, alpha = self._online.log_policy(features, mask), self._temperature.value
        value = soft_slate_value(q, logs, mask, alpha).mean()
        entropy, largest = slate_entropy(logs, mask), mask.sum(dim=1).clamp(min=1).log()  # [B]
        self._actor_optimizer.differentiate(-value)
        self._temperature.differentiate(entropy, self._settings.entropy_share * largest)
        mean_entropy = entropy.mean().item()
        return {"policy_value": value.item(), "entropy": mean_entropy, "entropy_temperature": alpha.item()}

    @torch.no_grad()
    def _next_value(self, batch: TransitionBatch) -> Tensor:
        """What the next decision is worth, [B]: the lower target critic's value of the policy, and its entropy."""
        columns = int(batch.next_mask.any(dim=0).sum())  # what is right of them is padding, and costs as much
        mask = batch.next_mask[:, :columns]
        state = batch.next_state_slots, batch.next_state_numbers
        items = batch.next_item_slots[:, :columns], batch.next_item_numbers[:, :columns]
        logs = self._online.log_policy(self._online.features(state, items), mask)
        q = self._target.critics(*self._target.features(state, items)).amin(dim=0)  # [B, C]
        return soft_slate_value(q, logs, mask, self._temperature.value)

    @torch.no_grad()
    def act(self, probe: ProbeStates) -> NDArray[np.float32]:
        state = probe.states()
        items = probe.items()
        logits = self._online.actor(*self._online.features(state, items))
        scores: NDArray[np.float32] = (logits * self._ranker_temperature).numpy()  # [P, C]
        return scores

    def policy_tensors(self) -> dict[str, NDArray[np.float32]]:
        """Of logits times the temperature that the ranker divides by. An actor that gave these itself would move its
        logits by as much more a step, and at a low temperature soon be certain for good.
        """
        return export(self._online.view.merged(), tempered(self._online.actor, self._ranker_temperature))

    def _parts(self) -> dict[str, Kept]:
        return {
            "online": self._online,
            "target": self._target,
            "actor_optimizer": self._actor_optimizer,
            "critic_optimizer": self._critic_optimizer,
            "temperature": self._temperature,
        }


def _temperature(loop: Loop) -> float:
    """By which the ranker divides scores."""
    explores = loop.exploration
    return explores.temperature if isinstance(explores, SoftmaxExploration) else _TEMPERATURE_WITHOUT_SOFTMAX
