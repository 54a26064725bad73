"""Embedding tables in torch, and what networks read of states and items; `policies.embeddings` is the same in numpy."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from policies.features import ITEM_ID_TABLE, Layout, network_layouts
from schemas.loop_file import Loop
from trainer.attention import History

_EMBEDDING_SD = 0.05
_MIN_PENALIZED_CARDINALITY = 100  # smaller tables see every row often enough


class Embeddings(nn.Module):
    """All embedding tables of states and items, and the scales of their numbers.

    The buffers `state_mean`, `state_scale` [G] and `item_mean`, `item_scale` [Gi] are 0 and 1 until they are filled
    in; the scales must be positive. For the action kind `weights` an item has no slots and no numbers.
    """

    state_mean: Tensor
    state_scale: Tensor
    item_mean: Tensor
    item_scale: Tensor
    _state_offsets: Tensor
    _item_offsets: Tensor

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self.state_layout, self.item_layout = network_layouts(loop)
        cardinality = {t.name: t.cardinality for t in (*self.state_layout.tables, *self.item_layout.tables)}
        dim = loop.network.embedding_dim
        self.table_names = tuple(cardinality)
        self._sizes = list(cardinality.values())
        # All tables in one matrix, so that all slots of a state are one look-up.
        self.rows = nn.Parameter(torch.randn(sum(self._sizes), dim) * _EMBEDDING_SD)
        starts = dict(zip(cardinality, np.cumsum([0, *self._sizes]).tolist(), strict=False))
        for part, layout in (("state", self.state_layout), ("item", self.item_layout)):
            self.register_buffer(f"{part}_mean", torch.zeros(layout.num_numbers))
            self.register_buffer(f"{part}_scale", torch.ones(layout.num_numbers))
            offsets = [starts[t.name] for t in layout.tables for _ in range(t.slots.start, t.slots.stop)]
            self.register_buffer(f"_{part}_offsets", torch.tensor(offsets, dtype=torch.int64), persistent=False)
        is_attended = loop.network.interaction == "attention"
        self._histories = [t.slots for t in self.state_layout.tables if is_attended and t.name == ITEM_ID_TABLE]
        self.state_dim = len(self.state_layout.tables) * dim + self.state_layout.num_numbers
        self.item_dim = len(self.item_layout.tables) * dim + self.item_layout.num_numbers

    @property
    def tables(self) -> tuple[Tensor, ...]:
        """The rows [n, d] of each table, in the order of `table_names`: views, to be written to without gradients."""
        return torch.split(self.rows, self._sizes)

    def state(self, slots: Tensor, numbers: Tensor) -> Tensor:
        """Features [B, Fs] of states with slots [B, S] and numbers [B, G]."""
        scaled = (numbers - self.state_mean) / self.state_scale
        return torch.cat([self._embedded(self.state_layout, slots, self._state_offsets), scaled], dim=-1)

    def items(self, slots: Tensor, numbers: Tensor) -> Tensor:
        """Features [..., Fi] of items with slots [..., Si] and numbers [..., Gi]."""
        scaled = (numbers - self.item_mean) / self.item_scale
        return torch.cat([self._embedded(self.item_layout, slots, self._item_offsets), scaled], dim=-1)

    def history(self, slots: Tensor) -> History | None:
        """What candidates attend to in states with slots [B, S]; None where there is nothing, or nobody does."""
        if not self._histories:
            return None
        of_items = torch.cat([slots[:, history] for history in self._histories], dim=1)  # [B, L]
        is_there = of_items != 0
        return self.rows_of(ITEM_ID_TABLE, of_items) * is_there.unsqueeze(2), is_there

    def rows_of(self, table_name: str, slots: Tensor) -> Tensor:
        """The rows [..., d] of one table at slots [...], not pooled."""
        return functional.embedding(slots, self.tables[self.table_names.index(table_name)])

    def id_penalty(self) -> Tensor:
        """The sum of squares of the tables of 100 rows or more: ids, of which each is seen seldom."""
        if max(self._sizes, default=0) < _MIN_PENALIZED_CARDINALITY:
            return torch.zeros(())
        large = [table.square().sum() for table in self.tables if table.shape[0] >= _MIN_PENALIZED_CARDINALITY]
        return torch.stack(large).sum()

    def _embedded(self, layout: Layout, slots: Tensor, offsets: Tensor) -> Tensor:
        """[..., T · d]: a vector a table of the layout."""
        rows = functional.embedding(slots + offsets, self.rows)  # [..., S, d]
        if any(table.pooled for table in layout.tables):
            means = [
                _masked_mean(rows[..., table.slots, :], slots[..., table.slots] != 0)
                if table.pooled
                else rows[..., table.slots.start, :]
                for table in layout.tables
            ]
            return torch.cat(means, dim=-1)
        return rows.flatten(-2)


def _masked_mean(rows: Tensor, mask: Tensor) -> Tensor:
    """The mean [..., d] of the rows [..., L, d] where mask [..., L]; zeros where there is none."""
    weights = mask.to(rows.dtype).unsqueeze(-1)
    return (rows * weights).sum(dim=-2) / weights.sum(dim=-2).clamp(min=1.0)
