"""How far a recovered image may be from the truth: the posterior over latents, to second order around the recovery."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from cs_lip.operators import LinearOperator
from cs_lip.priors import Generator
from cs_lip.priors.encoder import on_sphere
from cs_lip.recovery.fidelity import Fidelity
from cs_lip.recovery.latent_problem import LatentProblem, pose_latents
from cs_lip.recovery.problem import beside, pose
from cs_lip.recovery.solution import Recovery

LEVEL = 0.9
"""The share of pixels that a band should cover where nobody asks for another."""

ROUNDING = 1e-3
"""Difference of two drawings of one latent at most, whatever their precision."""

SAME = 1e-2
"""Root mean squared difference up to which two images count as one solution: what an eye hardly tells apart."""


@dataclass(frozen=True)
class Uncertainty:
    """A posterior as seen in the pixels.

    Attributes:
        images: ``(images, channels, height, width)`` in [0, 1], what the band is around.
        sd: the standard deviation of every pixel, shaped like ``images``; NaN for images that do not explain their
            measurements.
    """

    images: Tensor
    sd: Tensor

    def band(self, level: float = LEVEL) -> tuple[Tensor, Tensor]:
        """The central interval of a normal distribution that holds ``level`` of it, ``images -+ q sd``, cut to [0, 1].

        Raises:
            ValueError: the level is not inside (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"the level of a band must be between 0 and 1, got {level}; try {LEVEL}")
        reach = NormalDist().inv_cdf((1 + level) / 2) * self.sd
        return (self.images - reach).clamp(0, 1), (self.images + reach).clamp(0, 1)

    def coverage(self, truth: Tensor, level: float = LEVEL) -> Tensor:
        """The share of each image's pixels that the band holds, ``(images,)``; NaN where there is no band."""
        low, high = self.band(level)
        inside = ((low <= truth) & (truth <= high)).flatten(1).to(self.sd.dtype).mean(1)
        shares: Tensor = torch.where(self.sd.flatten(1).isnan().any(1), torch.nan, inside)
        return shares


@dataclass(frozen=True)
class NormalLatents:
    """The normal distribution N(latent, H^-1) that `laplace` puts on the latents of one image.

    Attributes:
        latent: ``latent_shape``.
        root: ``(k, k)``, the lower Cholesky factor of the precision H, in double precision.
        tangents: ``(k, n)``, the Jacobian of G at ``latent``, transposed.
    """

    latent: Tensor
    root: Tensor
    tangents: Tensor

    def pixel_sd(self) -> Tensor:
        """``sqrt(diag(J H^-1 J^T))``, ``(n,)``."""
        whitened: Tensor = torch.linalg.solve_triangular(self.root, self.tangents.double(), upper=False)
        return whitened.square().sum(0).sqrt().to(self.tangents.dtype)


def laplace(problem: LatentProblem, latents: Tensor) -> Uncertainty:
    """Pixelwise standard deviations by Laplace's approximation, at the cost of one Jacobian of G for each image.

    The noise ``N(0, sigma^2)`` on every measurement and the prior ``N(0, I)`` on latents make the posterior density
    proportional to ``exp(-E(z))`` with

        E(z) = rho(A G(z) - y) / (2 sigma^2) + |z|^2 / 2  =  gain / (2 sigma^2) f(z) ,

    where ``f`` is the objective of the search with the penalty ``sigma^2 / gain``; that is what searches end with,
    unless a penalty was fixed. Around the minimum, G is replaced by its tangent (Gauss-Newton), so that

        z ~ N(z_hat, H^-1) ,   H = J^T A^T W A J / sigma^2 + I ,   sd = sqrt(diag(J H^-1 J^T)) ,

    with the Jacobian ``J = dG/dz`` and the fidelity's weights ``W`` (1 for least squares). It says nothing about other
    minima: see `spread`. Nor does it about what G cannot draw, so that images outside the range, which show by
    residuals above the noise, get NaN instead of a band that would be too narrow.

    Where the network normalises its latents, they are first put at the length ``sqrt(k)``: directions are uniform, and
    a uniform direction has in the tangent plane the density ``(1 + |t|^2 / k)^(-k / 2)``, about ``exp(-|t|^2 / 2)``.

    Memory: the Jacobian's n x k numbers, in double precision.

    Args:
        problem: with a noise above 0.
        latents: ``(images, *latent_shape)``, where the search for each image ended.

    Raises:
        ValueError: the problem states no noise, or there is not one latent for each of its images.

    Source: MacKay, A practical Bayesian framework for backpropagation networks, Neural Computation 1992; Bishop,
    Pattern Recognition and Machine Learning (2006), section 4.4.
    """
    latents = checked_latents(problem, latents)
    which = torch.arange(problem.images, device=latents.device)
    explained = problem.explained(problem.residual(latents, which), which)
    with torch.no_grad():
        images = problem.generator(latents).contiguous()
    sd = torch.full_like(images, torch.nan)
    for image, normal in normal_latents(problem, latents):
        if explained[image]:
            sd[image] = normal.pixel_sd().reshape(images.shape[1:])
    return Uncertainty(images, sd)


