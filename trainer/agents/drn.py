"""Dueling Double DQN over candidate sets: Q(s, item) = V(s) + A(s, item), for `slate`."""

from torch import Tensor, nn

from schemas.loop_file import Loop
from trainer.agents.dqn import DqnAgent, QNetwork
from trainer.agents.view import View
from trainer.network_setup import start_at_zero
from trainer.networks import Mlp


class DuelingNetwork(QNetwork):
    """The head scores the advantage; V is constant within a decision, so a policy ranks without it."""

    def __init__(self, loop: Loop, view: View) -> None:
        super().__init__(loop, view)
        shape = loop.network
        self.value = Mlp(view.state_dim, shape.hidden, 1, layer_norm=shape.layer_norm)
        start_at_zero(self.value)

    def forward(self, state: tuple[Tensor, Tensor], items: tuple[Tensor, Tensor], mask: Tensor | None = None) -> Tensor:
        q: Tensor = super().forward(state, items, mask) + self.value(self.view.state(*state))
        return q

    def heads(self) -> list[nn.Parameter]:
        return [*super().heads(), *self.value.parameters()]


class DrnAgent(DqnAgent):
    """After DRN (Zheng et al., WWW 2018), without its user activeness and dueling bandit exploration. No mean of the
    advantages is taken off (arXiv 1511.06581, eq. 9): V and A are known up to a constant a state, which no rank needs.
    """

    def _network(self, loop: Loop, view: View) -> QNetwork:
        return DuelingNetwork(loop, view)
