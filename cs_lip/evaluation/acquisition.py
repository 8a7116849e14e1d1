"""Taking measurements of known images: the operators by name, the noise, and measurements gone bad."""

import math
from collections.abc import Callable
from dataclasses import dataclass

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

OUTLIER_KINDS = ("gross", "heavy-tail")

GROSS = 10.0
"""The standard deviation of a gross outlier, in root mean squares of the clean measurements of its image."""

DEGREES_OF_FREEDOM = 2
"""Of the heavy-tailed errors: Student's t with a variance that is infinite, as in Jalal et al. 2020."""


@dataclass(frozen=True)
class Outliers:
    """Measurements gone bad, on top of the normal noise.

    ``gross``: ``round(fraction * m)`` of the measurements, the same of every image as by a faulty sensor, have nothing
    to do with the image: each is a normal number with ten times the root mean square of the image's measurements. (For
    Jalal et al. 2020 such rows are of a false operator, and the measurement is 1.)

    ``heavy-tail``: every measurement has an error by Student's t distribution with 2 degrees of freedom, scaled so that
    the share ``fraction`` of errors is larger than the root mean square of the image's measurements; the others are
    mostly larger than usual noise too. Source of the distribution: Jalal, Liu, Dimakis & Caramanis, Robust Compressed
    Sensing using Generative Models, NeurIPS 2020, and their code.

    Attributes:
        fraction: share of measurements, in (0, 0.5). A complex measurement is bad as a whole.
        kind: one of `OUTLIER_KINDS`.

    Raises:
        ValueError: another fraction or kind.
    """

    fraction: float
    kind: str = OUTLIER_KINDS[0]

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 0.5:
            raise ValueError(
                f"the share of outliers must be above 0 and below one half, got {self.fraction}; try 0.02, or none"
            )
        if self.kind not in OUTLIER_KINDS:
            raise ValueError(f"there are no outliers of kind {self.kind!r}; try one of {', '.join(OUTLIER_KINDS)}")


def build_operator(kind: str, image_shape: tuple[int, ...], measurements: int, *, seed: int) -> LinearOperator:
    """The operator ``kind`` with ``measurements`` real measurements, from the stream ``operator`` of ``seed``.

    Raises:
        ValueError: unknown kind, or a number of measurements that the operator cannot take.
    """
    if kind not in OPERATORS:
        raise ValueError(f"there is no operator {kind!r}; try one of {', '.join(OPERATORS)}")
    return OPERATORS[kind](image_shape, measurements, derive_seed(seed, "operator"))


def acquire(
    operator: LinearOperator, images: Tensor, *, noise: float, seed: int, outliers: Outliers | None = None
) -> Tensor:
    """``y = A x + noise`` for ``images`` (images, channels, height, width), as (images, *out_shape).

    Args:
        noise: standard deviation of independent normal noise on every real measurement; a complex sample gets it on
            its real and on its imaginary part.
        seed: its stream ``noise`` draws the noise, and ``outliers`` what goes bad.
        outliers: measurements that go bad besides; None for none.

    Raises:
        ValueError: the noise is negative or not finite.
    """
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(f"the noise must be a finite standard deviation of at least 0, got {noise}; try 0.01")
    with torch.no_grad():
        clean = operator(images)
    parts = torch.view_as_real(clean) if clean.is_complex() else clean[..., None]
    draw = torch.randn(parts.shape, generator=stream(seed, "noise")).to(parts.device, parts.dtype)
    noisy = parts + noise * draw
    if outliers is not None:
        noisy = _contaminated(noisy, parts, outliers, stream(seed, "outliers"))
    return torch.view_as_complex(noisy) if clean.is_complex() else noisy[..., 0]


def _contaminated(noisy: Tensor, clean: Tensor, outliers: Outliers, generator: torch.Generator) -> Tensor:
    """Both ``(images, *out_shape, parts)``, parts 2 for complex measurements and 1 for real ones."""
    flat = noisy.flatten(1, -2)
    images, count, _ = flat.shape
    size = clean.flatten(1).square().mean(1).sqrt()[:, None, None]
    if outliers.kind == "gross":
        bad = torch.randperm(count, generator=generator)[: round(outliers.fraction * count)].to(flat.device)
        draw = torch.randn(images, len(bad), flat.shape[2], generator=generator).to(flat.device, flat.dtype)
        return flat.index_copy(1, bad, GROSS * size * draw).reshape(noisy.shape)
    # |t| exceeds q with probability 1 - q / sqrt(2 + q^2) for two degrees of freedom.
    within = 1 - outliers.fraction
    quantile = within * math.sqrt(DEGREES_OF_FREEDOM / (1 - within**2))
    draw = student_t(flat.shape, DEGREES_OF_FREEDOM, generator).to(flat.device, flat.dtype)
    return (flat + size / quantile * draw).reshape(noisy.shape)


def student_t(shape: torch.Size, degrees: int, generator: torch.Generator) -> Tensor:
    """Numbers of Student's t distribution: a normal one over the root of the mean of ``degrees`` squared others."""
    numerator = torch.randn(shape, generator=generator, dtype=torch.float64)
    others = torch.randn(*shape, degrees, generator=generator, dtype=torch.float64)
    return numerator / others.square().mean(-1).sqrt().clamp(min=torch.finfo(torch.float32).tiny)


def snr_db(clean_energy: float, count: int, noise: float) -> float | None:
    """Signal-to-noise ratio of measurements in dB, 10 log10(|A x|^2 / (count sigma^2)); None without either."""
    if noise == 0 or clean_energy == 0:
        return None
    return 10 * math.log10(clean_energy / (count * noise**2))
