"""DCGAN generators (Radford, Metz & Chintala 2016): a stack of transposed convolutions under the name ``main``.

``main.0`` spreads the latent over the first feature map, every later convolution doubles the side, and batch norm and
ReLU stand between them: ``main.{0,3,6,...}.weight`` are the convolutions, ``main.{1,4,7,...}`` the norms, as in the
PyTorch tutorial. The last layer ends in tanh.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from cs_lip.priors.doubling import Doubling, FoldedDoubling, doubled
from cs_lip.priors.generator import Generator, Layer, State

KERNEL = 4
KERNELS = (4, 5)
"""Those that a layer of stride 2 and padding 1 doubles the side with."""
MOST_SIDE = 2048
"""Pixels; every layer doubles the side and may have hardly any weights, so few bytes could ask for any image."""


class DCGAN(Generator):
    """A DCGAN generator: latents ``(k,)`` to images ``(channels, first * 2^d, first * 2^d)`` in [0, 1].

    Args:
        widths: the channels of every feature map from the latent on, for example ``(100, 512, 256, 128, 64, 3)``
            draws 64x64 RGB images from 100 latents.
        first: the side of the first feature map: 4 in the tutorial, 7 for images of 28x28.
        kernel: of the layers that double the side: 4 in the tutorial, 5 in CSGM's TensorFlow code.
        output_bias: whether the last layer has a bias.
        labels: how many classes a conditional generator knows, 0 for one that knows none. The class is joined to the
            latent as a one-hot vector, behind it.
        label: the class that this generator draws, fixed.

    Raises:
        ValueError: fewer than three widths, sizes that are not positive, negative labels, another kernel, or a label
            that is not one of the classes.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        first: int = KERNEL,
        kernel: int = KERNEL,
        output_bias: bool = False,
        labels: int = 0,
        label: int = 0,
    ) -> None:
        if len(widths) < 3:
            raise ValueError(f"a DCGAN has three widths or more, got {len(widths)}; try (100, 512, 256, 128, 64, 3)")
        if min(first, *widths) < 1 or labels < 0:
            raise ValueError(
                f"a DCGAN has positive sizes and no fewer than 0 labels, got widths from {min(widths)} up, first = "
                f"{first} and {labels} labels; try the settings of a trained network"
            )
        if kernel not in KERNELS:
            raise ValueError(f"the kernel must be 4 or 5, got {kernel}; try {KERNEL}")
        if first > MOST_SIDE >> (len(widths) - 2):
            raise ValueError(
                f"a DCGAN draws images of up to {MOST_SIDE} x {MOST_SIDE} pixels, got {len(widths)} widths from "
                f"first = {first!s:.20} on; try the settings of a trained network"
            )
        side = first * 2 ** (len(widths) - 2)
        if not 0 <= label < max(labels, 1):
            raise ValueError(f"the label must be from 0 to {max(labels, 1) - 1}, got {label}; try 0")
        super().__init__(latent_shape=(widths[0],), image_shape=(widths[-1], side, side))
        self.widths = tuple(widths)
        self.first, self.labels, self.label = first, labels, label
        modules: list[nn.Module] = [nn.ConvTranspose2d(widths[0] + labels, widths[1], first, bias=False)]
        for fan_in, fan_out in pairwise(widths[1:]):
            last = len(modules) == 3 * (len(widths) - 2) - 2
            modules += [nn.BatchNorm2d(fan_in), nn.ReLU(), Doubling(fan_in, fan_out, kernel, last and output_bias)]
        self.main = nn.Sequential(*modules, nn.Tanh())

    def layers(self) -> dict[str, Layer]:
        """``start`` spreads the latent over the first feature map, ``double-1``, ``double-2``, ... follow."""
        inner = [self.main[start : start + 3] for start in range(3, len(self.main) - 2, 3)]
        return _named(self._start, inner, self._finish)

    def _start(self, state: State) -> State:
        (latents,) = state
        if self.labels:
            one_hot = latents.new_zeros(len(latents), self.labels)
            one_hot[:, self.label] = 1
            latents = torch.cat([latents, one_hot], 1)
        return _apply(self.main[:3], (latents[:, :, None, None],))

    def _finish(self, state: State) -> State:
        """The last layer; the network's tanh range [-1, 1] is shifted and halved."""
        (values,) = _apply(self.main[-2:], state)
        return ((values + 1) / 2,)

    def fold(self) -> "FoldedDCGAN":
        """The same images from fewer operations; see `Generator.fold` and `FoldedDCGAN`."""
        return FoldedDCGAN(self)


