"""The contract of an untrained network: weights in, one image in [0, 1] out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from cs_lip.priors.generator import weights_by_role
from cs_lip.priors.precision import convolves_in_bfloat16
from cs_lip.priors.prunable import Prunable
from cs_lip.priors.untrained.initialisation import initialise

Upsampling = Literal["nearest", "bilinear"]
"""How a feature map grows: each pixel repeated, or interpolated (with ``align_corners=False``, as published)."""

INPUT_SCALE = 0.1
"""The largest value of a random input."""


class UntrainedNetwork(Prunable, ABC):
    """A network ``f`` whose weights ``w`` are the unknowns: the image is ``f(w; u)`` for a fixed input ``u``.

    A solver minimises over `parameters()`, of which `weight_groups` names those that may be pruned, how far ``f(w; u +
    jitter * noise)`` is from explaining the measurements. That images are reached long before noise is, is the prior
    (Ulyanov, Vedaldi & Lempitsky, CVPR 2018).

    Batch norm takes the mean and the variance of the one image that is being drawn, in training and in evaluation mode
    alike, as the published fits do: the image depends on the weights and the input and on nothing else.

    Attributes:
        image_shape: ``(channels, height, width)``.
        input_shape: of one input, ``(channels, height, width)``.
        jitter: the standard deviation of the normal noise that the published fit adds to the input, afresh in each
            iteration; 0 where it adds none.
        output: the 1x1 convolution from the last feature maps to the image before its sigmoid.
    """

    output: nn.Conv2d

    def __init__(
        self, image_shape: tuple[int, int, int], input_shape: tuple[int, int, int], jitter: float = 0.0
    ) -> None:
        super().__init__()
        if not 0 <= jitter < float("inf"):
            raise ValueError(f"the jitter must be a standard deviation from 0 on, got {jitter}; try 0.03")
        self.image_shape = image_shape
        self.input_shape = input_shape
        self.jitter = jitter

    @property
    def parameter_count(self) -> int:
        """The number of unknowns: weights, biases, and the scales and shifts of norms."""
        return sum(values.numel() for values in self.parameters())

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the weights, and so of the images."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def sample_input(self, *, generator: torch.Generator) -> Tensor:
        """One input ``(1, *input_shape)``, uniform in [0, 0.1) unless a subclass says otherwise.

        It is drawn on the CPU from the random ``generator`` and then moved, so a seed means the same input on every
        device.
        """
        return (INPUT_SCALE * torch.rand(1, *self.input_shape, generator=generator)).to(self.device, self.dtype)

    def initialise(self, generator: torch.Generator) -> None:
        """Start anew: draw all weights from the random ``generator``, but those held at zero; see `initialise` of the
        same room."""
        initialise(self, generator)
        self.project_()

    def forward(self, inputs: Tensor, *, coarse: bool = False) -> Tensor:
        """Images ``(batch, *image_shape)`` in [0, 1] for inputs ``(batch, *input_shape)``, each drawn on its own.

        Args:
            inputs: see above.
            coarse: multiply in bfloat16 where `convolves_in_bfloat16`, but for the last layer; elsewhere, and in other
                precisions than float32, it changes nothing.

        Raises:
            ValueError: the inputs have another shape, or there is none.
        """
        if inputs.dim() != 4 or tuple(inputs.shape[1:]) != self.input_shape or not len(inputs):
            raise ValueError(
                f"inputs of shape {tuple(inputs.shape)} do not fit this network, which takes (batch, "
                f"{', '.join(map(str, self.input_shape))}); try its sample_input"
            )
        coarse = coarse and self.dtype == torch.float32 and convolves_in_bfloat16(self.device)
        return torch.cat([self._draw(one[None], coarse) for one in inputs])

    def _draw(self, one: Tensor, coarse: bool) -> Tensor:
        """The image ``(1, *image_shape)`` of one input ``(1, *input_shape)``."""
        return torch.sigmoid(self.output(self._features(one, coarse).to(self.dtype)))

    @abstractmethod
    def _features(self, features: Tensor, coarse: bool) -> Tensor:
        """The last feature maps of one input ``(1, *input_shape)``, from which ``output`` makes the image."""

    def weight_groups(self) -> dict[str, tuple[str, ...]]:
        """See `Prunable.weight_groups`."""
        return weights_by_role(self)


def products(coarse: bool) -> AbstractContextManager[object]:
    """Where convolutions of float32 numbers multiply in bfloat16 and give bfloat16, if they may be ``coarse``."""
    return torch.autocast("cpu", torch.bfloat16) if coarse else nullcontext()


def image_norm(channels: int, *, affine: bool = True) -> nn.BatchNorm2d:
    """Batch norm with the statistics of the image that is drawn, never with running ones."""
    return nn.BatchNorm2d(channels, affine=affine, track_running_stats=False)


def grown(features: Tensor, upsampling: str, size: tuple[int, int]) -> Tensor:
    """Feature maps of twice the height and width, then cut to ``size``, which is at most one row and column less.

    Cutting is what the published skip network does where it joins maps of different sizes (its centre crop of one row
    too many drops the last); here it makes images of any size, and does nothing where each halving was even.
    """
    doubled = nn.functional.interpolate(features, scale_factor=2, mode=upsampling)
    return doubled[..., : size[0], : size[1]]


def halvings(image_shape: tuple[int, int, int], depth: int, least: int = 2) -> list[tuple[int, int]]:
    """Height and width of an image and of each of its ``depth`` halvings, rounded up, the image first.

    Raises:
        ValueError: the last has less than ``least`` rows or columns.
    """
    sizes = [image_shape[1:]]
    for step in range(1, depth + 1):
        height, width = (-(-side // 2) for side in sizes[-1])
        if min(height, width) < least:
            raise ValueError(
                f"images of {image_shape[1]}x{image_shape[2]} pixels leave {height}x{width} after {step} of {depth} "
                f"halvings, expected {least}x{least} or more at the end; try images of more than {least - 1} * "
                f"2^{depth} pixels a side, or a network of fewer scales"
            )
        sizes.append((height, width))
    return sizes


def checked_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """An image shape as a tuple.

    Raises:
        ValueError: it isn't three positive whole numbers.
    """
    if len(image_shape) != 3:
        raise ValueError(
            f"the image shape must be (channels, height, width), got {tuple(image_shape)}; try (3, 64, 64)"
        )
    channels, height, width = checked_numbers("image shape", image_shape)
    return channels, height, width


def checked_numbers(name: str, values: Sequence[int], least: int = 1) -> tuple[int, ...]:
    """Whole numbers as a tuple.

    Raises:
        ValueError: there is none, or one of them is no integer or less than ``least``.
    """
    if not len(values) or any(
        isinstance(value, bool) or not isinstance(value, int) or value < least for value in values
    ):
        raise ValueError(
            f"the {name} must be whole numbers from {least} on, got {str(list(values))[:60]}; try the default"
        )
    return tuple(values)


def checked_upsampling(upsampling: str) -> str:
    """A name of `Upsampling`.

    Raises:
        ValueError: it is none.
    """
    if upsampling not in get_args(Upsampling):
        raise ValueError(
            f"there is no upsampling {str(upsampling)[:40]!r}; try one of {', '.join(get_args(Upsampling))}"
        )
    return upsampling
