"""Sparse deviations from a generator's range."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from cs_lip.recovery.baselines.frame import check
from cs_lip.recovery.baselines.path import PenalisedLeastSquares
from cs_lip.recovery.latent_problem import pose_latents
from cs_lip.recovery.latent_search import LatentSearch
from cs_lip.recovery.levenberg_marquardt import LevenbergMarquardt
from cs_lip.recovery.problem import Problem
from cs_lip.recovery.solution import Status
from cs_lip.recovery.solver import Found, Note, Solver, Task
from cs_lip.recovery.tuning import beyond_the_range, found_latents

if TYPE_CHECKING:
    from cs_lip.recovery.baselines.descent import Descent

Basis = Literal["wavelet", "dct", "pixel"]
"""In which deviations are sparse: see `cs_lip.recovery.baselines.sparsity.sparsifying`; ``pixel`` is the identity."""


@dataclass(frozen=True)
class SparseDeviation:
    """Latent search, and then images ``G(z) + v`` whose deviation ``v`` from the range is sparse in a transform W.

    Images that the search explains down to the noise are in the generator's range and stay as they are. For the others

        min_{z, v}  |A (G(z) + v) - y|^2 / 2 + lambda |W v|_1

    is lowered by turns, from the latent found: v by the lasso on the measurements y - A G(z), with the lambda that
    predicts held-out measurements best (`PenalisedLeastSquares`); z by Levenberg-Marquardt on y - A v, with the penalty
    on |z|^2 of the search; and v again. The last v counts.

    It departs from Sparse-Gen as published in three places: the alternation, where that takes gradient steps in z and v
    together; lambda, which is fixed there; and the coarsest coefficients of W, which `Lasso` does not count either.

    Cost beside the search: each round that of one `Lasso`, and each but the first a few Jacobians of the generator.

    Source: Dhar, Grover & Ermon, Modeling Sparse Deviations for Compressed Sensing using Generative Models, ICML 2018,
    section 3.

    Attributes:
        search: finds the latents to start from.
        transform: W: ``wavelet`` or ``dct`` as in `Lasso`, or ``pixel``, the identity.
        rounds: how often v is estimated.
        refine: moves z.

    Raises:
        ValueError: an unknown transform, or fewer than one round.
    """

    search: Solver = field(default_factory=LatentSearch)
    transform: Basis = "wavelet"
    rounds: int = 2
    refine: LevenbergMarquardt = field(default_factory=lambda: LevenbergMarquardt(iterations=10))

    def __post_init__(self) -> None:
        _check_transform(self.transform)
        if self.rounds < 1:
            raise ValueError(f"the rounds must be at least 1, got {self.rounds}; try 2")

    def recover(self, task: Task) -> Found:
        """See `cs_lip.recovery.Solver`; the latents that come back draw the images without their deviations.

        Raises:
            ValueError: a fidelity other than least squares.
        """
        check(task.problem)
        found = self.search.recover(task)
        moved = found_latents(found).clone()

        def improve(start: Found, which: Tensor) -> tuple[Tensor, Tensor, tuple[Note, ...]]:
            part = task.only(which)
            latents, base = moved[which], start.images[which]
            deviated = deviate(part, base, self.transform)
            for _ in range(self.rounds - 1):
                if task.trace.cancelled:
                    break
                latents, base = self._refined(part, latents, deviated.images - base)
                deviated = deviate(part, base, self.transform)
            moved[which] = latents
            return deviated

        return replace(beyond_the_range(task, found, improve), latents=moved)

    def _refined(self, task: Task, latents: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        """Latents that draw what the deviations leave of the measurements, and their images."""
        with torch.no_grad():
            left = replace(task.problem, measurements=task.problem.measurements - task.problem.measure(deviation))
            problem = pose_latents(left, task.generator, task.latent_penalty)
            every = torch.arange(problem.images, device=latents.device)
            refined = self.refine.solve(problem, latents, every, task.trace).latents
            return refined, problem.generator(refined).contiguous()


class Deviated(NamedTuple):
    """Images with their sparse deviations, ``(images, *A.in_shape)`` in [0, 1]; whether each ran out of iterations,
    ``(images,)``; and a note for each: ``lambda``, ``held_out_misfit`` and what else `PenalisedLeastSquares` says.
    """

    images: Tensor
    exhausted: Tensor
    notes: tuple[Note, ...]


def deviate(task: Task, images: Tensor, transform: Basis) -> Deviated:
    """Sparse deviations on top of any images: ``b + v`` with v of

        min_v  |A (b + v) - y|^2 / 2 + lambda |W v|_1 ,

    lambda by held-out measurements, see `PenalisedLeastSquares`.

    Args:
        images: ``b``, ``(images, *A.in_shape)``, one for each of the task's.
        transform: W, see `SparseDeviation`.

    Raises:
        ValueError: an unknown transform, images of another shape, images that are complex or no pictures, or a fidelity
            other than least squares.
    """
    _check_transform(transform)
    expected = (task.problem.images, *task.problem.operator.in_shape)
    if tuple(images.shape) != expected:
        raise ValueError(f"the images to deviate from have shape {tuple(images.shape)}, expected {expected}; try those")
    places = torch.arange(len(images), device=images.device)
    found = [
        _Deviation(base=image, transform=transform).recover(task.only(place[None]))
        for image, place in zip(images, places, strict=True)
    ]
    ran_out = [one.status == (Status.MAX_ITERATIONS,) for one in found]
    return Deviated(
        torch.cat([one.images for one in found]),
        torch.tensor(ran_out, device=images.device),
        tuple(note for one in found for note in one.notes),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Deviation(PenalisedLeastSquares):
    """The lasso around an image ``base``, ``A.in_shape``."""

    base: Tensor
    transform: Basis
    final_iterations: int = 400

    def descent(self, problem: Problem, squared_norm: float) -> "Descent":
        """See `PenalisedLeastSquares`."""
        import pylops
        import pyproximal

        from cs_lip.recovery.baselines.descent import Descent
        from cs_lip.recovery.baselines.sparsity import sparsifying

        if self.transform == "pixel":
            size = problem.operator.n
            W, penalised = pylops.Identity(size, dtype=np.float32), np.ones(size, np.float32)
        else:
            W, penalised = sparsifying(self.transform, problem.operator.in_shape)
        return Descent(problem, W, lambda level: pyproximal.L1(level * penalised), penalised, squared_norm, self.base)


def _check_transform(transform: str) -> None:
    if transform not in get_args(Basis):
        raise ValueError(f"the transform must be one of {', '.join(get_args(Basis))}, got {transform!r}; try 'wavelet'")
