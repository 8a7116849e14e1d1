"""Back-projection: what the measurements still say about an image that does not quite explain them."""

import torch
from torch import Tensor

from cs_lip.recovery.fidelity import LeastSquares
from cs_lip.recovery.problem import Problem

ITERATIONS = 30
TOLERANCE = 1e-4


def back_project(problem: Problem, images: Tensor, variance: Tensor) -> Tensor:
    """x + s^2 A^H (s^2 A A^H + sigma^2)^-1 (y - A x): the images, moved towards their measurements.

    It is the mean of the image, given the measurements, where its error is white of variance ``s^2`` a value (Wiener
    filter); without noise, the orthogonal projection onto the images that explain the measurements. By conjugate
    gradients on A A^H. Fidelities other than least squares leave the images as they are, since outliers would be
    explained too.

    Source: Hussein, Tirer & Giryes, Image-Adaptive GAN based Reconstruction, AAAI 2020, section 4 (IAGAN's
    back-projection step, there without noise).

    Args:
        images: ``(images, *A.in_shape)``, one for each of the problem's.
        variance: ``s^2``, ``(images,)``; where it is not above 0 the image stays as it is.
    """
    if not isinstance(problem.fidelity, LeastSquares):
        return images
    sure = torch.isfinite(variance) & (variance > 0)
    ridge = problem.noise**2 / torch.where(sure, variance, torch.ones_like(variance))
    every = torch.arange(len(images), device=images.device)
    with torch.no_grad():
        moved = images + problem.adjoint(_solve(problem, -problem.residual(images, every), ridge[:, None]))
    return torch.where(sure[:, None, None, None], moved, images)


def error_variance(problem: Problem, misfit: Tensor) -> Tensor:
    """The mean squared error a value of images whose mean squared residual on measurements that they were not fitted to
    is ``misfit``, ``(images,)``: (misfit - sigma^2) / (gain n / m), for rows that see the whole image alike; at least
    0.
    """
    return (misfit - problem.noise**2).clamp(min=0) / (problem.gain * problem.operator.n / problem.m)


def _solve(problem: Problem, right: Tensor, ridge: Tensor) -> Tensor:
    """(A A^H + ridge)^-1 right, by conjugate gradients (Hestenes & Stiefel 1952), all rows at once."""
    solution, residual, direction = torch.zeros_like(right), right, right
    size = goal = right.square().sum(1, keepdim=True)
    goal = TOLERANCE**2 * goal
    for _ in range(ITERATIONS):
        if bool((size <= goal).all()):
            break
        curved = problem.measure(problem.adjoint(direction)) + ridge * direction
        length = size / (direction * curved).sum(1, keepdim=True).clamp(min=torch.finfo(right.dtype).tiny)
        solution, residual = solution + length * direction, residual - length * curved
        before, size = size, residual.square().sum(1, keepdim=True)
        direction = residual + size / before.clamp(min=torch.finfo(right.dtype).tiny) * direction
    return solution