class FoldedDCGAN(Generator):
    """A frozen `DCGAN` with batch norm in evaluation mode folded into the convolutions.

    With running mean ``mu``, variance ``v``, scale ``g`` and shift ``b``, the norm is the affine map ``s x + (b - mu
    s)`` with ``s = g / sqrt(v + eps)``, so the convolution's weights are scaled by ``s`` and it gets a bias. The first
    layer sees a single pixel, which makes it a matrix product, and the fixed label a part of its bias; the others are
    `FoldedDoubling`, with their weights channels last where they are convolutions, which is fastest on a CPU.
    """

    def __init__(self, source: DCGAN) -> None:
        super().__init__(source.latent_shape, source.image_shape)
        (weight, bias), *rest = _folded_layers(source)
        size = source.first**2
        self.grid = (weight.shape[1], source.first, source.first)
        if source.labels:
            fixed = weight[source.widths[0] + source.label].flatten()
            weight = weight[: source.widths[0]]
        else:
            fixed = torch.zeros_like(weight[0]).flatten()
        with torch.device("meta"):  # where PyTorch's initial weights cost no memory and no global random numbers
            self.first = nn.Linear(source.widths[0], weight.shape[1] * size)
            doublings = [FoldedDoubling(w.shape[0], w.shape[1], w.shape[2], bias=True) for w, _ in rest]
        self.first.weight = nn.Parameter(weight.flatten(1).T.contiguous())
        self.first.bias = nn.Parameter(bias.repeat_interleave(size) + fixed)
        layers: list[nn.Module] = []
        for doubling, (weight, bias) in zip(doublings, rest, strict=True):
            doubling.weight, doubling.bias = nn.Parameter(weight), nn.Parameter(bias)
            layers += [nn.ReLU(), doubling]
        self.rest = nn.Sequential(*layers, nn.Tanh()).to(memory_format=torch.channels_last)
        for multiplied in (doublings[0], doublings[-1]):  # whose weights a matrix product then takes without a copy
            multiplied.to(memory_format=torch.contiguous_format)
        self.eval().requires_grad_(False)
        if source.kept:
            self.keep_nonzero_()

    def layers(self) -> dict[str, Layer]:
        """The same cuts as the unfolded generator's, with the same activations up to rounding."""
        inner = [self.rest[start : start + 2] for start in range(1, len(self.rest) - 2, 2)]
        return _named(self._start, inner, self._finish)

    def _start(self, state: State) -> State:
        (latents,) = state
        return (nn.functional.relu(self.first(latents).unflatten(1, self.grid)),)

    def _finish(self, state: State) -> State:
        (values,) = _apply(self.rest[-2:], state)
        return ((values + 1) / 2,)

    def push(self, latent: Tensor, tangents: Tensor) -> Tensor:
        """See `Generator.push`. Only the tangents' products are in their precision: which ReLUs are active is decided
        in the latent's, since a few wrong ones would cost more accuracy than all the rounding (in bfloat16 6 % of the
        Jacobian's norm instead of 0.3 %).
        """
        dtype = tangents.dtype
        features: Tensor = self.first(latent[None]).reshape(-1, *self.grid)
        pushed = nn.functional.linear(tangents, self.first.weight.to(dtype)).reshape(-1, *self.grid)
        pushed = pushed.contiguous(memory_format=torch.channels_last)
        for layer in self.rest:
            if isinstance(layer, Doubling):
                pushed = doubled(pushed, layer.weight.to(dtype))
            elif isinstance(layer, nn.ReLU):
                pushed *= features > 0
            features = layer(features)
        slope = (1 - features.square()) / 2  # of (tanh + 1) / 2
        images: Tensor = pushed * slope.to(dtype)
        return images.contiguous()

    def fold(self) -> "FoldedDCGAN":
        """Itself: it is folded already."""
        return self


def _named(start: Layer, inner: Sequence[nn.Module], finish: Layer) -> dict[str, Layer]:
    doublings: list[Layer] = [*(partial(_apply, module) for module in inner), finish]
    return {"start": start, **{f"double-{index}": layer for index, layer in enumerate(doublings, 1)}}


def _apply(module: nn.Module, state: State) -> State:
    (features,) = state
    return (module(features),)


def _folded_layers(source: DCGAN) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of every convolution with the batch norm after it folded in."""
    folded = []
    for conv, after in pairwise(source.main):
        if not isinstance(conv, nn.ConvTranspose2d):
            continue
        weight = conv.weight.detach().clone()
        bias = torch.zeros_like(weight[0, :, 0, 0]) if conv.bias is None else conv.bias.detach().clone()
        if isinstance(after, nn.BatchNorm2d):
            assert after.running_mean is not None and after.running_var is not None
            scale = after.weight.detach() / torch.sqrt(after.running_var + after.eps)
            weight = weight * scale[None, :, None, None]
            bias = after.bias.detach() - after.running_mean * scale
        folded.append((weight, bias))
    return folded
