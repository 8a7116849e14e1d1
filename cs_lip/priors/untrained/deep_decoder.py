"""Decoders: networks that only grow a small random input, with few parameters or with 3x3 convolutions."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from cs_lip.priors.untrained.network import (
    UntrainedNetwork,
    checked_numbers,
    checked_shape,
    checked_upsampling,
    grown,
    halvings,
    image_norm,
    products,
)


class DeepDecoder(UntrainedNetwork):
    """The Deep Decoder (Heckel & Hand, ICLR 2019, arXiv 1810.03982, section 2), which has fewer parameters than pixels.

    With ``x_0 = u`` the input, 1x1 convolutions ``W_i`` without bias and ``up`` the bilinear doubling of height and
    width, for ``i = 1 ... d``::

        x_i = norm(relu(up(W_i x_{i-1})))

    and once more without ``up``; the image is ``sigmoid(C x)``. The last norm comes after the ReLU, as in the authors'
    code (`include/decoder.py` of reinhardh/supplement_deep_decoder). The default has 100,224 parameters for RGB.

    Images may have any size of at least 2 pixels a side after ``d`` halvings, rounded up; where a halving is odd, the
    last row or column of the doubled map is cut off.

    Args:
        image_shape: ``(channels, height, width)``.
        channels: ``k``, of the input and of every feature map; fewer are a stronger prior, 256 fill in holes. A number
            for each, of the input and behind each of the ``d + 1`` convolutions, makes maps of different widths.
        depth: ``d``, how often height and width double.
        jitter: see `UntrainedNetwork`; the authors add none but for inpainting.

    Raises:
        ValueError: settings that make no such network, or an image too small for it.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        channels: int | Sequence[int] = 128,
        depth: int = 5,
        jitter: float = 0.0,
    ) -> None:
        shape = checked_shape(image_shape)
        (depth,) = checked_numbers("depth", (depth,))
        *sizes, smallest = halvings(shape, depth)
        counts = _checked_channels(channels, depth + 1)
        super().__init__(shape, (counts[0], *smallest), jitter)
        self.sizes = (*reversed(sizes), None)
        self.convs = nn.ModuleList(nn.Conv2d(*ends, 1, bias=False) for ends in pairwise(counts))
        self.norms = nn.ModuleList(image_norm(count) for count in counts[1:])
        self.output = nn.Conv2d(counts[-1], shape[0], 1, bias=False)

    def _features(self, features: Tensor, coarse: bool) -> Tensor:
        with products(coarse):
            for conv, norm, size in zip(self.convs, self.norms, self.sizes, strict=True):
                features = conv(features)
                if size is not None:
                    features = grown(features, "bilinear", size)
                features = norm(nn.functional.relu(features, inplace=True))
        return features


class ConvDecoder(UntrainedNetwork):
    """The ConvDecoder (Darestani & Heckel, IEEE Trans. Comput. Imaging 2021, arXiv 2007.02471), for accelerated MRI.

    With ``x_0 = u`` the input and 3x3 convolutions ``W_i`` with zero padding and without bias, for ``i < L``::

        x_i = norm(relu(W_i grow_i(x_{i-1})))

    and once more without ``grow``; the image is ``sigmoid(C x)``. The sides grow from the input's to the image's by
    equal factors, ``ceil(f^i n)`` with ``f = (N / n)^(1 / (L - 1))``, so images may have any size from the input's on.
    The default is that of the authors' fits to knee images (`include/decoder_conv.py` of MLI-lab/ConvDecoder, and what
    its notebook on distribution shift calls it with), 1,846,240 parameters for RGB. Those fits end without the sigmoid,
    since they draw the real and imaginary parts of each coil's image.

    Args:
        image_shape: ``(channels, height, width)``.
        channels: of the input and of every feature map, or a number for each, as in `DeepDecoder`.
        layers: ``L``, the number of 3x3 convolutions.
        input_size: height and width of the input.
        upsampling: ``nearest`` or ``bilinear``.
        jitter: see `UntrainedNetwork`.

    Raises:
        ValueError: settings that make no such network, or an image smaller than the input.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        channels: int | Sequence[int] = 160,
        layers: int = 8,
        input_size: Sequence[int] = (8, 4),
        upsampling: str = "nearest",
        jitter: float = 0.0,
    ) -> None:
        shape = checked_shape(image_shape)
        (layers,) = checked_numbers("layers", (layers,), least=2)
        counts = _checked_channels(channels, layers)
        height, width = _checked_input_size(input_size, shape)
        super().__init__(shape, (counts[0], height, width), jitter)
        self.upsampling = checked_upsampling(upsampling)
        rows, columns = (_sides(*ends, layers - 1) for ends in ((height, shape[1]), (width, shape[2])))
        self.sizes = (*zip(rows, columns, strict=True), None)
        self.convs = nn.ModuleList(nn.Conv2d(*ends, 3, padding=1, bias=False) for ends in pairwise(counts))
        self.norms = nn.ModuleList(image_norm(count) for count in counts[1:])
        self.output = nn.Conv2d(counts[-1], shape[0], 1, bias=False)

    def _features(self, features: Tensor, coarse: bool) -> Tensor:
        with products(coarse):
            for conv, norm, size in zip(self.convs, self.norms, self.sizes, strict=True):
                if size is not None:
                    features = nn.functional.interpolate(features, size, mode=self.upsampling)
                features = norm(nn.functional.relu(conv(features), inplace=True))
        return features


def _sides(first: int, last: int, steps: int) -> list[int]:
    """The sides after each step of equal growth, rounded up, the last as it must be.

    A side that is whole but for rounding is that whole number, where the published code's ``ceil`` may give one more.
    """
    factor = (last / first) ** (1 / steps)
    return [math.ceil(first * factor**step - 1e-9) for step in range(1, steps)] + [last]


def _checked_channels(channels: int | Sequence[int], convs: int) -> tuple[int, ...]:
    """Those of the input and behind each of the convolutions."""
    if not isinstance(channels, Sequence):
        return checked_numbers("channels", (channels,)) * (convs + 1)
    if len(channels) != convs + 1:
        raise ValueError(
            f"there are {len(channels)} numbers of channels, expected one or {convs + 1}, of the input and behind each "
            f"of {convs} convolutions; try one"
        )
    return checked_numbers("channels", channels)


def _checked_input_size(input_size: Sequence[int], image_shape: tuple[int, int, int]) -> tuple[int, int]:
    if len(input_size) != 2:
        raise ValueError(f"the input size must be (height, width), got {tuple(input_size)}; try (8, 4)")
    height, width = checked_numbers("input size", input_size)
    if height * width < 2 or height > image_shape[1] or width > image_shape[2]:
        raise ValueError(
            f"an input of {height}x{width} does not grow to an image of {image_shape[1]}x{image_shape[2]}; "
            "try a larger image, or an input of several pixels that is no higher and no wider than it"
        )
    return height, width
