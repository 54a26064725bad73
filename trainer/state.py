"""The state of modules and optimizers as one flat set of named tensors, for checkpoints."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor


class Kept(Protocol):
    """Whatever has a state of tensors: a module, an optimizer, an agent, an estimator."""

    # mypy: nn.Module's own parameters have other names and types in every release.
    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


def gather(**parts: Kept) -> dict[str, Tensor]:
    """Every tensor of the parts, as "part.name"; not copied."""
    return {f"{part}.{name}": tensor for part, it in parts.items() for name, tensor in it.state_dict().items()}


def scatter(state: Mapping[str, Tensor], **parts: Kept) -> None:
    """Puts what `gather` gave back into parts of the same shape."""
    for part, it in parts.items():
        prefix = f"{part}."
        it.load_state_dict({name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)})


class OfParts(ABC):
    """Whatever has no state but that of its parts."""

    @abstractmethod
    def _parts(self) -> dict[str, Kept]: ...

    def state_dict(self) -> dict[str, Tensor]:
        """All that a checkpoint must keep; not copied."""
        return gather(**self._parts())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state_dict` gave."""
        scatter(state, **self._parts())
