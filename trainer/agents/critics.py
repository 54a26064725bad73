"""Twin critics, for `weights` and for `slate`, and the actor over them: what TD3 and SAC share.

A target takes the lower of two Qs that start apart (arXiv 1802.09477, section 4): the maximum of one Q that errs is too
high on average, and an actor finds it.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from schemas.loop_file import Loop
from schemas.sections import WeightsAction
from trainer.agents.view import View
from trainer.network_setup import start_at_zero
from trainer.networks import ActorHead, Mlp, export, slate_head
from trainer.replay.replay import ProbeStates


class ActionCritics(nn.Module):
    """Two Qs of action vectors."""

    def __init__(self, loop: Loop, state_dim: int) -> None:
        super().__init__()
        assert isinstance(loop.action, WeightsAction), "the loop file makes sure of it"
        shape, dim = loop.network, state_dim + loop.action.dim
        pair = [Mlp(dim, shape.hidden, 1, layer_norm=shape.layer_norm) for _ in range(2)]
        for critic in pair:
            start_at_zero(critic)
        self.pair = nn.ModuleList(pair)

    def forward(self, state_features: Tensor, action: Tensor) -> Tensor:
        """Both Qs [2, B] of actions [B, A] in states with features [B, Fs]."""
        seen = torch.cat([state_features, action], dim=1)
        return torch.stack([critic(seen).squeeze(1) for critic in self.pair])


class SlateCritics(nn.Module):
    """Two Qs of items."""

    def __init__(self, loop: Loop, view: View) -> None:
        super().__init__()
        pair = [slate_head(loop, view.state_dim, view.item_dim) for _ in range(2)]
        for critic in pair:
            start_at_zero(critic)
        self.pair = nn.ModuleList(pair)

    def forward(self, state_features: Tensor, item_features: Tensor) -> Tensor:
        """Both Qs [2, B, N] of items with features [B, N, Fi] in states with features [B, Fs]."""
        return torch.stack([critic(state_features, item_features) for critic in self.pair])


class ActorTwinCritics(nn.Module):
    """An actor and twin critics over one view of the state."""

    def __init__(self, loop: Loop, view: View) -> None:
        super().__init__()
        self.view = view
        self.actor = ActorHead(loop, view.state_dim)
        self.critics = ActionCritics(loop, view.state_dim)
        start_at_zero(self.actor.tower)

    @torch.no_grad()
    def act(self, probe: ProbeStates) -> NDArray[np.float32]:
        """The actions [P, A] that are served."""
        state = self.view.state(*probe.states())
        actions: NDArray[np.float32] = torch.tanh(self.actor(state)).numpy()
        return actions

    def policy_tensors(self) -> dict[str, NDArray[np.float32]]:
        return export(self.view.merged(), self.actor)
