"""The skip network of the Deep Image Prior, and the hourglass, which is the same without skips.

D. Ulyanov, A. Vedaldi & V. Lempitsky, "Deep Image Prior" (CVPR 2018; IJCV 2020, arXiv 1711.10925), as its authors'
code builds it (`models/skip.py` of DmitryUlyanov/deep-image-prior) and as Wu, Chen, Jiang & Wang use it to find
lottery image priors (TMLR 2023, arXiv 2410.24187).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from cs_lip.priors.generator import weights_by_role
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

SLOPE = 0.2
"""Of LeakyReLU for negative values."""

SKIP_SETTINGS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "denoising": {},
        "super-resolution": {"jitter": 0.03},
        "jpeg-artefacts": {"input_channels": 3, "widths": (8, 16, 32, 64, 128), "skips": (0, 0, 0, 4, 4)},
        "text-inpainting": {"skips": (128,) * 5, "upsampling": "nearest", "jitter": 0.03},
        "region-inpainting": {
            "input_channels": 2,
            "skips": (0,) * 5,
            "upsampling": "nearest",
            "grid": True,
            "jitter": 0.03,
        },
        "large-hole-inpainting": {
            "input_channels": 1,
            "widths": (16, 32, 64, 128, 128, 128),
            "skips": (0,) * 6,
            "down_kernel": 5,
            "upsampling": "nearest",
            "mixing": False,
            "jitter": 0.0,
        },
        "few-pixels": {
            "widths": (16, 32, 64, 128, 128),
            "skips": (0,) * 5,
            "pooling": True,
            "jitter": 0.0,
        },
        "flash": {
            "input_channels": 3,
            "upsampling": ("nearest", "nearest", "bilinear", "bilinear", "bilinear"),
            "jitter": 0.0,
        },
    }
)
"""What the published notebooks change in the settings of `Skip`, by task.

Half of the pixels missing, and the lottery image priors' inpainting and super-resolution, are as super-resolution here;
a factor of 8 has jitter 0.05. Of flash photography the input is the flash image, not a random one.
"""


class Skip(UntrainedNetwork):
    """An encoder and decoder with a narrow path past each scale.

    With ``x_0 = u`` the input, ``step`` a convolution with reflection padding, batch norm and LeakyReLU of slope 0.2,
    and ``up`` the doubling of height and width, for the scales ``i = 1 ... d``::

        x_i = step(step_stride_2(x_{i-1}))
        y_i = step_1x1(step(norm([step_1x1(x_{i-1}), up(y_{i+1})])))    with y_{d+1} = x_d

    and the image is ``sigmoid(W y_1 + b)``. The first part of the bracket is the skip. The default is the network of
    the lottery image priors' experiments and of the authors' denoising: 2,217,831 parameters for RGB.

    Images may have any size that leaves enough pixels after ``d`` halvings, rounded up: 2 a side, or as many as
    reflection at the border needs.

    Args:
        image_shape: ``(channels, height, width)``.
        input_channels: of the input, which is as high and wide as the image.
        widths: channels of ``x_i`` and ``y_i``, one number a scale.
        skips: channels of the skip at each scale, 0 for none.
        down_kernel: side of the convolutions that lead to ``x_i``, odd.
        up_kernel: side of the first convolution that leads to ``y_i``, odd.
        upsampling: ``bilinear`` or ``nearest``, or one of them for each scale.
        pooling: halve by the mean of 2x2 pixels after the convolution instead of by its stride.
        mixing: whether the 1x1 step that ends each scale is there.
        grid: the input is not random but the two coordinates of each pixel, from 0 to 1, x before y.
        jitter: see `UntrainedNetwork`.

    Raises:
        ValueError: settings that make no such network, or an image too small for it.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        input_channels: int = 32,
        widths: Sequence[int] = (128,) * 5,
        skips: Sequence[int] = (4,) * 5,
        down_kernel: int = 3,
        up_kernel: int = 3,
        upsampling: str | Sequence[str] = "bilinear",
        pooling: bool = False,
        mixing: bool = True,
        grid: bool = False,
        jitter: float = 1 / 30,
    ) -> None:
        shape = checked_shape(image_shape)
        (input_channels,) = checked_numbers("input channels", (input_channels,))
        widths, skips = checked_numbers("widths", widths), checked_numbers("skips", skips, least=0)
        modes = (upsampling,) * len(widths) if isinstance(upsampling, str) else tuple(upsampling)
        modes = tuple(map(checked_upsampling, modes))
        if not len(widths) == len(skips) == len(modes):
            raise ValueError(
                f"there are {len(widths)} widths, {len(skips)} skips and {len(modes)} upsamplings, expected as many of "
                "each as there are scales; try 5 of each"
            )
        if grid and input_channels != 2:
            raise ValueError(f"a grid has the 2 coordinates as channels, got {input_channels}; try input_channels=2")
        kernels = checked_numbers("kernels", (down_kernel, up_kernel))
        if any(kernel % 2 == 0 for kernel in kernels):
            raise ValueError(f"kernels must have odd sides, got {down_kernel} and {up_kernel}; try 3")
        halvings(shape, len(widths), least=max(2, max(kernels) // 2 + 1))
        super().__init__(shape, (input_channels, *shape[1:]), jitter)
        self.grid = grid
        self.scales = nn.ModuleList(
            Scale(fan_in, below, width, skip, kernels=kernels, upsampling=mode, pooling=pooling, mixing=mixing)
            for (fan_in, width), below, skip, mode in zip(
                pairwise((input_channels, *widths)), (*widths[1:], widths[-1]), skips, modes, strict=True
            )
        )
        self.output = nn.Conv2d(widths[0], shape[0], 1)

    def sample_input(self, *, generator: torch.Generator) -> Tensor:
        """See `UntrainedNetwork.sample_input`; a grid is the same for every ``generator``."""
        if not self.grid:
            return super().sample_input(generator=generator)
        axes = [torch.linspace(0, 1, size) for size in self.input_shape[1:]]
        return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1])[None].to(self.device, self.dtype)

    def _features(self, features: Tensor, coarse: bool) -> Tensor:
        draw: Callable[[Tensor], Tensor] = nn.Identity()
        for scale in reversed(self.scales):
            draw = partial(scale, deeper=draw, coarse=coarse)
        return draw(features)

    def weight_groups(self) -> dict[str, tuple[str, ...]]:
        """See `UntrainedNetwork.weight_groups`; the skip of the first scale reads the input too."""
        return weights_by_role(self, inputs=1 if self.scales[0].skip is None else 2)


