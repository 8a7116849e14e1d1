"""Which frequencies of a plane to measure.

The spectrum of a real plane is conjugate symmetric, F(-u, -v) = conj F(u, v), so every pattern takes one of two such
twins: that with the lower index in row-major order, zero frequency first.
"""

import numpy as np
import numpy.typing as npt

from cs_lip.operators.streams import Stream, philox

Indices = npt.NDArray[np.int64]

# The density (1 - r)^4 of the centre pattern: Lustig, Donoho & Pauly 2007 found powers from 1 to 6 useful.
CENTRE_POWER = 4
# Keeps the weight of the farthest corner, where r = 1, above zero.
SMALLEST_WEIGHT = 1e-6


def random_samples(channels: int, height: int, width: int, k: int, seed: int, pattern: str) -> Indices:
    """k sorted flat indices into (channels, height, width), drawn ``"uniform"`` or denser at the ``"centre"``."""
    half = np.flatnonzero(np.arange(height * width) <= _twins(height, width))
    candidates = (np.arange(channels)[:, None] * height * width + half).ravel()
    # Drawing with weights w and without replacement is taking the smallest of the waiting times Exp(1) / w.
    keys = philox(seed, Stream.FIRST).standard_exponential(candidates.size)
    if pattern == "centre":
        radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :]).ravel()
        weight = np.maximum(1 - radius / (radius.max() or 1), 0) ** CENTRE_POWER
        keys /= np.maximum(np.tile(weight[half], channels), SMALLEST_WEIGHT)
        if k >= channels:
            keys[candidates % (height * width) == 0] = 0
    return np.sort(candidates[np.argsort(keys, kind="stable")[:k]])


def line_samples(height: int, width: int, acceleration: float, centre_fraction: float, seed: int) -> Indices:
    """The samples (height * width plane) of whole columns: ``centre_fraction`` of them about zero frequency, the rest
    uniformly at random, 1 / ``acceleration`` of all columns in total.

    Raises:
        ValueError: the columns of the centre are more than the total.
    """
    lines = width // 2 + 1
    total, centre = max(1, round(lines / acceleration)), round(centre_fraction * lines)
    if centre > total:
        raise ValueError(
            f"an acceleration of {acceleration:g} measures {total} of {lines} lines, got a centre_fraction of "
            f"{centre_fraction:g} which takes {centre}; try a centre_fraction of {total / lines / 2:.2g}"
        )
    outer = centre + philox(seed, Stream.LINES).permutation(lines - centre)[: total - centre]
    columns = np.concatenate([np.arange(centre), outer])
    return lower_twins(np.arange(height)[:, None], columns[None, :], height, width)


def spoke_samples(height: int, width: int, spokes: int) -> Indices:
    """The samples (height * width plane) nearest to lines through zero frequency, their angles equally spaced."""
    angles = np.pi * np.arange(spokes) / spokes
    # From the centre to the border one way; the other half of a spoke holds the twins.
    length = 0.5 / np.maximum(np.abs(np.cos(angles)), np.abs(np.sin(angles)))
    radii = length * np.linspace(0, 1, height + width)[:, None]
    u, v = np.rint(radii * np.sin(angles) * height), np.rint(radii * np.cos(angles) * width)
    return lower_twins(u.astype(np.int64), v.astype(np.int64), height, width)


def lower_twins(u: Indices, v: Indices, height: int, width: int) -> Indices:
    """Sorted flat indices of the frequencies (u, v), each once and each as the lower of the two twins."""
    flat = np.unique((u % height) * width + v % width)
    return np.unique(np.minimum(flat, _twins(height, width)[flat]))


def _twins(height: int, width: int) -> Indices:
    u, v = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return np.ravel((-u % height) * width + (-v % width))
