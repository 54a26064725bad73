"""The file of an index: safetensors, read by memory map, so that the rankers of a machine share its pages."""

import hashlib
import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import fields
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from policies.index import IndexTensors
from policies.rests import Rest, rest

_DTYPES = {"F32": np.float32, "U64": np.uint64, "I64": np.int64, "U8": np.uint8}
_HASHED_AT_ONCE = 1 << 18  # in about 0.2 ms
_RELEASED_AT_ONCE = 1 << 22  # the kernel takes about 0.1 ms for it


def write_index(path: Path, tensors: IndexTensors) -> str:
    """Returns its sha256."""
    save_file({field.name: getattr(tensors, field.name) for field in fields(tensors)}, path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class MappedFile:
    """A file in memory, read-only. Its pages come as they are first read."""

    def __init__(self, path: Path, rest: Rest = rest) -> None:
        """Raises OSError, or ValueError where it is empty. `rest` is called between slices of the work."""
        self._rest = rest
        with path.open("rb") as file:
            self.digest = _digest(file, rest)
            """The sha256."""
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """Its tensors, which lie in the map; raises ValueError where it is no safetensors file of known types."""
        size = int.from_bytes(self._map[:8], "little")
        try:
            header: Mapping[str, Mapping[str, object]] = json.loads(self._map[8 : 8 + size])
            found = {name: self._tensor(8 + size, **entry) for name, entry in header.items() if name != "__metadata__"}  # type: ignore[arg-type]  # what is not right raises
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a safetensors file: {error}") from error
        return found

    def _tensor(self, origin: int, dtype: str, shape: list[int], data_offsets: list[int]) -> NDArray[np.generic]:
        flat = np.frombuffer(self._map, _DTYPES[dtype], math.prod(shape), origin + data_offsets[0])
        return flat.reshape(shape)

    def release(self) -> None:
        """Gives its pages back, a few at a time: unmapping all of a large file at once would hold up requests. Who
        still reads it gets them again from the file.
        """
        for start in range(0, len(self._map), _RELEASED_AT_ONCE):
            self._map.madvise(mmap.MADV_DONTNEED, start, min(_RELEASED_AT_ONCE, len(self._map) - start))
            self._rest()


def _digest(file: BufferedReader, rest: Rest) -> str:
    """The sha256, read into a buffer: pages of a map would all count as this process's memory, beside those of the
    index that serves.
    """
    digest, buffer = hashlib.sha256(), bytearray(_HASHED_AT_ONCE)
    with memoryview(buffer) as view:
        while num := file.readinto(buffer):
            digest.update(view[:num])
            rest()
    return digest.hexdigest()


def index_tensors(found: Mapping[str, NDArray[np.generic]]) -> IndexTensors:
    """Raises ValueError where they are not those of an index."""
    names = [field.name for field in fields(IndexTensors)]
    if sorted(found) != sorted(names):
        raise ValueError(f"an index has the tensors {', '.join(names)}, not {', '.join(sorted(found))}")
    tensors = IndexTensors(**found)  # type: ignore[arg-type]  # checked below
    _check(tensors)
    return tensors


def _check(tensors: IndexTensors) -> None:
    num_items, dim = tensors.vectors.shape
    num_lists = len(tensors.starts) - 1
    for name, expected in {
        "biases": (num_items,),
        "fingerprints": (num_items,),
        "centroids": (dim + 1, num_lists),
        "queries": (len(tensors.tenth_best), dim),
    }.items():
        if getattr(tensors, name).shape != expected:
            raise ValueError(f"tensor {name} is {getattr(tensors, name).shape}, its index makes it {expected}")
    starts = tensors.starts
    if not len(tensors.queries) or starts[0] != 0 or starts[-1] != num_items or (np.diff(starts) < 0).any():
        raise ValueError("the lists of the index do not cover its items")
