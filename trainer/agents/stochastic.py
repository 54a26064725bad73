"""The policies that policy gradient agents learn, as the ranker acts them, exploration included; and their values."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from schemas.loop_file import Loop
from schemas.sections import GaussianExploration, SoftmaxExploration
from trainer.agents.losses import log_shares, slate_entropy
from trainer.agents.policy_losses import noise_log_density, slate_log_prob
from trainer.agents.view import View
from trainer.network_setup import start_at_zero, tempered
from trainer.networks import ActorHead, Mlp, SlateHead, export, slate_head
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates


@dataclass(frozen=True, slots=True)
class Judged:
    """What a policy says of the actions of a batch."""

    log_prob: Tensor  # [B] log π(a | s), for `weights` a density
    log_ratio: Tensor  # [B] log of π(a | s) over the logged propensity
    cost: Tensor  # [] what is added to the loss so that the policy goes on exploring
    value: Tensor  # [B] V(s)


class StochasticPolicy(nn.Module, ABC):
    """A policy and the value V(s) of its states. Both losses move the embeddings."""

    head: SlateHead | ActorHead

    def __init__(self, loop: Loop, view: View) -> None:
        super().__init__()
        shape = loop.network
        self.view = view
        self.critic = Mlp(view.state_dim, shape.hidden, 1, layer_norm=shape.layer_norm)
        start_at_zero(self.critic)
        self._settings = loop.learner

    def value(self, state_slots: Tensor, state_numbers: Tensor) -> Tensor:
        """V [B] of states with slots [B, S] and numbers [B, G]."""
        return self._valued(self.view.state(state_slots, state_numbers))

    def head_parameters(self) -> list[nn.Parameter]:
        """All parameters but those of the view."""
        return [*self.head.parameters(), *self.critic.parameters()]

    @abstractmethod
    def judge(self, batch: TransitionBatch) -> Judged: ...

    @abstractmethod
    def act(self, probe: ProbeStates) -> NDArray[np.float32]:
        """As `Agent.act`."""

    @abstractmethod
    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """As `Agent.policy_tensors`."""

    def _valued(self, features: Tensor) -> Tensor:
        value: Tensor = self.critic(features).squeeze(1)
        return value


class SlateActor(StochasticPolicy):
    """The head gives logits, which learn alike at any temperature; the policy's scores are temperature · logits, so
    that the ranker, which divides by it, draws by the softmax of the logits.
    """

    def __init__(self, loop: Loop, view: View) -> None:
        super().__init__(loop, view)
        assert isinstance(loop.exploration, SoftmaxExploration), "the loop file makes sure of it"
        self._exploration = loop.exploration
        self.head: SlateHead = slate_head(loop, view.state_dim, view.item_dim)
        start_at_zero(self.head)

    def judge(self, batch: TransitionBatch) -> Judged:
        state, mask = self.view.state(batch.state_slots, batch.state_numbers), batch.candidate_mask
        logits = self.head(state, self.view.items(batch.candidate_slots, batch.candidate_numbers), mask)  # [B, C]
        log_prob = slate_log_prob(logits, mask, batch.chosen, self._exploration.epsilon)
        cost = -self._settings.entropy_weight * slate_entropy(log_shares(logits, mask), mask).mean()
        return Judged(log_prob, log_prob - batch.propensity.log(), cost, self._valued(state))

    @torch.no_grad()
    def act(self, probe: ProbeStates) -> NDArray[np.float32]:
        state = self.view.state(*probe.states())
        items = self.view.items(*probe.items())
        scores: Tensor = self.head(state, items, torch.from_numpy(probe.mask)) * self._exploration.temperature
        return scores.numpy()  # [P, C]

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        return export(self.view.merged(), tempered(self.head, self._exploration.temperature))


class WeightsActor(StochasticPolicy):
    """The mean action is tanh(z), and the noise the ranker's."""

    def __init__(self, loop: Loop, view: View) -> None:
        super().__init__(loop, view)
        assert isinstance(loop.exploration, GaussianExploration), "the loop file makes sure of it"
        self._exploration = loop.exploration
        self.head: ActorHead = ActorHead(loop, view.state_dim)
        start_at_zero(self.head.tower)

    def judge(self, batch: TransitionBatch) -> Judged:
        state = self.view.state(batch.state_slots, batch.state_numbers)
        z = self.head(state)  # [B, A]
        log_prob = noise_log_density(batch.action, torch.tanh(z), self._exploration).float()
        cost = self._settings.action_penalty * z.square().mean()
        return Judged(log_prob, log_prob - batch.log_density, cost, self._valued(state))

    @torch.no_grad()
    def act(self, probe: ProbeStates) -> NDArray[np.float32]:
        state = self.view.state(*probe.states())
        actions: NDArray[np.float32] = torch.tanh(self.head(state)).numpy()  # [P, A]
        return actions

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        return export(self.view.merged(), self.head)


def stochastic_policy(loop: Loop, view: View) -> StochasticPolicy:
    """The policy of the loop's kind of action, which prefers nothing at first."""
    return (SlateActor if loop.action.kind == "slate" else WeightsActor)(loop, view)
