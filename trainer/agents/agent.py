"""What an agent is: it learns from minibatches and yields policies. It does not know that stabilizers exist."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from schemas.loop_file import Loop
from schemas.sections import Learner
from trainer.agents.losses import polyak_update
from trainer.agents.view import View
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates
from trainer.replay.statistics import NumberStatistics
from trainer.state import OfParts


class Agent(Protocol):
    """An agent of one action kind."""

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        """One gradient step on the batch's reward, whatever it is. Returns figures by name: losses, mean values.

        Args:
            batch: B transitions.
            num_examples: impressions there are to learn from, N: a penalty of k/N weighs as much as k of them.
        """

    def act(self, probe: ProbeStates) -> NDArray[np.float32]:
        """What its policy computes: scores [P, C] for `slate` (anything where there is no candidate), actions [P, A]
        for `weights`.
        """

    def policy_tensors(self) -> dict[str, NDArray[np.float32]]:
        """The policy, by the names that `policies.networks` reads."""

    def rescale(self, statistics: NumberStatistics) -> None:
        """Sets the mean and the scale by which it normalises the numbers that data scale."""

    def state_dict(self) -> dict[str, Tensor]:
        """All that a checkpoint must keep; not copied."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state_dict` gave."""


class AgentFactory(Protocol):
    def __call__(self, loop: Loop, view: View) -> Agent:
        """A new agent that sees states and items through `view`, and trains no more of it than `view.trained()`."""


class Seeing(Protocol):
    """A module that sees states and items through a view."""

    view: View

    def parameters(self) -> Iterator[nn.Parameter]: ...


Network = TypeVar("Network", bound=Seeing)


class WithTarget(OfParts, Generic[Network]):
    """What agents have in common that bootstrap from a copy of their network, which follows it slowly."""

    _settings: Learner
    _online: Network
    _target: Network

    def rescale(self, statistics: NumberStatistics) -> None:
        """As `Agent.rescale`."""
        for network in (self._online, self._target):
            network.view.rescale(statistics)

    def _follow(self) -> None:
        """Moves the target towards the network, by `polyak`."""
        polyak_update(*self._followed, self._settings.polyak)

    @cached_property
    def _followed(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The target's parameters and the network's: finding them takes as long as moving them."""
        return [*self._target.parameters()], [*self._online.parameters()]
