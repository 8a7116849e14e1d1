"""The latent search problem: find latents whose image explains the measurements."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cs_lip.operators import LinearOperator
from cs_lip.operators.vectors import as_real
from cs_lip.priors import Generator, has_fast_bfloat16
from cs_lip.recovery.stopping import discrepancy_target

DEFAULT_PENALTY = 2.5e-4
"""Weight of |z|^2 beside the squared image error: CSGM's 0.001, which is for images in [-1, 1], on our [0, 1]."""

GAIN_PROBES = 16

MOST = 1e12
"""Of noise and penalty: what float32 can still square and sum."""


def mean_gain(operator: LinearOperator, generator: Generator) -> float:
    """The factor by which ``A`` scales the energy of a random image, E|A u|^2 / E|u|^2 = ||A||_F^2 / n.

    It is 1 for a Gaussian operator of variance 1/m, m for one of variance 1, and about m/(2n) for subsampled Fourier.
    Estimated with normal probes from a fixed seed (Hutchinson 1990), to about one percent, so that the same latent
    penalty means the same for every operator.
    """
    rng = torch.Generator().manual_seed(0)
    probes = torch.randn(GAIN_PROBES, *generator.image_shape, generator=rng).to(generator.device, generator.dtype)
    with torch.no_grad():
        return float(as_real(operator(probes), operator.out_shape).square().sum() / probes.square().sum())


@dataclass(frozen=True)
class Problem:
    """Measurements of a batch of images, to be explained by one generator. Made by `pose`, which checks it.

    The objective for the image with measurements ``y`` is

        f(z) = |A G(z) - y|^2 / gain + penalty |z|^2 ,

    with ``gain = E|A u|^2 / |u|^2``. The first term then estimates the squared error |G(z) - x|^2 of the image whatever
    the operator and its normalisation, and the penalty is a Gaussian prior on ``z`` (Bora et al. 2017, eq. 3).

    Solvers work on rows: ``latents`` is ``(rows, *latent_shape)`` and ``which`` says, for every row, the index of the
    image that it tries to explain, so that several starts of several images run in one batch.

    ``coarse=True`` asks for images and tangents in bfloat16, which is enough to look around or for a Jacobian, and
    several times faster where `has_fast_bfloat16`; elsewhere, and in other precisions than float32, it changes nothing.
    """

    operator: LinearOperator
    generator: Generator
    coarse: Generator
    measurements: Tensor
    noise: float
    gain: float
    penalty: float
    relaxes: bool
    targets: Tensor

    @property
    def images(self) -> int:
        """How many images are recovered."""
        return self.measurements.shape[0]

    @property
    def m(self) -> int:
        """Real measurements of each image."""
        return self.measurements.shape[1]

    def measure(self, latents: Tensor, *, coarse: bool = False) -> Tensor:
        """``A G(z)`` as real vectors, ``(rows, m)``."""
        generator = self.coarse if coarse else self.generator
        images = generator(latents.to(generator.dtype)).to(latents.dtype)
        return as_real(self.operator(images), self.operator.out_shape)

    def energy(self, latents: Tensor, which: Tensor) -> Tensor:
        """The squared residual |A G(z) - y|^2 of every row, without gradients."""
        with torch.no_grad():
            parts = [
                (self.measure(latents[rows]) - self.measurements[which[rows]]).square().sum(1)
                for rows in self._chunks(len(latents))
            ]
        return torch.cat(parts)

    def objective(self, energy: Tensor, latents: Tensor, penalty: float | None = None) -> Tensor:
        """f(z) of every row from its squared residual; ``penalty`` replaces the problem's own where given."""
        weight = self.penalty if penalty is None else penalty
        return energy / self.gain + weight * latents.flatten(1).square().sum(1)

    def gradient(self, latents: Tensor, which: Tensor, *, coarse: bool = False) -> tuple[Tensor, Tensor]:
        """The squared residuals ``(rows,)`` and the gradient of f, shaped like ``latents``."""
        energies, gradients = [], []
        for rows in self._chunks(len(latents)):
            part = latents[rows].detach().requires_grad_()
            with torch.enable_grad():
                energy = (self.measure(part, coarse=coarse) - self.measurements[which[rows]]).square().sum(1)
                total = self.objective(energy, part).sum()
            gradients.append(torch.autograd.grad(total, part)[0])
            energies.append(energy.detach())
        return torch.cat(energies), torch.cat(gradients)

    def linearise(self, latent: Tensor, *, coarse: bool = False) -> Tensor:
        """The Jacobian of ``z -> A G(z)`` at one latent, transposed: ``(k, m)``, row i the i-th tangent's response.

        All k tangents are pushed forward (forward mode): k may be as large as the measurements are many, and the
        primal is shared within a chunk.
        """
        dtype = self.coarse.dtype if coarse else latent.dtype
        basis = torch.eye(latent.numel(), dtype=dtype, device=latent.device).reshape(-1, *latent.shape)
        with torch.no_grad():
            parts = [
                self.operator(self.generator.push(latent, basis[rows]).to(latent.dtype))
                for rows in self._chunks(len(basis))
            ]
        return as_real(torch.cat(parts), self.operator.out_shape)

    def relaxed_penalty(self, energy: float) -> float:
        """The penalty that suits the fit so far, never above ``penalty``; constant where the caller fixed it.

        As the weight of a standard normal prior it should be the variance of what the image leaves unexplained, seen
        through A. While the fit is poor that is a guess and `DEFAULT_PENALTY` stands; once the mean squared residual,
        ``energy / m``, is below it, the residual is the better estimate (empirical Bayes), down to the noise.
        """
        if not self.relaxes:
            return self.penalty
        return min(self.penalty, max(energy / self.m, self.noise**2) / self.gain)

    def explained(self, energy: Tensor, which: Tensor) -> Tensor:
        """Whether each row's squared residual is at the noise; see `discrepancy_target`."""
        return energy <= self.targets[which]

    def relative_residual(self, energy: Tensor, which: Tensor) -> Tensor:
        """|A G(z) - y| / |y| of every row."""
        return (energy / self.measurements[which].square().sum(1).clamp(min=1e-30)).sqrt()

    def _chunks(self, rows: int) -> Iterator[slice]:
        size = self.generator.rows_at_once
        return (slice(start, start + size) for start in range(0, rows, size))


