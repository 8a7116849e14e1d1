"""Checks of the arguments that operators share. Recipes come out of files, so sizes are bounded too."""

import math
from collections.abc import Sequence
from numbers import Integral

MAX_SEED = 2**63 - 1
MAX_SIZE = 2**31
MAX_DIMS = 8


def checked_shape(in_shape: Sequence[int]) -> tuple[int, ...]:
    """``in_shape`` as a tuple of 1 to 8 positive ints whose product is at most 2^31.

    Raises:
        ValueError: it is anything else.
    """
    valid = isinstance(in_shape, list | tuple) and 1 <= len(in_shape) <= MAX_DIMS
    if not valid or not all(_is_integer(size) and size > 0 for size in in_shape) or math.prod(in_shape) > MAX_SIZE:
        raise ValueError(
            f"in_shape must be 1 to {MAX_DIMS} positive integers with a product of at most 2^31, "
            f"got {str(in_shape)[:80]}; try (3, 64, 64)"
        )
    return tuple(int(size) for size in in_shape)


def checked_m(m: int, lowest: int, n: int) -> int:
    """``m`` as an int in [lowest, n].

    Raises:
        ValueError: it is anything else.
    """
    if not _is_integer(m) or not lowest <= m <= n:
        raise ValueError(
            f"the number of measurements m must be an integer from {lowest} to n = {n} (the pixels times channels), "
            f"got {m!r}; try {n - n % lowest if _is_integer(m) and m > n else max(lowest, n // 20 * 2)}"
        )
    return int(m)


def checked_seed(seed: int) -> int:
    """``seed`` as an int in [0, 2^63 - 1].

    Raises:
        ValueError: it is anything else.
    """
    if not _is_integer(seed) or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"the seed must be an integer from 0 to 2^63 - 1, got {seed!r}; try 0")
    return int(seed)


def checked_count(name: str, value: int, lowest: int, highest: int) -> int:
    """``value`` as an int in [lowest, highest]; ``name`` is what the message calls it.

    Raises:
        ValueError: it is anything else.
    """
    if not _is_integer(value) or not lowest <= value <= highest:
        raise ValueError(f"{name} must be an integer from {lowest} to {highest}, got {value!r}; try {lowest}")
    return int(value)


def checked_tolerance(tolerance: float) -> float:
    """``tolerance`` as a float above 0 and below 1.

    Raises:
        ValueError: it is anything else.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"the tolerance must be a number between 0 and 1, got {tolerance!r}; try 1e-4")
    return float(tolerance)


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
