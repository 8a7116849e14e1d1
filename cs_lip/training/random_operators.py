"""Linear estimates as random operators leave them: what an encoder learns from."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cs_lip.operators import (
    Blur,
    Downsample,
    LinearOperator,
    Mask,
    SubsampledDCT,
    SubsampledFourier,
    bernoulli_mask,
    box_mask,
    gaussian_kernel,
)
from cs_lip.operators.vectors import as_real

FEWEST = 20
"""Real measurements that an operator takes at least, where there are as many pixels."""

KINDS = ("gaussian", "gaussian", "gaussian", "centre", "fourier", "dct", "pixels", "box", "blur", "downsample")
"""Of random operators; a Gaussian one is three times as likely as another."""


class Estimates(NamedTuple):
    """What linear estimation makes of the measurements of one operator: ``c_hat = c gain + n spread``, n normal.

    Attributes:
        gain, spread: ``(components, components)``, applied from the right.
        variances: ``(components,)``, error variances of ``c_hat``.
    """

    gain: Tensor
    spread: Tensor
    variances: Tensor


def random_estimates(
    basis: Tensor, variances: Tensor, rest: float, image_shape: tuple[int, int, int], rng: torch.Generator
) -> Estimates:
    """The estimates of `cs_lip.priors.Encoder.from_measurements` for one random operator, with noise or without.

    The number of measurements is log-uniform; three operators in ten have noise, of a log-uniform level.

    Args:
        basis, variances, rest: as in `cs_lip.priors.Encoder`.
    """
    kind = KINDS[int(torch.randint(len(KINDS), (), generator=rng))]
    m = _random_m(basis.shape[1], rng)
    if kind == "gaussian":  # the basis is orthonormal, so its responses are independent normal numbers too
        responses = torch.randn(len(basis), m, generator=rng, dtype=torch.float64) / math.sqrt(m)
    else:
        responses = _responses(random_operator(kind, image_shape, m, rng), basis, image_shape)
    total = float(variances.sum()) + rest
    noisy = _uniform(0, 1, rng) < 0.3
    noise = total * math.exp(_uniform(math.log(1e-6), 0, rng)) if noisy else 0.0
    # Of unit gain, a measurement has the variance total / m, and so much noise would drown it.
    return estimates(responses, variances, (rest + noise) / responses.shape[1])


def estimates(responses: Tensor, variances: Tensor, noise_variance: float) -> Estimates:
    """For responses ``(components, m)`` of unit gain and measurements with white noise of that variance."""
    information = responses @ responses.T / max(noise_variance, 1e-12)
    covariance = torch.linalg.inv(information + torch.diag(1 / variances.double()))
    values, vectors = torch.linalg.eigh(information)
    root = vectors * values.clamp(min=0).sqrt()
    made = (information @ covariance, root.T @ covariance, covariance.diagonal())
    return Estimates(*(part.float().contiguous() for part in made))


def random_operator(kind: str, shape: tuple[int, int, int], m: int, rng: torch.Generator) -> LinearOperator:
    """One of `KINDS`, but Gaussian, with about ``m`` measurements where that can be chosen."""
    seed = int(torch.randint(2**31, (), generator=rng))
    plane, side, n = shape[1:], min(shape[1:]), math.prod(shape)
    match kind:
        case "centre" | "fourier":
            pattern = "centre" if kind == "centre" else "uniform"
            return SubsampledFourier(shape, max(2, m - m % 2), seed=seed, pattern=pattern)
        case "dct":
            return SubsampledDCT(shape, m, seed=seed)
        case "pixels":
            return Mask(bernoulli_mask(plane, keep=max(m / n, 2 / math.prod(plane)), seed=seed), shape)
        case "box":
            return Mask(box_mask(plane, max(1, int(_uniform(0.1, 0.8, rng) * side))), shape)
        case "blur":
            return Blur(shape, gaussian_kernel(max(0.01, _uniform(0.01, 0.1, rng) * (side - 1))))
        case _:
            factors = [f for f in range(1, side // 2 + 1) if all(length % f == 0 for length in plane)] or [1]
            return Downsample(shape, factors[int(torch.randint(len(factors), (), generator=rng))])


def _responses(operator: LinearOperator, basis: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """``A`` of the basis, ``(components, m)``, scaled to unit gain as far as the basis tells it."""
    with torch.no_grad():
        vectors = as_real(operator(basis.reshape(-1, *image_shape)), operator.out_shape).double()
        probes = torch.randn(16, *image_shape, generator=torch.Generator().manual_seed(0))
        gain = as_real(operator(probes), operator.out_shape).square().sum() / probes.square().sum()
    responses: Tensor = vectors / max(float(gain), 1e-12) ** 0.5
    return responses


def _random_m(n: int, rng: torch.Generator) -> int:
    return int(math.exp(_uniform(math.log(min(FEWEST, n)), math.log(n), rng)))


def _uniform(low: float, high: float, rng: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng))
