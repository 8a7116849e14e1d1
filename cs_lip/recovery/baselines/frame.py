"""What the classical solvers share: which problems they take, image by image, and how they hand images back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cs_lip.recovery.fidelity import LeastSquares
from cs_lip.recovery.problem import LEAST_HELD_OUT, Problem
from cs_lip.recovery.solution import Status
from cs_lip.recovery.solver import Found, Note, Task, judged

Array = npt.NDArray[np.float32]

Transform = Literal["dct", "wavelet"]
"""See `cs_lip.recovery.baselines.sparsity.sparsifying`."""


@dataclass(frozen=True)
class Estimate:
    """One image, how it was chosen, and whether the iterations ran out while it still moved."""

    image: Tensor
    note: Note
    exhausted: bool = False


def image_by_image(task: Task, estimate: Callable[[Problem, int], Estimate]) -> Found:
    """The answer to a task from ``estimate(problem of one image, its index)``; images are clipped to [0, 1]."""
    problem = task.problem
    estimates = [estimate(problem.only(torch.tensor([index])), index) for index in range(problem.images)]
    every = torch.arange(problem.images, device=problem.measurements.device)
    images = torch.stack([one.image for one in estimates]).to(problem.measurements)
    images = images.nan_to_num(nan=0.0).clamp(0, 1)  # of measurements whose squares single precision does not hold
    with torch.no_grad():
        residual = problem.residual(images, every)
    exhausted = torch.tensor([one.exhausted for one in estimates])
    status = judged(problem, residual, every, exhausted, otherwise=Status.STOPPED)
    return Found(images, residual, status, notes=tuple(one.note for one in estimates))


def held_out_splits(problem: Problem, seed: int) -> list[tuple[Problem, Problem]]:
    """Pairs of what is fitted and what judges it, see `Problem.splits`; none below 20 measurements."""
    return [] if problem.m < 2 * LEAST_HELD_OUT else problem.splits(seed)


def held_out_error(out: Problem, image: Tensor) -> float:
    """The mean squared error of one image ``A.in_shape`` on measurements that it has not seen."""
    residual = out.residual(image[None].clamp(0, 1), torch.zeros(1, dtype=torch.long))
    return float(out.misfit(residual)) / out.m


def as_array(values: Tensor) -> Array:
    """A tensor as a flat float32 array."""
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=np.float32).ravel()


def as_tensor(problem: Problem, values: Array, *shape: int) -> Tensor:
    """A flat array as a tensor of this shape, on the device and in the dtype of the measurements."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(problem.measurements).reshape(shape)


def check(problem: Problem) -> None:
    """Refuse what the classical solvers do not take.

    Raises:
        ValueError: images that are complex or no pictures, or a fidelity other than least squares.
    """
    if problem.operator.in_is_complex or len(problem.operator.in_shape) != 3:
        kind = "complex" if problem.operator.in_is_complex else "real"
        raise ValueError(
            f"the classical solvers expect real images of shape (channels, height, width), got {kind} ones of shape "
            f"{tuple(problem.operator.in_shape)}; try an operator on such images"
        )
    if not isinstance(problem.fidelity, LeastSquares):
        raise ValueError(
            f"the classical solvers expect least squares, got the fidelity {type(problem.fidelity).__name__}; "
            "try it without --fidelity, in Python LeastSquares()"
        )
