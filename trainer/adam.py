"""Adam, with a state of named tensors that can be kept without pickle."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


class Adam:
    """Fused Adam: a fifth faster on one thread than its loop. It changes parameters in place, so whoever steps two
    optimizers differentiates both losses first.
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        self._parameters = list(parameters)
        self._adam = torch.optim.Adam(self._parameters, lr=learning_rate, fused=True)

    def differentiate(self, loss: Tensor) -> None:
        """Sets the gradients of `loss` for the next `step`, on this optimizer's own parameters and no others."""
        gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient

    def step(self) -> None:
        self._adam.step()

    def state_dict(self) -> dict[str, Tensor]:
        """The moments, as "index.name". The learning rate is not among them: it is the loop file's."""
        state = self._adam.state_dict()["state"]
        return {f"{index}.{name}": tensor for index, slot in state.items() for name, tensor in slot.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        slots: dict[int, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            index, name = key.split(".")
            slots.setdefault(int(index), {})[name] = tensor
        self._adam.load_state_dict({"state": slots, "param_groups": self._adam.state_dict()["param_groups"]})