def uncertainty(
    operator: LinearOperator,
    measurements: Tensor,
    generator: Generator,
    recovery: Recovery,
    *,
    noise: float,
    fidelity: Fidelity | None = None,
) -> Uncertainty:
    """`laplace` of a finished recovery.

    Args:
        operator, measurements, generator, noise, fidelity: those of `cs_lip.recovery.recover`; the noise above 0.
        recovery: of a latent search. Images that a solver took on from there are not the generator's, so that a
            posterior over latents says nothing of them: they get NaN too.

    Raises:
        ValueError: as `cs_lip.recovery.recover`, a noise of 0, or a recovery without latents.
    """
    problem = pose_recovery(operator, measurements, generator, recovery, noise=noise, fidelity=fidelity)
    assert recovery.latents is not None
    found = laplace(problem, recovery.latents)
    drawn = draws(problem, recovery).reshape(-1, 1, 1, 1)
    return Uncertainty(recovery.images, torch.where(drawn, found.sd, torch.nan))


def spread(images: Tensor, tolerance: float = SAME) -> tuple[Tensor, int]:
    """Whether different starts end with different images, all of which explain the measurements.

    The posterior may have several modes, of which `laplace` sees the one it stands at. Images that differ by no more
    than the tolerance count as one solution, whatever the number of starts that led there.

    Args:
        images: ``(solutions, channels, height, width)``, of one set of measurements, each with status ``converged``:
            from several seeds, or the explained rows of a `cs_lip.recovery.Candidates`.
        tolerance: root mean squared difference of two images, in intensity.

    Returns:
        The standard deviation of every pixel over the distinct solutions (population, so 0 where there is one), and
        their number.

    Raises:
        ValueError: there is no image, or the tolerance is negative.
    """
    if images.dim() != 4 or len(images) == 0:
        raise ValueError(
            f"expected images (solutions, channels, height, width), got {tuple(images.shape)}; try those whose status "
            "is converged"
        )
    if not tolerance >= 0:
        raise ValueError(f"the tolerance must be a number from 0 on, got {tolerance}; try {SAME}")
    distinct: list[Tensor] = []
    for image in images:
        if all(float((image - other).square().mean().sqrt()) > tolerance for other in distinct):
            distinct.append(image)
    return torch.stack(distinct).std(0, correction=0), len(distinct)


def normal_latents(problem: LatentProblem, latents: Tensor) -> Iterator[tuple[int, NormalLatents]]:
    """Every image's index and Laplace approximation, one after the other; the latents as `checked_latents` gives them.

    The tangents of G are pushed once and then measured.
    """
    for image, latent in enumerate(latents):
        basis = torch.eye(latent.numel(), dtype=latent.dtype, device=latent.device).reshape(-1, *latent.shape)
        pieces = torch.split(basis, problem.generator.rows_at_once)
        with torch.no_grad():
            pushed = [problem.generator.push(latent, piece) for piece in pieces]
            measured = torch.cat([problem.problem.measure(piece) for piece in pushed]).double()
        weights = problem.problem.fidelity.weights(problem.residual(latent[None], torch.tensor([image]))).double()
        told = (measured * weights) @ measured.T / problem.problem.noise**2
        precision = told + torch.eye(len(told), dtype=told.dtype, device=told.device)
        root = torch.linalg.cholesky(precision)
        yield image, NormalLatents(latent, root, torch.cat(pushed).flatten(1))


def checked_latents(problem: LatentProblem, latents: Tensor) -> Tensor:
    """The latents, of length ``sqrt(k)`` where only their direction counts.

    Raises:
        ValueError: see `laplace`.
    """
    if problem.problem.noise == 0:
        raise ValueError("uncertainty needs the noise on the measurements, got noise=0; try noise=0.01")
    expected = (problem.images, *problem.generator.latent_shape)
    if tuple(latents.shape) != expected:
        raise ValueError(f"expected latents of shape {expected}, got {tuple(latents.shape)}; try recovery.latents")
    if problem.generator.geometry == "sphere":
        return on_sphere(latents)
    return latents


def pose_recovery(
    operator: LinearOperator,
    measurements: Tensor,
    generator: Generator,
    recovery: Recovery,
    *,
    noise: float,
    fidelity: Fidelity | None = None,
) -> LatentProblem:
    """The latent problem that a recovery solved; see `uncertainty` for the arguments and what it raises."""
    problem = pose_latents(pose(operator, beside(generator, measurements), noise=noise, fidelity=fidelity), generator)
    if recovery.latents is None:
        raise ValueError(
            "expected a recovery with latents, got one of a solver that searches none; try a latent search such as "
            "solver='latent-search'"
        )
    return problem


def draws(problem: LatentProblem, recovery: Recovery) -> Tensor:
    """Which images of a recovery the generator draws at its latents, ``(images,)``."""
    assert recovery.latents is not None
    with torch.no_grad():
        difference: Tensor = (problem.generator(recovery.latents) - recovery.images).flatten(1)
    return difference.abs().amax(1) <= ROUNDING
