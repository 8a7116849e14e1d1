"""Transforms in which pictures are sparse."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

import numpy as np
import pylops
from pylops.signalprocessing import DCT, DWTND

from cs_lip.recovery.baselines.frame import Array, Transform

WAVELET = "db4"

COARSEST = 4
"""Sides of the approximation at which the wavelet transform ends."""


class _Wavelets(DWTND):  # type: ignore[misc]
    """Without the warning that a filter wraps around the coarser levels: periodised, they are orthonormal still."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        with _quietly():
            super().__init__(*arguments, **settings)

    def _matvec(self, x: Array) -> Array:
        with _quietly():
            result: Array = super()._matvec(x)
            return result


@contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Level value of", UserWarning)
        yield


def sparsifying(transform: Transform, shape: tuple[int, ...]) -> tuple[pylops.LinearOperator, Array]:
    """``W`` on flattened float32 images, orthonormal or, where it pads, with orthonormal columns.

    Either transform is taken of the cosine transform over the channels, which tells the brightness of a colour picture
    from two differences of colour.

    Args:
        transform: ``dct``, the cosine transform of type 2 over height and width, or ``wavelet``, Daubechies' wavelets
            of four vanishing moments (1988), periodised, down to approximations of 4x4; sides that are no power of 2
            are padded with zeros up to one.
        shape: ``(channels, height, width)``.

    Returns:
        W, and which of its coefficients are sparse: 0 for the means of the cosine transform and for the
        approximations of the wavelet transform, 1 for the others, ``(k,)``.

    Raises:
        ValueError: an unknown transform.
    """
    if transform not in get_args(Transform):
        raise ValueError(f"the transform must be one of {', '.join(get_args(Transform))}, got {transform!r}; try 'dct'")
    if transform == "dct":
        W = DCT(shape, axes=(0, 1, 2), dtype=np.float32)
        dense = 1, 1
    else:
        channels = DCT(shape, axes=(0,), dtype=np.float32)
        level = max(0, (min(shape[1:]) - 1).bit_length() - (COARSEST - 1).bit_length())
        wavelets = _Wavelets(shape, axes=(1, 2), wavelet=WAVELET, level=level, dtype=np.float32)
        W = wavelets @ channels
        dense = tuple(side >> level for side in wavelets.dimsd[1:])
    sparse = np.ones(W.dimsd, np.float32)
    sparse[:, : dense[0], : dense[1]] = 0
    return W, sparse.ravel()
