"""Checks of the arguments that operators share. Recipes come out of files, so sizes are bounded too."""

import math
from collections.abc import Sequence
from numbers import Integral, Real

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


def checked_normalisation(normalisation: str) -> str:
    """``normalisation``, which is ``"1/m"`` or ``"1"``.

    Raises:
        ValueError: it is anything else.
    """
    if normalisation not in ("1/m", "1"):
        raise ValueError(f"the normalisation must be '1/m' or '1', got {normalisation!r}; try '1/m'")
    return normalisation


def checked_number(
    value: float, what: str, lowest: float, highest: float, *, open_below: bool = False, attempt: float
) -> float:
    """``value`` as a float in [lowest, highest], or in (lowest, highest] where ``open_below``.

    Raises:
        ValueError: it is anything else; the message calls it ``what`` and says to try ``attempt``.
    """
    is_number = isinstance(value, Real | float) and not isinstance(value, bool)
    if not is_number or not lowest <= value <= highest or (open_below and value == lowest):
        span = f"above {lowest:g} and up to {highest:g}" if open_below else f"from {lowest:g} to {highest:g}"
        raise ValueError(f"{what} must be a number {span}, got {value!r}; try {attempt:g}")
    return float(value)


def checked_count(value: int, what: str, highest: int, *, attempt: int) -> int:
    """``value`` as an int in [1, highest].

    Raises:
        ValueError: it is anything else; the message calls it ``what`` and says to try ``attempt``.
    """
    if not _is_integer(value) or not 1 <= value <= highest:
        raise ValueError(f"{what} must be an integer from 1 to {highest}, got {value!r}; try {attempt}")
    return int(value)


def checked_image_shape(in_shape: Sequence[int]) -> tuple[int, ...]:
    """``in_shape`` as (channels, height, width) or (height, width).

    Raises:
        ValueError: it is anything else.
    """
    in_shape = checked_shape(in_shape)
    if len(in_shape) not in (2, 3):
        raise ValueError(
            f"in_shape must be (channels, height, width) or (height, width) here, got {in_shape}; try (3, 64, 64)"
        )
    return in_shape


def checked_choice(value: str, what: str, choices: tuple[str, ...]) -> str:
    """``value`` when it is one of ``choices``; ``what`` names it in the message.

    Raises:
        ValueError: it is none of them.
    """
    if not isinstance(value, str) or value not in choices:
        names = " or ".join(map(repr, choices))
        raise ValueError(f"the {what} must be {names}, got {str(value)[:40]!r}; try {choices[0]!r}")
    return value


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
