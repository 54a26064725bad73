"""How an agent sees states and items."""

from collections.abc import Iterable
from copy import deepcopy
from typing import Self

import torch
from torch import Tensor, nn

from schemas.loop_file import Loop
from trainer.attention import History
from trainer.network_setup import rescale
from trainer.networks import Embeddings
from trainer.replay.statistics import NumberStatistics


class View(nn.Module):
    """Embeddings of two kinds, either of which may be missing: the agent's own, and those of another through a
    stop-gradient, which no loss of the agent moves. Where there are both, a row is their sum.
    """

    def __init__(self, own: Embeddings | None, shared: Embeddings | None) -> None:
        super().__init__()
        self._own, self._shared = own, shared

    @classmethod
    def own(cls, loop: Loop) -> Self:
        """The agent's own embeddings alone."""
        return cls(Embeddings(loop), None)

    @classmethod
    def shared(cls, shared: Embeddings) -> Self:
        """Another's embeddings alone."""
        return cls(None, shared)

    @classmethod
    def residual(cls, loop: Loop, shared: Embeddings) -> Self:
        """Another's embeddings, and what the agent adds to them, which is nothing at first."""
        own = Embeddings(loop)
        nn.init.zeros_(own.rows)
        return cls(own, shared)

    @property
    def state_dim(self) -> int:
        return self._first.state_dim

    @property
    def item_dim(self) -> int:
        return self._first.item_dim

    def state(self, slots: Tensor, numbers: Tensor) -> Tensor:
        """Features [B, Fs] of states with slots [B, S] and numbers [B, G]."""
        if self._shared is None:
            return self._first.state(slots, numbers)
        with torch.no_grad():
            features = self._shared.state(slots, numbers)
        # The numbers come from the shared part; zeros stay zeros in the own part, which is not rescaled.
        return features if self._own is None else features + self._own.state(slots, torch.zeros_like(numbers))

    def items(self, slots: Tensor, numbers: Tensor) -> Tensor:
        """Features [..., Fi] of items with slots [..., Si] and numbers [..., Gi]."""
        if self._shared is None:
            return self._first.items(slots, numbers)
        with torch.no_grad():
            features = self._shared.items(slots, numbers)
        return features if self._own is None else features + self._own.items(slots, torch.zeros_like(numbers))

    def history(self, slots: Tensor) -> History | None:
        """What candidates attend to in states with slots [B, S]; None where there is nothing, or nobody does."""
        if self._shared is None:
            return self._first.history(slots)
        with torch.no_grad():
            shared = self._shared.history(slots)
        own = None if self._own is None else self._own.history(slots)
        if shared is None or own is None:
            return shared
        return shared[0] + own[0], shared[1]

    def trained(self) -> Iterable[nn.Parameter]:
        """The parameters that the agent's loss may move."""
        return () if self._own is None else self._own.parameters()

    def id_penalty(self, weight: float) -> Tensor | float:
        """The L2 penalty on id embeddings, of those that the agent's loss may move: without it the rows of rare ids
        fit the noise.
        """
        return 0.0 if self._own is None else weight * self._own.id_penalty()

    @torch.no_grad()
    def merged(self) -> Embeddings:
        """One set of embeddings through which a policy sees the same."""
        if self._own is None or self._shared is None:
            return self._first
        merged = deepcopy(self._shared)
        merged.rows.add_(self._own.rows)
        return merged

    def rescale(self, statistics: NumberStatistics) -> None:
        """Sets the mean and the scale by which the numbers that data scale are normalised."""
        rescale(self._first, statistics)

    @property
    def _first(self) -> Embeddings:
        """Whose numbers are taken."""
        first = self._own if self._shared is None else self._shared
        assert first is not None, "a view has embeddings"
        return first
