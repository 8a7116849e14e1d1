"""Transposed convolutions that double the side of a feature map."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

FEW_OUTPUTS, FEW_PIXELS = 4, 16
"""Up to where a matrix product is faster than PyTorch's transposed convolution on a processor."""


class Doubling(nn.ConvTranspose2d):
    """A transposed convolution of stride 2 that doubles the side: kernel 4, or 5 as TensorFlow's ``SAME`` aligns it.

    A kernel of 5 with padding 1 gives one row and one column too many, and TensorFlow drops the last of each.
    """

    def __init__(self, fan_in: int, fan_out: int, kernel: int, bias: bool) -> None:
        super().__init__(fan_in, fan_out, kernel, stride=2, padding=1, bias=bias)

    def forward(self, features: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return doubled(features, self.weight, self.bias)


class FoldedDoubling(Doubling):
    """The same map for inference, as a matrix product where that is faster.

    The transposed convolution multiplies every pixel by the weights and adds up the overlapping patches. As a matrix
    product it is up to twice as fast with few output channels, which the convolution pads to the width of its
    registers, and faster for few pixels, since it reads the weights once where the convolution rearranges them first.
    """

    def forward(self, features: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        pixels = features.shape[0] * features.shape[-2] * features.shape[-1]
        if self.out_channels > FEW_OUTPUTS and pixels > FEW_PIXELS:
            return super().forward(features)
        height, width = features.shape[-2:]
        kernel = self.weight.shape[-1]
        patches = self.weight.flatten(1).T @ features.flatten(2)
        sides = (2 * height + kernel - 4, 2 * width + kernel - 4)
        added = functional.fold(patches, sides, kernel, stride=2, padding=1)[..., : 2 * height, : 2 * width]
        return added if self.bias is None else added + self.bias[:, None, None]


def doubled(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A feature map ``(batch, channels, height, width)`` with its side doubled by a kernel of 4 or 5."""
    height, width = features.shape[-2:]
    output = functional.conv_transpose2d(features, weight, bias, stride=2, padding=1)
    return output[..., : 2 * height, : 2 * width]
