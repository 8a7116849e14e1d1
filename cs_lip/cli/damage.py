"""What `cs-lip restore` restores a picture from: damaged already, or damaged here to see how well it goes."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from PIL import ExifTags, Image
from torch import Tensor

from cs_lip.cli.inputs import Option
from cs_lip.evaluation.acquisition import OPERATORS, acquire, build_operator
from cs_lip.evaluation.images import FORMATS, read_image
from cs_lip.evaluation.pictures import PICTURES, picture
from cs_lip.evaluation.sweep.operators import FACTOR, KEPT_PIXELS, Shape
from cs_lip.evaluation.sweep.operators import TASKS as SWEEP_TASKS
from cs_lip.operators import Downsample, Identity, LinearOperator, Mask, bernoulli_mask
from cs_lip.seeding import derive_seed

TASKS = (*SWEEP_TASKS, "sense")
"""What a sweep calls by the names of their operators, and few measurements."""

BELONGS = {
    "mask": "inpaint",
    "fraction": "inpaint",
    "factor": "super-resolve",
    "measurements": "sense",
    "operator": "sense",
}
"""Option -> the one task that it says something about."""

SIMULATED_SIZE, SIMULATED_NOISE, SENSED_BY = 128, 25 / 255, "gaussian"
"""What is taken where nothing was said."""

GRAY = ("1", "L", "LA", "La", "I", "F")
"""Modes of Pillow's that have one channel; a mode that begins with ``I;`` has too."""

KEPT = 0.99
"""From this brightness on a mask's pixel counts as white. Where a mask was shrunk, any black makes a pixel missing."""


def damage_options() -> Option:
    """What is known of the damage of a picture, or is to be done to it: the fields of `Asked` but task and seed."""
    noise = "Standard deviation on every value, of [0, 1]; --simulate adds it.  [default: 25/255 where it denoises]"
    options = (
        click.option(
            "--simulate", is_flag=True, help="The picture is whole: damage it first, and compare with the truth."
        ),
        click.option("--noise", type=float, help=noise),
        click.option(
            "--mask", type=click.Path(path_type=Path), help="Picture that is white where it is good (inpaint)."
        ),
        click.option("--fraction", type=float, help="Of the pixels, that --simulate keeps (inpaint).  [default: 0.5]"),
        click.option(
            "--factor", type=int, help="How many times longer the sides become (super-resolve).  [default: 4]"
        ),
        click.option("--measurements", "-m", type=int, help="Real measurements of the picture (sense)."),
        click.option(
            "--operator", type=click.Choice(list(OPERATORS)), help="What measures (sense).  [default: gaussian]"
        ),
        click.option("--size", type=int, help="Shrink it to this longer side.  [default: 128 where it is the truth]"),
    )

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@dataclass(frozen=True)
class Asked:
    """What the command was asked to do to a picture; None where nothing was said."""

    task: str
    simulate: bool
    size: int | None
    noise: float | None
    fraction: float | None
    factor: int | None
    mask: Path | None
    measurements: int | None
    operator: str | None
    seed: int

    @property
    def has_truth(self) -> bool:
        """Whether the picture is the truth, and not damaged already."""
        return self.simulate or self.task == "sense"

    @property
    def enlarged(self) -> int:
        """How many times longer the restored picture is than the one that was given."""
        return (FACTOR if self.factor is None else self.factor) if self.task == "super-resolve" else 1


@dataclass(frozen=True)
class Damaged:
    """A picture as measurements ``(1, *A.out_shape)`` and the ``truth`` ``(1, channels, height, width)``, if known."""

    operator: LinearOperator
    measurements: Tensor
    noise: float
    truth: Tensor | None


def check_asked(asked: Asked) -> None:
    """Refuse options that do not belong together.

    Raises:
        ValueError: there are some.
    """
    for option, task in BELONGS.items():
        if getattr(asked, option) is not None and asked.task != task:
            raise ValueError(f"--{option} goes with --task {task}, got --task {asked.task}; try without it")
    if asked.task == "sense" and asked.measurements is None:
        raise ValueError("--task sense needs a number of --measurements, got none; try --measurements 2000")
    if asked.fraction is not None and (asked.mask is not None or not asked.simulate):
        raise ValueError("--fraction needs --simulate and no --mask, which says itself what is kept; try one of them")
    if asked.fraction is not None and not 0 < asked.fraction <= 1:
        raise ValueError(f"--fraction must be above 0 and at most 1, got {asked.fraction:g}; try {KEPT_PIXELS}")
    if asked.task == "inpaint" and asked.mask is None and not asked.simulate:
        raise ValueError(
            "--task inpaint needs a --mask, got none; try --mask MASK.png, black where pixels are missing, or "
            "--simulate"
        )
    if asked.noise is not None and asked.noise > 1 and asked.task != "sense":
        raise ValueError(
            f"--noise must be a standard deviation of values in [0, 1], got {asked.noise:g}; try "
            f"{min(asked.noise / 255, 1):.3g}, if it was one of 0 to 255"
        )
    if asked.size is not None and asked.size < 1:
        raise ValueError(f"--size must be at least 1, got {asked.size}; try 128")
    if asked.factor is not None and asked.factor < 2:
        raise ValueError(f"--factor must be a whole number from 2 on, got {asked.factor}; try {FACTOR}")


