"""The operators of a sweep by name: those of few measurements, and the tasks of untrained networks."""

from collections.abc import Callable

import torch

from cs_lip.evaluation.acquisition import OPERATORS, build_operator
from cs_lip.operators import Downsample, Identity, LinearOperator, Mask
from cs_lip.operators.arguments import checked_m
from cs_lip.seeding import stream

Shape = tuple[int, int, int]

KEPT_PIXELS, FACTOR = 0.5, 4
"""Of inpainting and super-resolution."""


def _inpainting(shape: Shape, seed: int) -> Mask:
    """Exactly the share of the pixels, since seeds of another m could not be told together."""
    count = shape[1] * shape[2]
    kept = torch.zeros(count, dtype=torch.bool)
    kept[torch.randperm(count, generator=stream(seed, "operator"))[: round(KEPT_PIXELS * count)]] = True
    return Mask(kept.reshape(shape[1:]), shape)


TASKS: dict[str, Callable[[Shape, int], LinearOperator]] = {
    "denoise": lambda shape, seed: Identity(shape),
    "inpaint": _inpainting,
    "super-resolve": lambda shape, seed: Downsample(shape, FACTOR),
}
"""The tasks, each from (image shape, seed). How much they measure is their own matter, and no m is asked for."""

NAMES = (*OPERATORS, *TASKS)


def sweep_operator(name: str, image_shape: Shape, m: int, *, seed: int) -> LinearOperator:
    """The operator of that name; ``m`` says nothing to a task.

    Raises:
        ValueError: unknown name, or a number of measurements that the operator cannot take.
    """
    return TASKS[name](image_shape, seed) if name in TASKS else build_operator(name, image_shape, m, seed=seed)


def check_operator(name: str, image_shape: Shape, m: int) -> None:
    """Refuse what `sweep_operator` would, without the time and the memory of a large Gaussian.

    Raises:
        ValueError: as there.
    """
    if name == "gaussian":
        checked_m(m, 1, image_shape[0] * image_shape[1] * image_shape[2])
    else:
        sweep_operator(name, image_shape, m, seed=0)
