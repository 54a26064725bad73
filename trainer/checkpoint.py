"""The training state on disk: one file, replaced as a whole, so that a kill at any moment leaves the one before."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

_LOG = logging.getLogger(__name__)

FILE = "state.safetensors"
_UNUSABLE = "state.unusable.safetensors"


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    kind: str
    """What made it; only the same can go on from it."""
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    """What is no tensor, as JSON has it: counters, the watermark, states of random generators."""


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Durable when it returns. Raises `OSError`, and then the checkpoint before is still there."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = json.dumps({"kind": checkpoint.kind, **checkpoint.facts})
    metadata = {"facts": facts, "sha256": _digest(checkpoint.tensors, facts)}
    temporary = folder / f"{FILE}.tmp"
    with temporary.open("wb") as file:
        # Copies, since tensors that parts share (SRS2) may be saved only once as they are.
        file.write(save({name: tensor.clone() for name, tensor in checkpoint.tensors.items()}, metadata))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / FILE)
    _fsync_folder(folder)


def read_checkpoint(folder: Path, kind: str) -> Checkpoint | None:
    """The checkpoint, if there is one; raises `CheckpointError` where it is damaged or another kind made it."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"it cannot be read: {error}") from error
    facts = metadata.get("facts", "")
    if metadata.get("sha256") != _digest(tensors, facts):
        raise CheckpointError("its checksum is wrong: the file is damaged")
    values = json.loads(facts)
    if values["kind"] != kind:
        raise CheckpointError(f"it is of {values['kind']}, and the loop file now asks for {kind}")
    return Checkpoint(values.pop("kind"), tensors, values)


def usable_checkpoint(folder: Path, kind: str) -> Checkpoint | None:
    """The checkpoint to go on from. One that cannot be used is said so and kept aside, and None is returned."""
    try:
        return read_checkpoint(folder, kind)
    except CheckpointError as error:
        aside = folder / _UNUSABLE
        (folder / FILE).replace(aside)
        _LOG.error("train: starting afresh, since the training state was no use: %s. It is kept as %s", error, aside)
        return None


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    digest = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
