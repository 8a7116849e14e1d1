"""The parts of a StyleGAN2 generator: equalised linear layers and convolutions modulated by a style.

Every part has a folded twin for inference that gives the same values with its gains multiplied into its weights.
"""

import math

import torch
from torch import Tensor, nn

SLOPE = 0.2
GAIN = math.sqrt(2)
"""The slope of the leaky ReLU below 0, and what multiplies it to keep the variance."""
EPSILON = 1e-8
TAPS = (1.0, 3.0, 3.0, 1.0)
"""The low-pass filter of every doubling, along each axis, before it is normalised."""


def normalised(vectors: Tensor) -> Tensor:
    """``x / sqrt(mean(x^2) + 1e-8)`` along the last axis: the direction alone, with coordinates of unit square mean."""
    return vectors * torch.rsqrt(vectors.square().mean(-1, keepdim=True) + EPSILON)


def doubled(image: Tensor) -> Tensor:
    """An image ``(batch, channels, height, width)`` at twice the side: zeros between its pixels, then the filter."""
    return nn.functional.conv_transpose2d(image, _filter(image), stride=2, padding=1, groups=image.shape[1])


def _filter(image: Tensor) -> Tensor:
    """The filter for every channel, ``(channels, 1, 4, 4)``, with gain 2 along each axis for the zeros between."""
    taps = 2 / sum(TAPS) * torch.tensor(TAPS, dtype=image.dtype, device=image.device)
    return torch.outer(taps, taps).expand(image.shape[1], 1, -1, -1)


class Dense(nn.Module):
    """``c W x + r b`` with ``c = r / sqrt(fan_in)``: a linear layer of equalised learning rate (Karras et al. 2018,
    section 4.1) with the rate ``r``.
    """

    def __init__(self, fan_in: int, fan_out: int, *, rate: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.rate = rate
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in) / rate)
        self.bias = nn.Parameter(torch.full((fan_out,), bias))

    def forward(self, vectors: Tensor) -> Tensor:
        return nn.functional.linear(vectors, *self.scaled())

    def scaled(self) -> tuple[Tensor, Tensor]:
        """The weight and bias that take effect, ``(fan_out, fan_in)`` and ``(fan_out,)``."""
        return self.weight * (self.rate / math.sqrt(self.weight.shape[1])), self.bias * self.rate


class StyledConv(nn.Module):
    """A 3x3 convolution modulated by a style, with noise, bias and leaky ReLU (Karras et al. 2020, section 2.2).

    With the style ``s = affine(w)`` the weights are ``w'_ijk = s_i w_ijk``, divided by their norm ``sqrt(sum_ik
    w'_ijk^2 + 1e-8)`` (their equations 1 and 3). A scale common to all weights cancels, so there is no equalised gain.

    Args:
        styles: the size of ``w``.
        side: of the feature map that it gives, which is that of the input or, with ``up``, twice as much.
        clamp: the largest absolute value of an output; None for no bound.
    """

    def __init__(
        self, fan_in: int, fan_out: int, styles: int, side: int, *, up: bool = False, clamp: float | None = None
    ) -> None:
        super().__init__()
        self.up, self.clamp = up, clamp
        self.affine = Dense(styles, fan_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(fan_out))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.zeros(side, side))

    def forward(self, features: Tensor, w: Tensor) -> Tensor:
        weight = self.weight.transpose(0, 1) if self.up else self.weight
        energy = self.weight.square().sum((2, 3))
        return _styled(
            features, self.affine(w), weight, energy, GAIN * self.noise, GAIN * self.bias, self.up, self.clamp
        )

    @property
    def noise(self) -> Tensor:
        """The constant noise image with its strength, ``(side, side)``."""
        assert isinstance(self.noise_const, Tensor)
        return self.noise_const * self.noise_strength

    def folded(self) -> "FoldedConv":
        """Its folded twin, with weights of its own."""
        return FoldedConv(self)


