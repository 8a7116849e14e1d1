"""When measurements count as explained."""

import math

import torch
from torch import Tensor

NOISELESS_RESIDUAL = 1e-4
"""Relative residual |A G(z) - y| / |y| at which noiseless measurements count as explained (in float32, a few units of
rounding above the attainable)."""


def discrepancy_target(measurements: Tensor, noise: float) -> Tensor:
    """The squared residual at or below which each image's measurements are explained.

    Morozov's discrepancy principle: the truth itself leaves |A x - y|^2 = sigma^2 chi^2_m, of mean m sigma^2 and
    standard deviation sigma^2 sqrt(2 m). The target is two deviations above the mean; fitting further fits noise.
    Without noise it is ``NOISELESS_RESIDUAL`` relative to |y|.

    Args:
        measurements: real measurements ``(images, m)``.
        noise: standard deviation sigma of each of the m real numbers, in the units of the measurements.

    Returns:
        The targets, ``(images,)``.

    Source: Morozov 1966; Engl, Hanke & Neubauer, Regularization of Inverse Problems (1996), section 4.3.
    """
    m = measurements.shape[1]
    noiseless = NOISELESS_RESIDUAL**2 * measurements.square().sum(1)
    return torch.clamp(noiseless, min=noise**2 * (m + 2 * math.sqrt(2 * m)))