def pose(
    operator: LinearOperator,
    measurements: Tensor,
    generator: Generator,
    *,
    noise: float = 0.0,
    latent_penalty: float | None = None,
) -> Problem:
    """Check and complete a `Problem`; see `cs_lip.recovery.recover` for the arguments and what it raises."""
    generator = generator.fold()
    if tuple(operator.in_shape) != generator.image_shape:
        raise ValueError(
            f"the operator measures images of shape {tuple(operator.in_shape)}, but the generator draws "
            f"{generator.image_shape}; try an operator or a generator of the other's shape"
        )
    for name, value in (("noise", noise), ("latent penalty", latent_penalty)):
        if value is not None and not 0 <= value <= MOST:
            raise ValueError(f"the {name} must be a number from 0 to {MOST:g}, got {value}; try 0")
    if latent_penalty and generator.geometry == "sphere":
        raise ValueError(
            f"the latent penalty is {latent_penalty}, but this generator normalises its latents, so that their length "
            "says nothing; try 0"
        )
    vectors = _checked_vectors(operator, measurements).to(generator.device, generator.dtype)
    gain = mean_gain(operator, generator)
    if gain <= 0:
        raise ValueError("the operator maps every image to zero, so its measurements tell nothing; try another one")
    penalty = _default_penalty(generator, noise, gain) if latent_penalty is None else latent_penalty
    targets = discrepancy_target(vectors, noise)
    coarse = _coarse(generator)
    return Problem(operator, generator, coarse, vectors, noise, gain, penalty, latent_penalty is None, targets)


def _default_penalty(generator: Generator, noise: float, gain: float) -> float:
    """None where the generator normalises its latents, so that their length says nothing."""
    return 0.0 if generator.geometry == "sphere" else max(DEFAULT_PENALTY, noise**2 / gain)


def _coarse(generator: Generator) -> Generator:
    """The generator in bfloat16 where that is faster, else the generator itself."""
    if generator.dtype != torch.float32 or not has_fast_bfloat16(generator.device):
        return generator
    return copy.deepcopy(generator).to(torch.bfloat16)


def _checked_vectors(operator: LinearOperator, measurements: Tensor) -> Tensor:
    """The measurements as ``(images, m)`` real numbers, refused where they do not belong to the operator."""
    shape = tuple(operator.out_shape)
    batched = measurements.unsqueeze(0) if tuple(measurements.shape) == shape else measurements
    if batched.dim() != len(shape) + 1 or tuple(batched.shape[1:]) != shape or len(batched) == 0:
        raise ValueError(
            f"measurements of shape {tuple(measurements.shape)} do not come from this operator, which gives {shape} "
            f"for one image; try (images, {', '.join(map(str, shape))})"
        )
    vectors = as_real(batched, shape)
    if vectors.shape[1] != operator.m:
        kinds = ("real", "complex") if batched.is_complex() else ("complex", "real")
        raise ValueError(
            f"the measurements are {kinds[1]}, but the operator gives {kinds[0]} ones; try y = A(x) of this operator"
        )
    bad = int((~torch.isfinite(vectors)).sum())
    if bad:
        raise ValueError(
            f"{bad} of {vectors.numel()} measurements are NaN or infinite; try to drop them, with an operator that "
            "leaves those rows out"
        )
    return vectors
