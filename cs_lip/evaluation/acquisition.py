"""Taking measurements of known images: the operators by name, and the noise."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from cs_lip.operators import Gaussian, LinearOperator, SubsampledFourier
from cs_lip.seeding import derive_seed, stream

OPERATORS: dict[str, Callable[[tuple[int, ...], int, int], LinearOperator]] = {
    "gaussian": lambda shape, m, seed: Gaussian(shape, m, seed=seed),
    "fourier": lambda shape, m, seed: SubsampledFourier(shape, m, seed=seed, pattern="centre"),
}
"""The operators a command can ask for, each from (image shape, m, seed): Gaussian entries of variance 1/m, and
centre-weighted subsampled Fourier."""


def build_operator(kind: str, image_shape: tuple[int, ...], measurements: int, *, seed: int) -> LinearOperator:
    """The operator ``kind`` with ``measurements`` real measurements, from the stream ``operator`` of ``seed``.

    Raises:
        ValueError: unknown kind, or a number of measurements that the operator cannot take.
    """
    if kind not in OPERATORS:
        raise ValueError(f"there is no operator {kind!r}; try one of {', '.join(OPERATORS)}")
    return OPERATORS[kind](image_shape, measurements, derive_seed(seed, "operator"))


def acquire(operator: LinearOperator, images: Tensor, *, noise: float, seed: int) -> Tensor:
    """``y = A x + noise`` for ``images`` (images, channels, height, width), as (images, *out_shape).

    Args:
        noise: standard deviation of independent normal noise on every real measurement; a complex sample gets it on
            its real and on its imaginary part.
        seed: its stream ``noise`` draws the noise.

    Raises:
        ValueError: the noise is negative or not finite.
    """
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(f"the noise must be a finite standard deviation of at least 0, got {noise}; try 0.01")
    with torch.no_grad():
        clean = operator(images)
    parts = torch.view_as_real(clean) if clean.is_complex() else clean
    draw = torch.randn(parts.shape, generator=stream(seed, "noise")).to(parts.device, parts.dtype)
    noisy = parts + noise * draw
    return torch.view_as_complex(noisy) if clean.is_complex() else noisy


def snr_db(clean_energy: float, count: int, noise: float) -> float | None:
    """Signal-to-noise ratio of measurements in dB, 10 log10(|A x|^2 / (count sigma^2)); None without either."""
    if noise == 0 or clean_energy == 0:
        return None
    return 10 * math.log10(clean_energy / (count * noise**2))