def hourglass(image_shape: Sequence[int], **settings: Any) -> Skip:
    """The network without skips that the authors call an hourglass: `Skip` as it fills in a region of an image.

    For the arguments and what is raised see `Skip`; the defaults are ``SKIP_SETTINGS["region-inpainting"]``.
    """
    network = Skip(image_shape, **{**SKIP_SETTINGS["region-inpainting"], **settings})
    if any(scale.skip is not None for scale in network.scales):
        raise ValueError("an hourglass has no skips, got some; try the network 'skip'")
    return network


class Scale(nn.Module):
    """One scale of `Skip`: ``y_i`` from ``x_{i-1}``, by way of ``x_i`` and what the deeper scales make of it."""

    def __init__(
        self,
        fan_in: int,
        below: int,
        width: int,
        skip: int,
        *,
        kernels: tuple[int, ...],
        upsampling: str,
        pooling: bool,
        mixing: bool,
    ) -> None:
        super().__init__()
        down_kernel, up_kernel = kernels
        self.upsampling = upsampling
        self.skip = Step(fan_in, skip, 1) if skip else None
        self.halve = Step(fan_in, width, down_kernel, halving="pool" if pooling else "stride")
        self.deepen = Step(width, width, down_kernel)
        self.norm = image_norm(skip + below)
        self.join = Step(skip + below, width, up_kernel)
        self.mix = Step(width, width, 1) if mixing else nn.Identity()

    def forward(self, features: Tensor, deeper: Callable[[Tensor], Tensor], coarse: bool) -> Tensor:
        """``y_i``, ``(1, width, h, w)``, from ``x_{i-1}``, ``(1, fan_in, h, w)``; ``deeper`` gives ``y_{i+1}``.

        The way down is never ``coarse``: what is rounded there the norms of all later layers amplify (3 % of a 64x64
        image in the end, 0.4 % from the way up alone, where most of the products are).
        """
        height, width = features.shape[-2:]
        below = grown(deeper(self.deepen(self.halve(features))), self.upsampling, (height, width))
        if self.skip is not None:
            below = torch.cat([self.skip(features).to(below.dtype), below], 1)
        with products(coarse):
            joined: Tensor = self.mix(self.join(self.norm(below)))
        return joined


class Step(nn.Module):
    """Convolution, batch norm over the one image, LeakyReLU; with the convolution's stride or pooling in between."""

    def __init__(self, fan_in: int, fan_out: int, kernel: int, *, halving: str = "none") -> None:
        super().__init__()
        self.pooling = halving == "pool"
        self.conv = nn.Conv2d(
            fan_in,
            fan_out,
            kernel,
            stride=2 if halving == "stride" else 1,
            padding=kernel // 2,
            padding_mode="reflect" if kernel > 1 else "zeros",  # reflection by nothing would still copy
        )
        self.norm = image_norm(fan_out)

    def forward(self, features: Tensor) -> Tensor:
        features = self.conv(features)
        if self.pooling:
            features = nn.functional.avg_pool2d(features, 2, ceil_mode=True)
        return nn.functional.leaky_relu(self.norm(features), SLOPE, inplace=True)
