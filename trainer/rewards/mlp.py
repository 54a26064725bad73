"""A reward model of the policy's own shape: two towers for `slate`, one network of state and action for `weights`."""

from collections.abc import Mapping

import torch
from torch import Tensor

from schemas.loop_file import Loop, WeightsAction
from trainer.adam import Adam
from trainer.network_setup import rescale, start_at_zero
from trainer.networks import Embeddings, Mlp, SlateHead
from trainer.replay.batch import TransitionBatch
from trainer.replay.statistics import NumberStatistics
from trainer.rewards.reward_range import RewardRange
from trainer.state import Kept, gather, scatter

_PENALTY_SHARE = 2.0
"""Its L2 penalty on id embeddings is twice the agent's `id_penalty`: the best pair of the prototypes in `shop`."""


class MlpEstimator:
    """E[r | s, a] by cross-entropy over the observed range of rewards."""

    def __init__(self, loop: Loop) -> None:
        self._settings = loop.learner
        self.embeddings = Embeddings(loop)
        self._head = _head(loop, self.embeddings)
        start_at_zero(self._head)
        self._range = RewardRange()
        trained = [*self.embeddings.parameters(), *self._head.parameters()]
        self._optimizer = Adam(trained, self._settings.estimator_learning_rate)

    @torch.no_grad()
    def predict(self, batch: TransitionBatch) -> Tensor:
        return self._range.estimate(self._logits(batch))

    def update(self, batch: TransitionBatch, num_examples: int) -> dict[str, float]:
        if batch.stabilized:
            raise ValueError("an estimator is fitted to raw rewards, and this batch's are stabilized")
        self._range.observe(batch.reward)
        if not self._range.is_open:
            return {}
        loss = self._range.loss(self._logits(batch), batch.reward)
        weight = _PENALTY_SHARE * self._settings.id_penalty / num_examples
        self._optimizer.differentiate(loss + weight * self.embeddings.id_penalty())
        self._optimizer.step()
        return {"estimator_loss": loss.item()}

    def _logits(self, batch: TransitionBatch) -> Tensor:
        state = self.embeddings.state(batch.state_slots, batch.state_numbers)  # [B, Fs]
        if isinstance(self._head, SlateHead):
            item = self.embeddings.items(batch.item_slots, batch.item_numbers)  # [B, Fi]
            logits: Tensor = self._head(state, item.unsqueeze(1))  # [B, 1]
        else:
            logits = self._head(torch.cat([state, batch.action], dim=1))  # [B, 1]
        return logits.squeeze(1)

    def rescale(self, statistics: NumberStatistics) -> None:
        rescale(self.embeddings, statistics)

    def state_dict(self) -> dict[str, Tensor]:
        return gather(**self._parts())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        scatter(state, **self._parts())

    def _parts(self) -> dict[str, Kept]:
        return {
            "embeddings": self.embeddings,
            "head": self._head,
            "range": self._range,
            "optimizer": self._optimizer,
        }


def _head(loop: Loop, embeddings: Embeddings) -> SlateHead | Mlp:
    if isinstance(loop.action, WeightsAction):
        shape = loop.network
        return Mlp(embeddings.state_dim + loop.action.dim, shape.hidden, 1, layer_norm=shape.layer_norm)
    return SlateHead(loop, embeddings.state_dim, embeddings.item_dim)
