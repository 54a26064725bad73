"""Double DQN with attention over history and candidates: Q(s, item, candidates), for `interaction = "attention"`."""

from torch import Tensor

from trainer.agents.dqn import DqnAgent
from trainer.replay.batch import TransitionBatch


class DqnAttAgent(DqnAgent):
    """Learns as `dqn` does; an impression's item is scored among the candidates that were left at its position."""

    def _chosen(self, batch: TransitionBatch) -> Tensor:
        state = batch.state_slots, batch.state_numbers
        candidates = batch.candidate_slots, batch.candidate_numbers
        q: Tensor = self._online(state, candidates, batch.candidate_mask)  # [B, C]
        return q.gather(1, batch.chosen.unsqueeze(1)).squeeze(1)