class FoldedConv(nn.Module):
    """A `StyledConv` with its gains baked in, channels last. The norm of its weights follows them where they move."""

    def __init__(self, source: StyledConv) -> None:
        super().__init__()
        self.up, self.clamp = source.up, source.clamp
        self.affine = plain_linear(*source.affine.scaled())
        weight = source.weight.transpose(0, 1) if source.up else source.weight
        self.weight = nn.Parameter(weight.detach().clone(memory_format=torch.channels_last))
        self.register_buffer("noise", GAIN * source.noise.detach())
        self.bias = nn.Parameter(GAIN * source.bias.detach())

    def forward(self, features: Tensor, w: Tensor) -> Tensor:
        assert isinstance(self.noise, Tensor)
        energy = self.weight.square().sum((2, 3))
        energy = energy.T if self.up else energy
        return _styled(features, self.affine(w), self.weight, energy, self.noise, self.bias, self.up, self.clamp)


def _styled(
    features: Tensor,
    style: Tensor,
    weight: Tensor,
    energy: Tensor,
    noise: Tensor,
    bias: Tensor,
    up: bool,
    clamp: float | None,
) -> Tensor:
    """A modulated convolution with one weight for the whole batch: the style scales the channels that go in, and the
    norm of the modulated weights, ``sum_i s_i^2 energy_ji``, those that come out.

    Args:
        features: ``(batch, fan_in, height, width)``.
        style: ``(batch, fan_in)``.
        weight: ``(fan_out, fan_in, 3, 3)``, or with ``up`` ``(fan_in, fan_out, 3, 3)``.
        energy: the squares of the weights summed over each kernel, ``(fan_out, fan_in)``.
        noise: ``(height, width)`` of the output, times `GAIN` like the bias.
    """
    scale = GAIN * torch.rsqrt(style.square() @ energy.T + EPSILON)
    features = features * style[:, :, None, None]
    if up:
        # Zeros between the pixels, the kernel, then the filter: the order that needs the fewest products by far.
        features = nn.functional.conv_transpose2d(features, weight, stride=2)
        features = nn.functional.conv2d(features, _filter(features), padding=1, groups=features.shape[1])
    else:
        features = nn.functional.conv2d(features, weight, padding=1)
    features = torch.addcmul(bias[:, None, None], features, scale[:, :, None, None]) + noise
    return _clamped(nn.functional.leaky_relu(features, SLOPE), clamp)


class ToRGB(nn.Module):
    """A 1x1 convolution to colours, modulated by a style but not divided by a norm (Karras et al. 2020, appendix B)."""

    def __init__(self, fan_in: int, channels: int, styles: int, *, clamp: float | None = None) -> None:
        super().__init__()
        self.clamp = clamp
        self.affine = Dense(styles, fan_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels, fan_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor, w: Tensor) -> Tensor:
        return _coloured(features, self.affine(w), self.scaled(), self.bias, self.clamp)

    def scaled(self) -> Tensor:
        """The weight that takes effect, ``(channels, fan_in)``."""
        return self.weight[:, :, 0, 0] / math.sqrt(self.weight.shape[1])

    def folded(self) -> "FoldedRGB":
        """Its folded twin, with weights of its own."""
        return FoldedRGB(self)


class FoldedRGB(nn.Module):
    """A frozen `ToRGB` with its gains baked in."""

    def __init__(self, source: ToRGB) -> None:
        super().__init__()
        self.clamp = source.clamp
        self.affine = plain_linear(*source.affine.scaled())
        self.weight = nn.Parameter(source.scaled().detach())
        self.bias = nn.Parameter(source.bias.detach().clone())

    def forward(self, features: Tensor, w: Tensor) -> Tensor:
        return _coloured(features, self.affine(w), self.weight, self.bias, self.clamp)


def _coloured(features: Tensor, style: Tensor, weight: Tensor, bias: Tensor, clamp: float | None) -> Tensor:
    # So few channels make it cheaper to scale the weights, sample by sample, than the features.
    image = torch.einsum("bchw,boc->bohw", features, weight * style[:, None])
    return _clamped(image + bias[:, None, None], clamp)


def _clamped(values: Tensor, clamp: float | None) -> Tensor:
    return values if clamp is None else values.clamp(-clamp, clamp)


def plain_linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear layer with copies of these weights."""
    with torch.device("meta"):  # where PyTorch's initial weights cost no memory and no global random numbers
        linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight, linear.bias = nn.Parameter(weight.detach().clone()), nn.Parameter(bias.detach().clone())
    return linear
