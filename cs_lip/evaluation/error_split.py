"""What a recovery's error is made of, where the truth is known."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cs_lip.evaluation.metrics import mse
from cs_lip.operators import Identity, LinearOperator
from cs_lip.priors import Generator
from cs_lip.recovery import Candidates, LatentProblem, LevenbergMarquardt, Recovery, recover
from cs_lip.recovery.fidelity import Fidelity
from cs_lip.recovery.trace import Trace
from cs_lip.recovery.uncertainty import draws, pose_recovery

SETTLED = 1e-3
"""The refinement ends nearer to the minimum than a search's own does, since what is left is a difference of errors."""


@dataclass(frozen=True)
class ErrorSplit:
    """Mean squared errors per pixel of one image in [0, 1], which add up to its own.

    Attributes:
        representation: of the nearest image that the generator draws; no measurements could do better.
        measurement: what is added by seeing only some noisy measurements, through a prior that weighs in.
        optimisation: what is added because the search ended elsewhere than at the best known minimum; 0 where it did
            not, negative where luck brought it closer to the truth.
    """

    representation: float
    measurement: float
    optimisation: float

    @property
    def total(self) -> float:
        """The recovery's mean squared error."""
        return self.representation + self.measurement + self.optimisation


def error_split(
    operator: LinearOperator,
    measurements: Tensor,
    generator: Generator,
    recovery: Recovery,
    truth: Tensor,
    *,
    noise: float = 0.0,
    fidelity: Fidelity | None = None,
    restarts: int | None = None,
    seed: int = 0,
) -> tuple[ErrorSplit, ...]:
    """Representation, measurement and optimisation error of every image.

    With the truth ``x``, the recovery ``G(z)`` and the objective ``f`` that its search minimised:

    - ``z_r`` minimises ``|G(z) - x|^2``: the better of a latent search that sees every pixel, and of ``z`` itself;
    - ``z_m`` minimises ``f``: the better, by the measurements alone, of ``z`` and of where a descent of ``f`` from
      ``z_r`` ends, a start that no search without the truth can have;

        MSE(G(z), x) = MSE(G(z_r), x)                       representation
                     + MSE(G(z_m), x) - MSE(G(z_r), x)      measurement
                     + MSE(G(z), x) - MSE(G(z_m), x)        optimisation .

    Both minima are the best known, not proven: more restarts can lower the representation error and raise another.
    The measurement error is not negative but by rounding, unless the search that sees every pixel has missed.

    Args:
        operator, measurements, generator, noise, fidelity: those of `cs_lip.recovery.recover`.
        recovery: of a latent search with its default penalty.
        truth: ``(images, channels, height, width)`` in [0, 1].
        restarts, seed: of the search that sees every pixel.

    Raises:
        ValueError: as `cs_lip.recovery.uncertainty.uncertainty`, but for the noise, which may be 0; images that are not
            the generator's at the recovery's latents; or a truth of another shape than the images.

    Source: the three terms of Bora et al. 2017, section 6.3, there told apart by experiments.
    """
    if truth.shape != recovery.images.shape:
        raise ValueError(
            f"expected a truth of shape {tuple(recovery.images.shape)}, got {tuple(truth.shape)}; try the images that "
            "were measured"
        )
    problem = pose_recovery(operator, measurements, generator, recovery, noise=noise, fidelity=fidelity)
    assert recovery.latents is not None
    if not draws(problem, recovery).all():
        raise ValueError(
            "expected images that the generator draws at the recovery's latents, got some that a solver took on from "
            "there; try solver='latent-search'"
        )
    truth = truth.to(recovery.images)
    nearest = _nearest(generator, truth, recovery, restarts, seed)
    best = _best_minimum(problem, nearest, recovery.latents)
    with torch.no_grad():
        drawn = [problem.generator(latents) for latents in (nearest, best, recovery.latents)]
    errors = [[mse(image, target) for image, target in zip(images, truth, strict=True)] for images in drawn]
    return tuple(ErrorSplit(r, m - r, whole - m) for r, m, whole in zip(*errors, strict=True))


def _nearest(generator: Generator, truth: Tensor, recovery: Recovery, restarts: int | None, seed: int) -> Tensor:
    """``z_r`` of every image."""
    every = Identity(generator.image_shape)
    found = recover(every, truth, generator, solver="latent-search", restarts=restarts, latent_penalty=0.0, seed=seed)
    assert found.latents is not None and recovery.latents is not None
    missed = (found.images - truth).square().flatten(1).sum(1) > (recovery.images - truth).square().flatten(1).sum(1)
    return torch.where(missed.reshape(-1, *[1] * (found.latents.dim() - 1)), recovery.latents, found.latents)


def _best_minimum(problem: LatentProblem, nearest: Tensor, found: Tensor) -> Tensor:
    """``z_m`` of every image."""
    which = torch.arange(len(found), device=found.device)
    refined = LevenbergMarquardt(settled=SETTLED).solve(problem, nearest, which, Trace(problem.problem))
    own = Candidates(found, which, problem.residual(found, which), torch.zeros_like(which, dtype=torch.bool))
    return own.join(refined).best(problem).latents
