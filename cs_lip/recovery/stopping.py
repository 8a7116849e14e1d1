"""When measurements count as explained."""

import torch
from torch import Tensor

NOISELESS_RESIDUAL = 1e-4
"""Relative residual |A G(z) - y| / |y| at which noiseless measurements count as explained (in float32, a few units of
rounding above the attainable)."""


def discrepancy_target(measurements: Tensor, trusted: Tensor, noise: float) -> Tensor:
    """The squared residual at or below which each row's measurements are explained.

    Morozov's discrepancy principle: the truth itself leaves |A x - y|^2 = sigma^2 chi^2_m, of mean m sigma^2 and
    standard deviation sigma^2 sqrt(2 m). The target is two deviations above the mean; fitting further fits noise.
    Without noise it is ``NOISELESS_RESIDUAL`` relative to |y|.

    Args:
        measurements: real measurements ``(rows, m)``.
        trusted: ``(rows, m)``, bool: those that count; m above is their number.
        noise: standard deviation sigma of each of the m real numbers, in the units of the measurements.

    Returns:
        The targets, ``(rows,)``.

    Source: Morozov 1966; Engl, Hanke & Neubauer, Regularization of Inverse Problems (1996), section 4.3.
    """
    count = trusted.sum(1).to(measurements.dtype)
    noiseless = NOISELESS_RESIDUAL**2 * (measurements.square() * trusted).sum(1)
    return torch.maximum(noiseless, noise**2 * (count + 2 * (2 * count).sqrt()))
