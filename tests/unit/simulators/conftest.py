"""Virtual Taobao's three files, untrained but of the right shapes: the real ones are not part of this project."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

SIZES = {
    "generator_model.pt": (128, 128, 88),
    "leave_model.pt": (88, 128, 256, 101),
    "action_model.pt": (116, 128, 256, 21),
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("virtualtb")
    generator = torch.Generator().manual_seed(3)
    for name, sizes in SIZES.items():
        tensors = {}
        for i, (num_in, num_out) in enumerate(pairwise(sizes)):
            tensors[f"{2 * i}.weight"] = torch.randn(num_out, num_in, generator=generator) / num_in**0.5
            tensors[f"{2 * i}.bias"] = torch.randn(num_out, generator=generator)
        torch.save(tensors, made / name)
    return made
