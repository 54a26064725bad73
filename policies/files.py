"""Policy files: a folder a version, written whole or not at all, and believed only after every byte was checked.

`weights.safetensors`, `golden.safetensors` (inputs with the outputs that they must give), of a large catalogue
`index.safetensors` (its item vectors), and `manifest.json`, which holds the sha256 of each file. Its own is that of its
text with 64 zeros in the place of the digest.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from policies.index import IndexTensors, ItemIndex
from policies.index_files import MappedFile, index_tensors, write_index
from policies.networks import ActorNetwork, Floats, SlateNetwork, Tensors
from policies.policy import SlatePolicy, WeightsPolicy, make_policy
from policies.rests import Rest, rest
from schemas.loop_file import Loop
from schemas.manifest import GOLDEN_FILE, INDEX_FILE, MANIFEST_FILE, WEIGHTS_FILE, PolicyManifest

GOLDEN_TOLERANCE = 1e-4
"""Absolute, and relative to the output."""

_NO_DIGEST = "0" * 64


class PolicyFileError(Exception):
    """A policy folder that must not serve; the text names the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Golden:
    """Encoded inputs and what the policy's network makes of them. For `weights`, C = Si = Gi = 0."""

    state_slots: NDArray[np.int64]  # [P, S]
    state_numbers: Floats  # [P, G]
    item_slots: NDArray[np.int64]  # [P, C, Si]
    item_numbers: Floats  # [P, C, Gi]
    outputs: Floats  # scores [P, C], or actions [P, A]


def write_policy(
    folder: Path,
    tensors: Tensors,
    golden: Golden,
    *,
    version: str,
    parent: str | None,
    loop_hash: str,
    created_at: float,
    metrics: dict[str, float],
    revision: int,
    final_at: list[float],
    index: IndexTensors | None = None,
) -> PolicyManifest:
    """Makes the folder, on disk before it has its name; the keywords but `index` are the manifest's.

    A folder of this name is replaced: a version that is registered is never given out again, so it was left by a
    writer that died. JSON has no NaN: metrics that are not finite are left out.

    Raises:
        OSError: the disk is full, or away.
    """
    contents = {
        WEIGHTS_FILE: save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}),
        GOLDEN_FILE: save({f.name: np.ascontiguousarray(getattr(golden, f.name)) for f in fields(golden)}),
    }
    temporary = _new_folder(folder)
    digests = {name: _digest(content) for name, content in contents.items()}
    if index is not None:
        digests[INDEX_FILE] = write_index(temporary / INDEX_FILE, index)
    manifest = PolicyManifest(
        version=version,
        parent=parent,
        loop_hash=loop_hash,
        created_at=created_at,
        sha256=digests | {MANIFEST_FILE: _NO_DIGEST},
        metrics={name: value for name, value in metrics.items() if np.isfinite(value)},
        revision=revision,
        final_at=final_at,
    )
    text = manifest.model_dump_json(indent=1).encode()
    contents[MANIFEST_FILE] = text.replace(_NO_DIGEST.encode(), _digest(text).encode())
    for name, content in contents.items():
        (temporary / name).write_bytes(content)
    _put_in_place(temporary, folder)
    return PolicyManifest.model_validate_json(contents[MANIFEST_FILE])


def read_policy(folder: Path, loop: Loop, rest: Rest = rest) -> SlatePolicy | WeightsPolicy:
    """The policy of a folder, after its hashes, its loop's hash, its tensors and its golden outputs were checked. Takes
    a `rest` after each slice of an index.

    Raises:
        PolicyFileError: something is missing, altered, not finite, or of another loop.
    """
    manifest = read_manifest(folder)
    if manifest.loop_hash != loop.hash:
        raise PolicyFileError(
            f"{folder / MANIFEST_FILE}: the policy is of the loop {manifest.loop_hash}, this loop file is {loop.hash}: "
            "its [state], [item], [action] or [network] differs"
        )
    tensors = _read_tensors(folder, WEIGHTS_FILE, manifest)
    golden = _read_tensors(folder, GOLDEN_FILE, manifest)
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise PolicyFileError(f"{folder / WEIGHTS_FILE}: tensor {name} has values that are not finite")
    try:
        policy = make_policy(loop, manifest, tensors)
    except ValueError as error:
        raise PolicyFileError(f"{folder / WEIGHTS_FILE}: {error}") from error
    try:
        check_golden(policy.network, Golden(**golden))
    except (TypeError, ValueError, IndexError) as error:
        raise PolicyFileError(f"{folder / GOLDEN_FILE}: {error}") from error
    if INDEX_FILE in manifest.sha256 and isinstance(policy, SlatePolicy):
        return replace(policy, index=_read_index(folder / INDEX_FILE, manifest, rest))
    return policy


