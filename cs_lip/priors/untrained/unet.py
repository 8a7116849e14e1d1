"""The U-Net of the Deep Image Prior's experiments."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from cs_lip.priors.untrained.network import (
    UntrainedNetwork,
    checked_numbers,
    checked_shape,
    halvings,
    image_norm,
    products,
)


class UNet(UntrainedNetwork):
    """The U-Net with which Ulyanov, Vedaldi & Lempitsky compare their skip network where a large hole is filled in.

    It is `UNet` in `models/unet.py` of DmitryUlyanov/deep-image-prior with the settings of that experiment (widths
    divided by 8, one scale more, transposed convolutions, instance norm without scale and shift). With ``pair`` two 3x3
    convolutions with zero padding, each followed by a ReLU, and ``pair_norm`` the same with a norm before each ReLU,
    for the scales ``i = 1 ... d``::

        x_0 = pair_norm(u),  x_i = pair_norm(max_pool_2x2(x_{i-1})),  y_d = x_d
        y_{i-1} = pair([up_i(y_i), x_{i-1}])

    where ``up_i`` is a transposed 4x4 convolution of stride 2; the image is ``sigmoid(W y_0 + b)``. The default has
    1,616,315 parameters for RGB.

    Images may have any size of at least 2 pixels a side after ``d`` halvings, rounded up; where a halving is odd, the
    last row or column of the doubled map is cut off.

    Args:
        image_shape: ``(channels, height, width)``.
        input_channels: of the input, which is as high and wide as the image.
        widths: channels of ``x_0 ... x_d``.

    Raises:
        ValueError: settings that make no such network, or an image too small for it.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        input_channels: int = 1,
        widths: Sequence[int] = (8, 16, 32, 64, 128, 128),
    ) -> None:
        shape = checked_shape(image_shape)
        (input_channels,) = checked_numbers("input channels", (input_channels,))
        widths = checked_numbers("widths", widths)
        halvings(shape, len(widths) - 1)
        if shape[1] * shape[2] < 2:
            raise ValueError(f"a U-Net normalises over the pixels of an image, got {shape}; try one of more than one")
        super().__init__(shape, (input_channels, *shape[1:]))
        self.down = nn.ModuleList(_pair(*ends, norm=True) for ends in pairwise((input_channels, *widths)))
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(below, width, 4, stride=2, padding=1) for width, below in pairwise(widths)
        )
        self.up = nn.ModuleList(_pair(2 * width, width, norm=False) for width in widths[:-1])
        self.output = nn.Conv2d(widths[0], shape[0], 1)

    def _features(self, features: Tensor, coarse: bool) -> Tensor:
        with products(coarse):
            return self._mapped(features)

    def _mapped(self, features: Tensor) -> Tensor:
        first, *deeper = self.down
        levels = [first(features)]
        for pair in deeper:
            levels.append(pair(nn.functional.max_pool2d(levels[-1], 2, ceil_mode=True)))
        features = levels.pop()
        for grow, pair in zip(reversed(self.grow), reversed(self.up), strict=True):
            beside = levels.pop()
            height, width = beside.shape[-2:]
            features = pair(torch.cat([grow(features)[..., :height, :width], beside], 1))
        return features


def _pair(fan_in: int, fan_out: int, *, norm: bool) -> nn.Sequential:
    modules: list[nn.Module] = []
    for channels in (fan_in, fan_out):
        modules.append(nn.Conv2d(channels, fan_out, 3, padding=1))
        if norm:
            modules.append(image_norm(fan_out, affine=False))
        modules.append(nn.ReLU(inplace=True))
    return nn.Sequential(*modules)
