"""Double DQN over candidate sets: Q(s, item), for `slate`."""

from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from schemas.loop_file import Loop
from trainer.adam import Adam
from trainer.agents.agent import WithTarget
from trainer.agents.losses import bootstrapped, mean, mean_squared_error, slate_value
from trainer.agents.view import View
from trainer.network_setup import start_at_zero
from trainer.networks import export, slate_head
from trainer.replay.batch import TransitionBatch
from trainer.replay.replay import ProbeStates
from trainer.state import Kept


class QNetwork(nn.Module):
    """Q of items in states."""

    def __init__(self, loop: Loop, view: View) -> None:
        super().__init__()
        self.view = view
        self.head = slate_head(loop, view.state_dim, view.item_dim)
        start_at_zero(self.head)

    def forward(self, state: tuple[Tensor, Tensor], items: tuple[Tensor, Tensor], mask: Tensor | None = None) -> Tensor:
        """Q [B, N] of items (slots [B, N, Si], numbers [B, N, Gi]; there where mask [B, N]) in states (slots [B, S],
        numbers [B, G]).
        """
        return self.policy_scores(state, items, mask)

    def policy_scores(self, state: tuple[Tensor, Tensor], items: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """What the policy's tensors compute [B, N]: Q, or what ranks as it does."""
        history = self.view.history(state[0])
        scores: Tensor = self.head(self.view.state(*state), self.view.items(*items), mask, history)
        return scores

    def heads(self) -> list[nn.Parameter]:
        """All parameters but those of the view."""
        return [*self.head.parameters()]


class DqnAgent(WithTarget[QNetwork]):
    """Differences from the paper (arXiv 1509.06461): candidate sets in place of a fixed set of actions, slates
    (`slate_value`), Polyak averaging in place of copies, squared error, an L2 penalty of k/N on id embeddings.
    """

    def __init__(self, loop: Loop, view: View) -> None:
        self._settings = loop.learner
        self._online = self._network(loop, view)
        self._target = deepcopy(self._online)
        trained = [*view.trained(), *self._online.heads()]
        self._optimizer = Adam(trained, self._settings.learning_rate)

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        q = self._chosen(batch)  # [B]
        target = bootstrapped(batch.reward, batch.terminated, self._settings.discount, self._next_value(batch))
        loss = mean_squared_error(q, target)
        penalty = self._online.view.id_penalty(self._settings.id_penalty / num_examples)
        self._optimizer.differentiate(loss + penalty)
        self._optimizer.step()
        self._follow()
        return {"agent_loss": loss.item(), "q_mean": mean(q).item()}

    def _network(self, loop: Loop, view: View) -> QNetwork:
        return QNetwork(loop, view)

    def _chosen(self, batch: TransitionBatch) -> Tensor:
        """Q of the impressions' items, [B]."""
        state = batch.state_slots, batch.state_numbers
        items = batch.item_slots.unsqueeze(1), batch.item_numbers.unsqueeze(1)
        q: Tensor = self._online(state, items).squeeze(1)
        return q

    @torch.no_grad()
    def _next_value(self, batch: TransitionBatch) -> Tensor:
        """What the next decision is worth, [B]."""
        columns = int(batch.next_mask.any(dim=0).sum())  # what is right of them is padding, and costs as much
        mask = batch.next_mask[:, :columns]
        state = batch.next_state_slots, batch.next_state_numbers
        items = batch.next_item_slots[:, :columns], batch.next_item_numbers[:, :columns]
        return slate_value(self._online(state, items, mask), self._target(state, items, mask), mask, batch.next_size)

    @torch.no_grad()
    def act(self, probe: ProbeStates) -> NDArray[np.float32]:
        state = probe.states()
        items = probe.items()
        scores: NDArray[np.float32] = self._online.policy_scores(
            state, items, torch.from_numpy(probe.mask)
        ).numpy()  # [P, C]
        return scores

    def policy_tensors(self) -> dict[str, NDArray[np.float32]]:
        return export(self._online.view.merged(), self._online.head)

    def _parts(self) -> dict[str, Kept]:
        return {"online": self._online, "target": self._target, "optimizer": self._optimizer}
