"""One value of a feature → its slots or numbers: a closure a feature, made when an encoder is."""

import math
import zlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

from schemas.sections import CategoryFeature, NumberFeature

MAX_ABS_NUMBER = 1e15
"""Numbers without a bound of their own are clipped here, so that their squares stay finite in float32."""

# Writes one value into slots [S] and numbers [G], all of it or nothing; counts are [clipped, unknown].
Write: TypeAlias = Callable[[object, list[int], list[float], list[int]], None]
Index: TypeAlias = Callable[[object], int]


class FeatureError(ValueError):
    """A feature that cannot be encoded.

    `loc` is its path below the context (or the features), `message` what would be right, `given` the value found.
    """

    def __init__(self, loc: tuple[str | int, ...], message: str, given: object) -> None:
        super().__init__(f"{'.'.join(map(str, loc))}: {message} (found {given!r:.100})")
        self.loc = loc
        self.message = message
        self.given = given


# ------------------------------------------------------------------ numbers


def number_write(name: str, feature: NumberFeature, at: int) -> Write:
    """(x − low) / (max − low), or of logarithms; x, or log1p(x − low), where there is no max."""
    low = -MAX_ABS_NUMBER if feature.low is None else feature.low
    high = MAX_ABS_NUMBER if feature.max is None else feature.max
    log = feature.scale == "log"
    origin = low if log or feature.max is not None else 0.0
    divisor = 1.0 if feature.max is None else math.log1p(high - low) if log else high - low

    def write(value: object, _: list[int], numbers: list[float], counts: list[int]) -> None:
        if type(value) is not float and type(value) is not int:
            raise FeatureError((name,), "must be a number", value)
        if not low <= value <= high:
            value = _clipped((name,), value, low, high)
            counts[0] += 1
        numbers[at] = (math.log1p(value - origin) if log else value - origin) / divisor

    return write


def vector_write(name: str, dim: int, at: int) -> Write:
    end = at + dim

    def write(value: object, _: list[int], numbers: list[float], counts: list[int]) -> None:
        if not isinstance(value, list | tuple) or len(value) != dim:
            raise FeatureError((name,), f"must be a list of {dim} numbers", value)
        if _NUMBER_TYPES.issuperset(map(type, value)) and _norm(value) <= MAX_ABS_NUMBER:
            numbers[at:end] = value
            return
        clipped = [_in_vector((name, i), each) for i, each in enumerate(value)]
        counts[0] += sum(a != b for a, b in zip(clipped, value, strict=True))
        numbers[at:end] = clipped

    return write


_NUMBER_TYPES = frozenset((int, float))


def _norm(numbers: Sequence[float]) -> float:
    """√Σx², at least the largest |x|: one call in C tells of the usual vector that nothing is to be clipped."""
    try:
        return math.hypot(*numbers)
    except OverflowError:  # an integer that no double holds
        return math.inf


def _in_vector(loc: tuple[str | int, ...], value: object) -> float:
    if type(value) is not float and type(value) is not int:
        raise FeatureError(loc, "must be a number", value)
    return _clipped(loc, value, -MAX_ABS_NUMBER, MAX_ABS_NUMBER)


def _clipped(loc: tuple[str | int, ...], value: float, low: float, high: float) -> float:
    if not abs(value) < math.inf:  # math.isfinite cannot take the integers that no float holds
        raise FeatureError(loc, "must be a finite number", value)
    return float(min(max(value, low), high))


# ------------------------------------------------------------------ categories


def category_write(name: str, index: Index, at: int) -> Write:
    def write(value: object, slots: list[int], _: list[float], counts: list[int]) -> None:
        try:
            slots[at] = found = index(value)
        except TypeError as error:
            raise FeatureError((name,), str(error), value) from None
        if not found:
            counts[1] += 1

    return write


def categories_write(name: str, length: int, index: Index, at: int) -> Write:
    """The first `length` different known ones, padded with 0."""

    def write(value: object, slots: list[int], _: list[float], counts: list[int]) -> None:
        found = _indices(name, value, index)
        counts[1] += found.count(0)
        kept = [each for each in dict.fromkeys(found) if each][:length]
        slots[at : at + len(kept)] = kept

    return write


def items_write(name: str, length: int, index: Index, at: int) -> Write:
    """The newest `length`, which are the last ones, padded with 0."""

    def write(value: object, slots: list[int], _: list[float], counts: list[int]) -> None:
        found = _indices(name, value, index)[-length:]
        counts[1] += found.count(0)
        slots[at : at + len(found)] = found

    return write


def _indices(name: str, value: object, index: Index) -> list[int]:
    if not isinstance(value, list | tuple):
        raise FeatureError((name,), "must be a list", value)
    try:
        return [index(each) for each in value]
    except TypeError:
        return [_index_at(name, i, value, index) for i in range(len(value))]


def _index_at(name: str, i: int, values: Sequence[object], index: Index) -> int:
    try:
        return index(values[i])
    except TypeError as error:
        raise FeatureError((name, i), str(error), values[i]) from None


def category_index(feature: CategoryFeature) -> Index:
    """The slot of a value; the function raises TypeError, saying what would be right, for one of a wrong type."""
    if feature.values is not None:
        return _index_of_values(feature.values)
    return _index_of_size(feature.size) if feature.size is not None else _index_of_buckets(feature.buckets or 1)


def item_id_index(feature: CategoryFeature) -> Index:
    """The slot of an item id, which is a text; where `id` has a size, of the ids "0" … "size − 1"."""
    of_size = None if feature.size is None else _index_of_size(feature.size)
    of_text = category_index(feature)

    def index(value: object) -> int:
        if type(value) is not str:
            raise TypeError("must be an item id, a text")
        return of_text(value) if of_size is None else of_size(_integer(value))

    return index


def _integer(text: str) -> int:
    """The integer that is written just so, else −1."""
    number = int(text) if len(text) < 10 and text.isdecimal() else -1
    return number if str(number) == text else -1


def _index_of_values(values: Sequence[str]) -> Index:
    slots = {value: 1 + i for i, value in enumerate(values)}

    def index(value: object) -> int:
        if type(value) is not str:
            raise TypeError(f"must be a text, one of {', '.join(values[:20])}")
        return slots.get(value, 0)

    return index


def _index_of_size(size: int) -> Index:
    def index(value: object) -> int:
        if type(value) is not int:
            raise TypeError(f"must be an integer from 0 to {size - 1}")
        return 1 + value if 0 <= value < size else 0

    return index


def _index_of_buckets(buckets: int) -> Index:
    def index(value: object) -> int:
        if type(value) is not str and type(value) is not int:
            raise TypeError("must be a text or an integer")
        # crc32 is the same in every process and release; Python's own hash is not.
        return 1 + zlib.crc32(str(value).encode("utf-8", "surrogatepass")) % buckets

    return index
