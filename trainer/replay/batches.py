"""Impressions of the buffer → tensors. Gathers only, no Python a row: this runs at every update."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.replay.batch import TransitionBatch
from trainer.replay.columns import Columns
from trainer.replay.item_table import PADDING, ItemTable
from trainer.replay.sessions import NO_ROW


def reward_batch(
    columns: Columns, items: ItemTable, rows: NDArray[np.int64], positions: NDArray[np.int64]
) -> TransitionBatch:
    """Impressions (rows [B], positions [B]) without what came next: `next_*` are zero, `terminated` is True."""
    return TransitionBatch(**_shown(columns, items, rows, positions), **_nothing_after(columns, items, len(rows)))


def transition_batch(
    columns: Columns, items: ItemTable, rows: NDArray[np.int64], positions: NDArray[np.int64]
) -> TransitionBatch:
    """The same with what came next; each of `rows` is terminated or has a next row."""
    return TransitionBatch(**_shown(columns, items, rows, positions), **_what_followed(columns, items, rows))


def with_candidates(batch: TransitionBatch, columns: Columns, items: ItemTable) -> TransitionBatch:
    """The same with the candidates of its decisions; what was shown is among them."""
    rows, positions = batch.rows, batch.positions
    candidates, slate = columns.candidates[rows], columns.slate[rows]  # [B, C], [B, K]
    above = np.arange(slate.shape[1]) < positions[:, None]  # [B, K]
    is_above = ((candidates[:, :, None] == slate[:, None, :]) & above[:, None, :]).any(axis=2)  # [B, C]
    shown = np.take_along_axis(slate, positions[:, None], axis=1)
    return replace(
        batch,
        candidate_slots=_wide(items.slots[candidates]),
        candidate_numbers=torch.from_numpy(items.numbers[candidates]),
        candidate_mask=torch.from_numpy((candidates != PADDING) & ~is_above),
        chosen=torch.from_numpy((candidates == shown).argmax(axis=1)),
    )


def _shown(columns: Columns, items: ItemTable, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> dict[str, Any]:
    """The fields of a batch that are of the impressions themselves, without the candidates."""
    num, shown = len(rows), columns.slate[rows, positions]
    return {
        "rows": rows,
        "positions": positions,
        "state_slots": _wide(columns.state_slots[rows]),
        "state_numbers": torch.from_numpy(columns.state_numbers[rows]),
        "item_slots": _wide(items.slots[shown]),
        "item_numbers": torch.from_numpy(items.numbers[shown]),
        "action": torch.from_numpy(columns.action[rows]),
        "reward": torch.from_numpy(columns.rewards[rows, positions]),
        "propensity": torch.from_numpy(columns.propensities[rows, positions]),
        "log_density": torch.from_numpy(columns.log_density[rows]),
        "candidate_slots": torch.zeros(num, 0, items.slots.shape[1], dtype=torch.int64),
        "candidate_numbers": torch.zeros(num, 0, items.numbers.shape[1]),
        "candidate_mask": torch.zeros(num, 0, dtype=torch.bool),
        "chosen": torch.zeros(num, dtype=torch.int64),
    }


def _nothing_after(columns: Columns, items: ItemTable, num: int) -> dict[str, Any]:
    """The fields of what came next, for `num` impressions of which it does not matter."""
    num_candidates = columns.candidates.shape[1]
    return {
        "next_state_slots": torch.zeros(num, columns.state_slots.shape[1], dtype=torch.int64),
        "next_state_numbers": torch.zeros(num, columns.state_numbers.shape[1]),
        "next_item_slots": torch.zeros(num, num_candidates, items.slots.shape[1], dtype=torch.int64),
        "next_item_numbers": torch.zeros(num, num_candidates, items.numbers.shape[1]),
        "next_mask": torch.zeros(num, num_candidates, dtype=torch.bool),
        "next_size": torch.ones(num, dtype=torch.int64),
        "next_rows": np.full(num, NO_ROW),
        "terminated": torch.ones(num, dtype=torch.bool),
    }


def _what_followed(columns: Columns, items: ItemTable, rows: NDArray[np.int64]) -> dict[str, Any]:
    """The same fields, of rows that are terminated or have a next row."""
    terminated = columns.terminated[rows]
    next_rows = np.where(terminated, NO_ROW, columns.next_row[rows]).astype(np.int64)
    following = np.where(terminated, 0, next_rows)
    state_slots, state_numbers = columns.state_slots[following], columns.state_numbers[following]
    candidates = columns.candidates[following]
    size = np.count_nonzero(~np.isnan(columns.rewards[following]), axis=1)
    for gathered in (state_slots, state_numbers, candidates, size):
        gathered[terminated] = 0
    return {
        "next_state_slots": _wide(state_slots),
        "next_state_numbers": torch.from_numpy(state_numbers),
        "next_item_slots": _wide(items.slots[candidates]),
        "next_item_numbers": torch.from_numpy(items.numbers[candidates]),
        "next_mask": torch.from_numpy(candidates != PADDING),
        "next_size": torch.from_numpy(np.maximum(size, 1)),
        "next_rows": next_rows,
        "terminated": torch.from_numpy(terminated),
    }


def _wide(indices: NDArray[np.int32]) -> Tensor:
    return torch.from_numpy(indices.astype(np.int64))
