"""Randomness that is the same in every process and every release, so that a request can be answered twice alike.

numpy's generators may change their streams between releases; splitmix64 (Steele, Lea, Flood 2014) will not.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Arrays of no dimension: numpy takes them in two thirds of the time of scalars, which it would make arrays of.
_FIRST = np.array(0xBF58476D1CE4E5B9, np.uint64)
_SECOND = np.array(0x94D049BB133111EB, np.uint64)
_12, _27, _30, _31 = (np.array(bits, np.uint64) for bits in (12, 27, 30, 31))
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_STEPS = np.arange(1, 2_049, dtype=np.uint64) * _GAMMA  # of the usual request, which so need not be made


def seed_of(decision_id: str) -> int:
    """A seed of 63 bits, which SQL's integers hold."""
    digest = hashlib.blake2b(decision_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def splitmix64(seed: int, n: int, skip: int = 0) -> NDArray[np.uint64]:
    """The numbers skip … skip + n − 1 [n] of the stream of `seed`."""
    return _mixed(_steps(n, skip) + np.uint64(seed))


def uniforms(seed: int, n: int, skip: int = 0) -> NDArray[np.float64]:
    """Uniform numbers [n] in (0, 1): the middles of 2^52 equal parts, so that neither end is ever given."""
    return _uniform(splitmix64(seed, n, skip))


def uniforms_of(seeds: Sequence[int], n: int) -> NDArray[np.float64]:
    """The first n of each of B streams, [B, n]."""
    return _uniform(_mixed(np.array(seeds, np.uint64)[:, None] + _steps(n, 0)))


def _steps(n: int, skip: int) -> NDArray[np.uint64]:
    if skip + n <= len(_STEPS):
        return _STEPS[skip : skip + n]
    return np.arange(skip + 1, skip + n + 1, dtype=np.uint64) * _GAMMA


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Overwrites z."""
    z ^= z >> _30
    z *= _FIRST
    z ^= z >> _27
    z *= _SECOND
    z ^= z >> _31
    return z


def _uniform(numbers: NDArray[np.uint64]) -> NDArray[np.float64]:
    uniform = (numbers >> _12).astype(np.float64)
    uniform += 0.5
    uniform *= 2.0**-52
    return uniform
