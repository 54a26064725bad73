"""How an agent sees states and items."""

from collections.abc import Iterable
from typing import Self

from torch import Tensor, nn

from schemas.loop_file import Loop
from trainer.networks import Embeddings


class View(nn.Module):
    """The agent's own embeddings, or those of another through a stop-gradient: no loss of the agent moves these."""

    def __init__(self, embeddings: Embeddings, *, is_own: bool) -> None:
        super().__init__()
        self.embeddings = embeddings
        self._is_own = is_own

    @classmethod
    def own(cls, loop: Loop) -> Self:
        return cls(Embeddings(loop), is_own=True)

    @classmethod
    def shared(cls, embeddings: Embeddings) -> Self:
        return cls(embeddings, is_own=False)

    @property
    def state_dim(self) -> int:
        return self.embeddings.state_dim

    @property
    def item_dim(self) -> int:
        return self.embeddings.item_dim

    def state(self, slots: Tensor, numbers: Tensor) -> Tensor:
        """Features [B, Fs] of states with slots [B, S] and numbers [B, G]."""
        features = self.embeddings.state(slots, numbers)
        return features if self._is_own else features.detach()

    def items(self, slots: Tensor, numbers: Tensor) -> Tensor:
        """Features [..., Fi] of items with slots [..., Si] and numbers [..., Gi]."""
        features = self.embeddings.items(slots, numbers)
        return features if self._is_own else features.detach()

    def trained(self) -> Iterable[nn.Parameter]:
        """The parameters that the agent's loss may move."""
        return self.embeddings.parameters() if self._is_own else ()

    def id_penalty(self, weight: float) -> Tensor | float:
        """The L2 penalty on id embeddings, of those that the agent's loss may move: without it the rows of rare ids
        fit the noise.
        """
        return weight * self.embeddings.id_penalty() if self._is_own else 0.0
