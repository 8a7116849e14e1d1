"""Progressive GAN generators (Karras, Aila, Laine & Lehtinen 2018, arXiv 1710.10196), as pytorch_GAN_zoo builds them.

Every layer has an equalised learning rate (section 4.1): it computes ``c (W x + b)`` with ``c = sqrt(2 / fan_in)``, the
bias scaled like the weights. A leaky ReLU follows, and then pixel norm (section 4.2), through which the latent goes as
well: its length plays no part, and the latents' geometry is the sphere.
"""

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from cs_lip.priors.doubling import Doubling
from cs_lip.priors.generator import Generator, Layer, State

FIRST = 4
"""The side of the first feature map."""
MOST_DEPTHS = 9
"""As many as images of 1024x1024 have."""
SLOPE = 0.2
"""Of the leaky ReLU."""
EPSILON = 1e-8
"""Keeps pixel norm from dividing by zero."""


def pixel_norm(features: Tensor) -> Tensor:
    """``a / sqrt(mean(a^2) + 1e-8)`` at every pixel, the mean over the channels (Karras et al. 2018, section 4.2)."""
    return features * torch.rsqrt(features.square().mean(1, keepdim=True) + EPSILON)


class EqualisedLinear(nn.Linear):
    """``c (W x + b)`` with ``c = sqrt(2 / fan_in)``."""

    def forward(self, features: Tensor) -> Tensor:
        return _constant(self.weight) * super().forward(features)


