"""One sampled minibatch: what every agent and estimator learns from (DESIGN §7)."""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TransitionBatch:
    """B impressions (for `weights`: B decisions), each with its raw reward and what came after it.

    `S`, `G`: slots and numbers of an encoded state; `Si`, `Gi`: of an encoded item; `C`: candidates kept (padded).
    For `weights` the item tensors have zero columns; for `slate` the action has zero columns.
    """

    rows: NDArray[np.int64]  # [B] where they lie in the buffer
    positions: NDArray[np.int64]  # [B] in the slate
    state_slots: Tensor  # [B, S] int64
    state_numbers: Tensor  # [B, G] float32
    item_slots: Tensor  # [B, Si] int64, of the impression's item
    item_numbers: Tensor  # [B, Gi] float32
    action: Tensor  # [B, A] float32, the vector that was played
    reward: Tensor  # [B] float32: raw, or stabilized where `stabilized` says so
    propensity: Tensor  # [B] float32; for `weights` exp(log_density) would overflow: see log_density
    log_density: Tensor  # [B] float32; zero for `slate`
    next_state_slots: Tensor  # [B, S]
    next_state_numbers: Tensor  # [B, G]
    next_item_slots: Tensor  # [B, C, Si], the candidates of the next decision
    next_item_numbers: Tensor  # [B, C, Gi]
    next_mask: Tensor  # [B, C] bool, True where there is a candidate
    next_size: Tensor  # [B] int64, impressions of the next decision; at least 1
    next_rows: NDArray[np.int64]  # [B] where the next decision lies in the buffer; NO_ROW where terminated
    terminated: Tensor  # [B] bool; True: nothing comes after. False: the next state is there
    candidate_slots: Tensor  # [B, C, Si], the candidates of this decision; C = 0 unless the agent needs them
    candidate_numbers: Tensor  # [B, C, Gi]
    candidate_mask: Tensor  # [B, C] bool, True where a candidate was left: those above the position are not
    chosen: Tensor  # [B] int64, the column of the impression's item among the candidates; 0 without
    stabilized: bool = False

    def at(self, index: NDArray[np.int64]) -> "TransitionBatch":
        """A new batch of the impressions at `index`, which may repeat."""
        columns = {name: getattr(self, name) for name in (each.name for each in fields(self)) if name != "stabilized"}
        return replace(self, **{name: column[index] for name, column in columns.items()})

    def with_reward(self, reward: Tensor) -> "TransitionBatch":
        """A new batch whose reward is `reward` [B], marked as stabilized; doing it twice is an error (DESIGN §7.1)."""
        if self.stabilized:
            raise ValueError("this batch's reward is stabilized already; a stabilizer replaces raw rewards only")
        return replace(self, reward=reward.detach(), stabilized=True)
