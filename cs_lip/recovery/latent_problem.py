"""The latent search problem: find latents whose image explains the measurements."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cs_lip.priors import Generator, has_fast_bfloat16
from cs_lip.recovery.problem import Problem, check_level

DEFAULT_PENALTY = 2.5e-4
"""Weight of |z|^2 beside the squared image error: CSGM's 0.001, which is for images in [-1, 1], on our [0, 1]."""

Weigh = Callable[[Tensor, slice], Tensor]
"""From the residuals of some rows ``(rows, m)``, and which rows these are, to their weights ``(rows, m)``."""


@dataclass(frozen=True)
class LatentProblem:
    """A `Problem` whose images are to be drawn by one generator. Made by `pose_latents`, which checks it.

    The objective for the image with measurements ``y`` is

        f(z) = rho(A G(z) - y) / gain + penalty |z|^2 ,

    where ``rho`` is the fidelity, by default the squared residual, and ``gain = E|A u|^2 / |u|^2``. The first term then
    estimates the squared error |G(z) - x|^2 of the image whatever the operator and its normalisation, and the penalty
    is a Gaussian prior on ``z`` (Bora et al. 2017, eq. 3).

    Solvers work on rows: ``latents`` is ``(rows, *latent_shape)`` and ``which`` says, for every row, the index of the
    image that it tries to explain, so that several starts of several images run in one batch.

    ``coarse=True`` asks for images and tangents in bfloat16, which is enough to look around or for a Jacobian, and
    several times faster where `has_fast_bfloat16`; elsewhere, and in other precisions than float32, it changes nothing.
    """

    problem: Problem
    generator: Generator
    coarse: Generator
    penalty: float
    relaxes: bool

    @property
    def images(self) -> int:
        """How many images are recovered."""
        return self.problem.images

    def residual(self, latents: Tensor, which: Tensor) -> Tensor:
        """``A G(z) - y`` of every row, ``(rows, m)``, without gradients."""
        with torch.no_grad():
            parts = [self._residual(latents[rows], which[rows], self.generator) for rows in self._chunks(len(latents))]
        return torch.cat(parts)

    def objective(self, residual: Tensor, latents: Tensor, penalty: float | None = None) -> Tensor:
        """f(z) of every row from its residual; ``penalty`` replaces the problem's own where given."""
        weight = self.penalty if penalty is None else penalty
        return self.problem.misfit(residual) / self.problem.gain + weight * latents.flatten(1).square().sum(1)

    def gradient(
        self, latents: Tensor, which: Tensor, *, coarse: bool = False, weigh: Weigh | None = None
    ) -> tuple[Tensor, Tensor]:
        """The residuals ``(rows, m)`` and the gradient of f, shaped like ``latents``.

        ``weigh`` gives the weights of the squared residuals of some rows where they are not the fidelity's.
        """
        residuals, gradients = [], []
        generator = self.coarse if coarse else self.generator
        for rows in self._chunks(len(latents)):
            part = latents[rows].detach().requires_grad_()
            with torch.enable_grad():
                residual = self._residual(part, which[rows], generator)
                seen = residual.detach()
                weights = self.problem.fidelity.weights(seen) if weigh is None else weigh(seen, rows)
                squares = (weights * residual.square()).sum() / self.problem.gain
                total = squares + self.penalty * part.square().sum()
            gradients.append(torch.autograd.grad(total, part)[0])
            residuals.append(seen)
        return torch.cat(residuals), torch.cat(gradients)

    def linearise(self, latent: Tensor, *, coarse: bool = False) -> Tensor:
        """The Jacobian of ``z -> A G(z)`` at one latent, transposed: ``(k, m)``, row i the i-th tangent's response.

        All k tangents are pushed forward (forward mode): k may be as large as the measurements are many, and the
        primal is shared within a chunk.
        """
        dtype = self.coarse.dtype if coarse else latent.dtype
        basis = torch.eye(latent.numel(), dtype=dtype, device=latent.device).reshape(-1, *latent.shape)
        with torch.no_grad():
            parts = [
                self.problem.measure(self.generator.push(latent, basis[rows]).to(latent.dtype))
                for rows in self._chunks(len(basis))
            ]
        return torch.cat(parts)

    def relaxed_penalty(self, residual: Tensor) -> float:
        """The penalty that suits the fit of one row ``(1, m)`` so far, never above ``penalty``; constant where the
        caller fixed it.

        As the weight of a standard normal prior it should be the variance of what the image leaves unexplained, seen
        through A. While the fit is poor that is a guess and `DEFAULT_PENALTY` stands; once the mean squared residual
        is below it, the residual is the better estimate (empirical Bayes), down to the noise.
        """
        if not self.relaxes:
            return self.penalty
        variance = float(self.problem.variance(residual))
        return min(self.penalty, max(variance, self.problem.noise**2) / self.problem.gain)

    def explained(self, residual: Tensor, which: Tensor) -> Tensor:
        """Whether each row's residual is at the noise; see `Problem.explained`."""
        return self.problem.explained(residual, which)

    def _residual(self, latents: Tensor, which: Tensor, generator: Generator) -> Tensor:
        return self.problem.residual(generator(latents.to(generator.dtype)).to(latents.dtype), which)

    def _chunks(self, rows: int) -> Iterator[slice]:
        size = self.generator.rows_at_once
        return (slice(start, start + size) for start in range(0, rows, size))


def pose_latents(problem: Problem, generator: Generator, latent_penalty: float | None = None) -> LatentProblem:
    """Check and complete a `LatentProblem`; see `cs_lip.recovery.recover` for the penalty.

    The generator is folded and frozen; the caller's own is left alone.

    Raises:
        ValueError: the generator draws images of another shape than the operator measures, a penalty that is negative
            or not finite, or one on the latents of a sphere.
    """
    operator = problem.operator
    if tuple(operator.in_shape) != generator.image_shape:
        raise ValueError(
            f"the operator measures images of shape {tuple(operator.in_shape)}, but the generator draws "
            f"{generator.image_shape}; try an operator or a generator of the other's shape"
        )
    if latent_penalty is not None:
        check_level("latent penalty", latent_penalty)
    if latent_penalty and generator.geometry == "sphere":
        raise ValueError(
            f"the latent penalty is {latent_penalty}, but this generator normalises its latents, so that their length "
            "says nothing; try 0"
        )
    folded = generator.fold()
    penalty = _default_penalty(generator, problem) if latent_penalty is None else latent_penalty
    return LatentProblem(problem, folded, _coarse(folded), penalty, relaxes=latent_penalty is None)


def _default_penalty(generator: Generator, problem: Problem) -> float:
    """None where the generator normalises its latents, so that their length says nothing."""
    return 0.0 if generator.geometry == "sphere" else max(DEFAULT_PENALTY, problem.noise**2 / problem.gain)


def _coarse(generator: Generator) -> Generator:
    """The generator in bfloat16 where that is faster, else the generator itself."""
    if generator.dtype != torch.float32 or not has_fast_bfloat16(generator.device):
        return generator
    return copy.deepcopy(generator).to(torch.bfloat16)
