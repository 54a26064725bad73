"""The buffer's arrays: one row a decision."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.loop_file import Loop


@dataclass(frozen=True, slots=True)
class RowShape:
    """How wide a row is."""

    num_state_slots: int  # S
    num_state_numbers: int  # G
    num_positions: int  # K: impressions a decision; 1 for `weights`
    num_candidates: int  # C: 0 for `weights`
    action_dim: int  # A: 0 for `slate`

    @classmethod
    def of(cls, loop: Loop, num_state_slots: int, num_state_numbers: int) -> "RowShape":
        if loop.action.kind == "weights":
            return cls(num_state_slots, num_state_numbers, 1, 0, loop.action.dim)
        num_candidates = max(loop.learner.max_candidates, loop.action.size)
        return cls(num_state_slots, num_state_numbers, loop.action.size, num_candidates, 0)


@dataclass(slots=True)
class Columns:
    """N rows. What a row holds before it is written has no meaning, and takes no memory: pages of zeros are made when
    they are first written to.
    """

    decided_at: NDArray[np.float64]  # [N]
    final_at: NDArray[np.float64]  # [N]
    state_slots: NDArray[np.int32]  # [N, S]
    state_numbers: NDArray[np.float32]  # [N, G]
    slate: NDArray[np.int32]  # [N, K] rows of the item table
    rewards: NDArray[np.float32]  # [N, K], nan where there is no impression
    propensities: NDArray[np.float32]  # [N, K], nan where unknown; 1 for `weights` with a log density
    candidates: NDArray[np.int32]  # [N, C] rows of the item table
    action: NDArray[np.float32]  # [N, A]
    log_density: NDArray[np.float32]  # [N]
    next_row: NDArray[np.int32]  # [N], `NO_ROW` where there is none
    terminated: NDArray[np.bool_]  # [N]
    was_sampled: NDArray[np.bool_]  # [N, K] by the agent
    is_newly_trained: NDArray[np.bool_]  # [N] sampled for the first time, and not reported yet

    @classmethod
    def empty(cls, shape: RowShape, num: int) -> "Columns":
        k = shape.num_positions
        return cls(
            decided_at=np.zeros(num),
            final_at=np.zeros(num),
            state_slots=np.zeros((num, shape.num_state_slots), np.int32),
            state_numbers=np.zeros((num, shape.num_state_numbers), np.float32),
            slate=np.zeros((num, k), np.int32),
            rewards=np.zeros((num, k), np.float32),
            propensities=np.zeros((num, k), np.float32),
            candidates=np.zeros((num, shape.num_candidates), np.int32),
            action=np.zeros((num, shape.action_dim), np.float32),
            log_density=np.zeros(num, np.float32),
            next_row=np.zeros(num, np.int32),
            terminated=np.zeros(num, np.bool_),
            was_sampled=np.zeros((num, k), np.bool_),
            is_newly_trained=np.zeros(num, np.bool_),
        )
