"""The temperature of entropy, tuned until the policy is as random as asked for (arXiv 1812.05905, section 5)."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.adam import Adam
from trainer.agents.losses import temperature_loss
from trainer.state import gather, scatter


class Temperature:
    """α, what a nat of entropy is worth in units of reward, and its optimizer."""

    def __init__(self, start: float, learning_rate: float) -> None:
        self._log = torch.tensor(math.log(start)).requires_grad_()
        self._optimizer = Adam([self._log], learning_rate)

    @property
    def value(self) -> Tensor:
        """α, []; a constant to whoever reads it."""
        return self._log.detach().exp()

    def differentiate(self, entropy: Tensor, target: Tensor | float) -> None:
        """Takes the gradient for the next `step`: see `temperature_loss`."""
        self._optimizer.differentiate(temperature_loss(self._log, entropy, target))

    def step(self) -> None:
        self._optimizer.step()

    def state_dict(self) -> dict[str, Tensor]:
        return {"log": self._log.detach(), **gather(optimizer=self._optimizer)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._log.detach().copy_(state["log"])
        scatter(state, optimizer=self._optimizer)