def restored_shape(path: Path, asked: Asked) -> Shape:
    """Of the picture that comes out, ``(channels, height, width)``; only the head of the file has to be good."""
    channels, height, width = _own_shape(path)
    size = asked.size if asked.size is not None or not asked.has_truth else SIMULATED_SIZE
    if size is not None and size < max(height, width):
        height, width = (max(1, round(side * size / max(height, width))) for side in (height, width))
    factor = asked.enlarged
    if not asked.has_truth:
        return channels, factor * height, factor * width
    if min(height, width) < factor:
        raise ValueError(f"a picture of {height}x{width} cannot be shrunk {factor} times; try a smaller --factor")
    return channels, height - height % factor, width - width % factor


def damage(path: Path, shape: Shape, asked: Asked) -> Damaged:
    """The operator, what it measured, and the truth where the picture is that.

    Raises:
        ValueError: a file that is no picture, or numbers that the operator or the noise refuse.
    """
    operator = _operator(path, shape, asked)
    noise = asked.noise
    if asked.has_truth:
        truth = _pixels(path, shape)[None]
        if noise is None:
            noise = SIMULATED_NOISE if asked.task == "denoise" else 0.0
        return Damaged(operator, acquire(operator, truth, noise=noise, seed=asked.seed), noise, truth)
    factor = asked.enlarged
    given = _pixels(path, (shape[0], shape[1] // factor, shape[2] // factor))[None]
    return Damaged(operator, operator(given) if asked.task == "inpaint" else given, noise or 0.0, None)


def _operator(path: Path, shape: Shape, asked: Asked) -> LinearOperator:
    if asked.task == "denoise":
        return Identity(shape)
    if asked.task == "super-resolve":
        return Downsample(shape, asked.enlarged)
    if asked.task == "sense":
        return build_operator(asked.operator or SENSED_BY, shape, asked.measurements or 0, seed=asked.seed)
    return Mask(_kept_pixels(path, shape, asked), shape)


def _kept_pixels(path: Path, shape: Shape, asked: Asked) -> Tensor:
    """The mask, ``(height, width)`` or ``(1, height, width)``; one that keeps nothing is told what helps, which is
    seldom to invert it, as `Mask` would say.
    """
    height, width = shape[1:]
    if asked.mask is None:
        # Not the mask of a sweep, which keeps an exact number so that its rows can be told together: here the pixels of
        # a smaller --fraction are among those of a larger one.
        keep = KEPT_PIXELS if asked.fraction is None else asked.fraction
        kept = bernoulli_mask(shape[1:], keep=keep, seed=derive_seed(asked.seed, "operator"))
        if not kept.any():
            raise ValueError(
                f"--fraction {keep:g} kept none of {height}x{width} pixels, expected at least one; try a larger "
                "--fraction"
            )
        return kept
    own, masks = _own_shape(path)[1:], _own_shape(asked.mask)[1:]
    if own != masks:
        raise ValueError(
            f"the mask {asked.mask} has {masks[0]}x{masks[1]} pixels and the picture {own[0]}x{own[1]}, expected as "
            "many; try a mask that was drawn over this picture"
        )
    kept = _pixels(asked.mask, (1, height, width)) >= KEPT
    if kept.any():
        return kept
    if (_pixels(asked.mask, (1, *own)) >= KEPT).any():
        raise ValueError(
            f"the mask {asked.mask} keeps no pixel once it is shrunk to {height}x{width}, where any black makes a "
            "pixel missing, expected at least one; try a larger --size"
        )
    raise ValueError(
        f"the mask {asked.mask} keeps no pixel, expected white where the picture is good; try to invert it"
    )


def _pixels(path: Path, shape: Shape) -> Tensor:
    return read_image(path, shape) if _is_file(path) else picture(str(path), shape).pixels


def _own_shape(path: Path) -> Shape:
    """``(channels, height, width)`` that a picture has by itself, upright."""
    if not _is_file(path):
        picture(str(path), (1, 1, 1))  # says which ones there are, or which package this one lacks
        return _shape_of(PICTURES[str(path)].load())
    read_image(path, (1, 1, 1))  # says what is wrong with a file that is no picture
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=FORMATS) as image:
            return _shape_of(image)


def _shape_of(image: Image.Image) -> Shape:
    channels = 1 if image.mode in GRAY or image.mode.startswith("I;") else 3
    width, height = image.size
    lies = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return (channels, width, height) if lies else (channels, height, width)


def _is_file(path: Path) -> bool:
    """Whether a path rather than the name of a bundled picture is meant."""
    return bool(path.suffix) or path.exists()


def free_bytes(device: torch.device) -> int | None:
    """The memory that is free for a fit on the device; None where nobody says."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    info = Path("/proc/meminfo")
    if device.type != "cpu" or not info.is_file():
        return None
    lines = [line.split() for line in info.read_text(encoding="ascii").splitlines()]
    return next((1024 * int(line[1]) for line in lines if line[0] == "MemAvailable:"), None)