class EqualisedConv2d(nn.Conv2d):
    """``c (W * x + b)`` with ``c = sqrt(2 / fan_in)``, padded so that the side stays."""

    def __init__(self, fan_in: int, fan_out: int, kernel: int) -> None:
        super().__init__(fan_in, fan_out, kernel, padding=kernel // 2)

    def forward(self, features: Tensor) -> Tensor:
        return _constant(self.weight) * super().forward(features)


class EqualisedDoubling(EqualisedConv2d):
    """An `EqualisedConv2d` of every pixel repeated to a block of 2x2."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(nn.functional.interpolate(features, scale_factor=2, mode="nearest"))


class _Progressive(Generator):
    """What the network and its folded copy share: the order in which the layers draw.

    ``format`` spreads the latent over the first feature map, ``start`` works on it, every pair of ``doublings`` doubles
    the side, and ``rgb`` turns features into colours in [-1, 1].
    """

    def __init__(self, format: nn.Linear, start: nn.Conv2d, doublings: Sequence[nn.Module], rgb: nn.Conv2d) -> None:
        side = FIRST * 2 ** len(doublings)
        super().__init__((format.in_features,), (rgb.out_channels, side, side), "sphere")
        self.format, self.start = format, start
        self.doublings = nn.ModuleList(doublings)
        self.rgb = rgb

    def layers(self) -> dict[str, Layer]:
        """``start``, then ``double-1``, ``double-2``, ... and ``rgb``. What is cut has been through pixel norm."""
        inner = {f"double-{index}": partial(_double, pair) for index, pair in enumerate(self.doublings, 1)}
        return {"start": self._start, **inner, "rgb": self._finish}

    def _start(self, state: State) -> State:
        (latents,) = state
        features = _activated(self.format(pixel_norm(latents)).unflatten(1, (-1, FIRST, FIRST)))
        return (_activated(self.start(features)),)

    def _finish(self, state: State) -> State:
        (features,) = state
        return (((self.rgb(features) + 1) / 2).clamp(0, 1),)


class PGGAN(_Progressive):
    """A fully grown PGGAN: latents ``(k,)`` to images ``(channels, side, side)``, ``side = 4 * 2^(len(depths) - 1)``.

    The last layer is linear, trained towards [-1, 1]: its values ``v`` become ``(v + 1) / 2``, clipped to [0, 1].

    Args:
        latents: their number, ``k``; 512 in the paper.
        depths: the channels at every side from 4 on; 512, 512, 512, 512, 256, 128 and 64 for CelebA-HQ at 256x256.
        channels: of the images.

    Raises:
        ValueError: a size is not positive, or the images would be larger than the 1024x1024 of the paper.
    """

    def __init__(self, latents: int, depths: Sequence[int], channels: int = 3) -> None:
        if not 1 <= len(depths) <= MOST_DEPTHS or min(latents, channels, *depths) < 1:
            raise ValueError(
                f"a PGGAN has positive sizes and 1 to {MOST_DEPTHS} depths, got {latents!s:.20} latents, "
                f"{channels!s:.20} channels and {len(depths)} depths from {min(depths, default=0)!s:.20} up; "
                "try the settings of a trained network"
            )
        first, last = depths[0], depths[-1]
        super().__init__(
            EqualisedLinear(latents, first * FIRST**2),
            EqualisedConv2d(first, first, 3),
            [
                nn.Sequential(EqualisedDoubling(fan_in, fan_out, 3), EqualisedConv2d(fan_out, fan_out, 3))
                for fan_in, fan_out in pairwise(depths)
            ],
            EqualisedConv2d(last, channels, 1),
        )

    def fold(self) -> "FoldedPGGAN":
        """A frozen copy for inference; see `FoldedPGGAN`."""
        return FoldedPGGAN(self)


class FoldedPGGAN(_Progressive):
    """A frozen PGGAN for inference that draws the same images faster.

    The constants ``c`` are part of the weights, which lie channels last. Repeating every pixel and then convolving with
    a 3x3 kernel is one transposed convolution of stride 2 with a 4x4 kernel, whose every weight is the sum of those
    that meet the same pixel: 4 products for each pixel drawn instead of 9.
    """

    def __init__(self, source: PGGAN) -> None:
        doublings = []
        for pair in source.doublings:
            first, second = pair.children()
            assert isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)
            doublings.append(nn.Sequential(_folded_doubling(first), _folded_conv(second)))
        super().__init__(_folded_linear(source.format), _folded_conv(source.start), doublings, _folded_conv(source.rgb))
        self.to(memory_format=torch.channels_last)
        self.eval().requires_grad_(False)
        if source.kept:  # under the same names
            self.keep_({name: self.get_parameter(name) != 0 for name in source.kept})

    def fold(self) -> "FoldedPGGAN":
        """Itself: it is folded already."""
        return self


def _double(pair: nn.Module, state: State) -> State:
    (features,) = state
    for layer in pair.children():
        features = _activated(layer(features))
    return (features,)


def _activated(features: Tensor) -> Tensor:
    return pixel_norm(nn.functional.leaky_relu(features, SLOPE))


def _constant(weight: Tensor) -> float:
    return math.sqrt(2 / weight[0].numel())


def _folded_linear(layer: nn.Linear) -> nn.Linear:
    with torch.device("meta"):  # where PyTorch's initial weights cost no memory and no global random numbers
        folded = nn.Linear(layer.in_features, layer.out_features)
    _assign(folded, *_scaled(layer))
    return folded


def _folded_conv(layer: nn.Conv2d) -> nn.Conv2d:
    with torch.device("meta"):
        folded = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding)  # type: ignore[arg-type]
    _assign(folded, *_scaled(layer))
    return folded


def _folded_doubling(layer: nn.Conv2d) -> Doubling:
    """In one dimension the kernel ``(a, b, c)`` meets, of two neighbours, ``(a, b + c)`` or ``(a + b, c)``.

    A transposed convolution of stride 2 and padding 1 applies its weights 3 and 1 where the first of the two is drawn,
    and 2 and 0 where the second is: hence ``(c, b + c, a + b, a)``.
    """
    weight, bias = _scaled(layer)
    sums = weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])
    with torch.device("meta"):
        folded = Doubling(layer.in_channels, layer.out_channels, len(sums), bias=True)
    _assign(folded, torch.einsum("oikl,ak,bl->ioab", weight, sums, sums), bias)
    return folded


def _scaled(layer: nn.Linear | nn.Conv2d) -> tuple[Tensor, Tensor]:
    assert layer.bias is not None
    constant = _constant(layer.weight)
    return constant * layer.weight.detach(), constant * layer.bias.detach()


def _assign(layer: nn.Linear | nn.Conv2d | Doubling, weight: Tensor, bias: Tensor) -> None:
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