def read_manifest(folder: Path) -> PolicyManifest:
    """The manifest of a folder; raises `PolicyFileError` where it is missing or altered."""
    text = _read(folder / MANIFEST_FILE)
    try:
        manifest = PolicyManifest.model_validate_json(text)
    except ValidationError as error:
        raise PolicyFileError(f"{folder / MANIFEST_FILE} is not a policy manifest: {error}") from error
    digest = manifest.sha256.get(MANIFEST_FILE, "")
    if len(digest) != len(_NO_DIGEST) or _digest(text.replace(digest.encode(), _NO_DIGEST.encode(), 1)) != digest:
        raise PolicyFileError(f"{folder / MANIFEST_FILE} was altered: its sha256 is not the one it names")
    return manifest


def check_golden(network: SlateNetwork | ActorNetwork, golden: Golden) -> None:
    """Raises ValueError where the network's outputs are not the golden ones within `GOLDEN_TOLERANCE`."""
    outputs = golden_outputs(network, golden)
    if outputs.shape != golden.outputs.shape or not len(outputs):
        raise ValueError(f"golden outputs are {golden.outputs.shape}, the network makes {outputs.shape}")
    if not np.allclose(outputs, golden.outputs, rtol=GOLDEN_TOLERANCE, atol=GOLDEN_TOLERANCE):
        worst = float(np.abs(outputs - golden.outputs).max())
        raise ValueError(f"the network misses its golden outputs by up to {worst:.3g}")


def golden_outputs(network: SlateNetwork | ActorNetwork, golden: Golden) -> Floats:
    """What the network makes of the golden inputs: scores [P, C], or actions [P, A]."""
    states = list(zip(golden.state_slots, golden.state_numbers, strict=True))
    if isinstance(network, ActorNetwork):
        return np.array([network.action(slots, numbers) for slots, numbers in states], np.float32)
    candidates = zip(golden.item_slots, golden.item_numbers, strict=True)
    scores = [
        network.scores(network.state_vectors(*state), network.item_vectors(*items))
        for state, items in zip(states, candidates, strict=True)
    ]
    return np.array(scores, np.float32)


def _new_folder(folder: Path) -> Path:
    """An empty one beside it, under a name that is no version's."""
    for state in ("new", "old"):
        shutil.rmtree(_beside(folder, state), ignore_errors=True)
    _beside(folder, "new").mkdir(parents=True)
    return _beside(folder, "new")


def _put_in_place(temporary: Path, folder: Path) -> None:
    for path in temporary.iterdir():
        _sync(path)
    _sync(temporary)
    if folder.exists():
        folder.rename(_beside(folder, "old"))
    temporary.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(_beside(folder, "old"), ignore_errors=True)


def _beside(folder: Path, state: str) -> Path:
    return folder.with_name(f".{folder.name}.{state}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_tensors(folder: Path, name: str, manifest: PolicyManifest) -> dict[str, NDArray[Any]]:
    content = _read(folder / name)
    if _digest(content) != manifest.sha256.get(name):
        raise PolicyFileError(f"{folder / name} was altered: its sha256 is not the one that {MANIFEST_FILE} names")
    try:
        return load(content)
    except SafetensorError as error:
        raise PolicyFileError(f"{folder / name} is not a safetensors file: {error}") from error


def _read_index(path: Path, manifest: PolicyManifest, rest: Rest) -> ItemIndex:
    try:
        mapped = MappedFile(path, rest)
    except (OSError, ValueError) as error:
        raise PolicyFileError(f"{path} cannot be read: {error}") from error
    if mapped.digest != manifest.sha256[INDEX_FILE]:
        raise PolicyFileError(f"{path} was altered: its sha256 is not the one that {MANIFEST_FILE} names")
    try:
        return ItemIndex(index_tensors(mapped.tensors()), mapped, rest)
    except ValueError as error:
        raise PolicyFileError(f"{path}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PolicyFileError(f"{path} cannot be read: {error.strerror}") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
