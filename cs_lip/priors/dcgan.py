"""DCGAN generators (Radford, Metz & Chintala 2016) in the layout of the PyTorch tutorial.

The tutorial stacks transposed convolutions under the name ``main``: ``main.0`` spreads the latent over 4x4 pixels,
every later one (kernel 4, stride 2, padding 1) doubles the side, and batch norm and ReLU stand between them:
``main.{0,3,6,...}.weight`` are the convolutions, ``main.{1,4,7,...}`` the norms. The last layer ends in tanh.
"""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from cs_lip.priors.generator import Generator

KERNEL = 4


class DCGAN(Generator):
    """The tutorial's DCGAN generator: latents ``(k,)`` to images ``(channels, 4 * 2^d, 4 * 2^d)`` in [0, 1].

    Args:
        widths: the channels of every feature map from the latent on, for example ``(100, 512, 256, 128, 64, 3)``
            draws 64x64 RGB images from 100 latents.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        side = KERNEL * 2 ** (len(widths) - 2)
        super().__init__(latent_shape=(widths[0],), image_shape=(widths[-1], side, side))
        self.widths = widths
        layers: list[nn.Module] = []
        for index, (fan_in, fan_out) in enumerate(pairwise(widths)):
            stride, padding = (1, 0) if index == 0 else (2, 1)
            layers.append(nn.ConvTranspose2d(fan_in, fan_out, KERNEL, stride, padding, bias=False))
            if index < len(widths) - 2:
                layers += [nn.BatchNorm2d(fan_out), nn.ReLU()]
        self.main = nn.Sequential(*layers, nn.Tanh())

    def draw(self, latents: Tensor) -> Tensor:
        """Images in [0, 1]: the network's tanh range [-1, 1], shifted and halved."""
        images: Tensor = self.main(latents[:, :, None, None])
        return (images + 1) / 2

    def fold(self) -> "FoldedDCGAN":
        """The same images from fewer operations; see `Generator.fold` and `FoldedDCGAN`."""
        return FoldedDCGAN(self)


class FoldedDCGAN(Generator):
    """A frozen `DCGAN` with batch norm in evaluation mode folded into the convolutions.

    With running mean ``mu``, variance ``v``, scale ``g`` and shift ``b``, the norm is the affine map ``s x + (b - mu
    s)`` with ``s = g / sqrt(v + eps)``, so the convolution's weights are scaled by ``s`` and it gets a bias. The first
    layer sees a single pixel, which makes it a matrix product; the others keep their weights channels last, where the
    CPU's convolutions are fastest.
    """

    def __init__(self, source: DCGAN) -> None:
        super().__init__(source.latent_shape, source.image_shape)
        first, *rest = _folded_layers(source)
        self.grid = (first[0].shape[1], KERNEL, KERNEL)
        with torch.device("meta"):  # where PyTorch's initial weights cost no memory and no global random numbers
            self.first = nn.Linear(source.widths[0], first[0].shape[1] * KERNEL**2)
            convs = [nn.ConvTranspose2d(a, b, KERNEL, stride=2, padding=1) for a, b in pairwise(source.widths[1:])]
        self.first.weight = nn.Parameter(first[0].flatten(1).T.contiguous())
        self.first.bias = nn.Parameter(first[1].repeat_interleave(KERNEL**2))
        layers: list[nn.Module] = []
        for conv, (weight, bias) in zip(convs, rest, strict=True):
            conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
            layers += [nn.ReLU(), conv]
        self.rest = nn.Sequential(*layers, nn.Tanh()).to(memory_format=torch.channels_last)
        self.eval().requires_grad_(False)

    def draw(self, latents: Tensor) -> Tensor:
        """Images in [0, 1], equal to the unfolded generator's up to rounding."""
        features = self.first(latents).unflatten(1, self.grid)
        images: Tensor = self.rest(features)
        return (images + 1) / 2

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
            if isinstance(layer, nn.ConvTranspose2d):
                pushed = nn.functional.conv_transpose2d(pushed, layer.weight.to(dtype), stride=2, padding=1)
            elif isinstance(layer, nn.ReLU):
                pushed *= features > 0
            features = layer(features)
        slope = (1 - features.square()) / 2  # of (tanh + 1) / 2
        images: Tensor = pushed * slope.to(dtype)
        return images.contiguous()

    def fold(self) -> "FoldedDCGAN":
        """Itself: it is folded already."""
        return self


def _folded_layers(source: DCGAN) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of every convolution with the batch norm after it folded in."""
    folded = []
    for conv, after in pairwise(source.main):
        if not isinstance(conv, nn.ConvTranspose2d):
            continue
        weight = conv.weight.detach().clone()
        bias = torch.zeros(weight.shape[1], dtype=weight.dtype, device=weight.device)
        if isinstance(after, nn.BatchNorm2d):
            assert after.running_mean is not None and after.running_var is not None
            scale = after.weight.detach() / torch.sqrt(after.running_var + after.eps)
            weight = weight * scale[None, :, None, None]
            bias = after.bias.detach() - after.running_mean * scale
        folded.append((weight, bias))
    return folded


def dcgan_from_state(state: Mapping[str, Tensor]) -> DCGAN:
    """A `DCGAN` from a state dict in the tutorial's layout, its widths read off the weights.

    Args:
        state: name -> tensor; ``num_batches_tracked`` may be missing, any other key must be there and fit.

    Raises:
        ValueError: a key is missing or unexpected, a shape does not fit, or a weight is not finite.
    """
    with torch.device("meta"):  # where PyTorch's initial weights cost no memory and no global random numbers
        generator = DCGAN(_widths(state))
    expected = {name: value for name, value in generator.state_dict().items() if "num_batches_tracked" not in name}
    given = {name: value for name, value in state.items() if "num_batches_tracked" not in name}
    for problem, names in (
        ("lack", sorted(expected.keys() - given.keys())),
        ("have the unexpected", sorted(given.keys() - expected.keys())),
    ):
        if names:
            raise ValueError(
                f"the weights {problem} key {names[0]!r}, so they are not a DCGAN in the PyTorch tutorial's layout; "
                "try a generator's state dict saved from that layout"
            )
    for name, value in expected.items():
        if given[name].shape != value.shape:
            raise ValueError(
                f"weight {name!r} has shape {tuple(given[name].shape)}, expected {tuple(value.shape)}; "
                "try the file as its author published it"
            )
    for name in expected:
        _check_values(name, given[name])
    weights = {name: value.detach().to(torch.float32, copy=True) for name, value in given.items()}
    counters = {name: torch.tensor(0) for name in generator.state_dict() if name not in weights}
    generator.load_state_dict(weights | counters, assign=True)
    return generator.eval()


def _widths(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The channels of each feature map, from ``main.0.weight``, ``main.3.weight``, ... as far as they go."""
    widths: list[int] = []
    while (weight := state.get(f"main.{3 * max(len(widths) - 1, 0)}.weight")) is not None:
        if weight.dim() != 4 or tuple(weight.shape[2:]) != (KERNEL, KERNEL) or 0 in weight.shape:
            break
        widths += list(weight.shape[:2]) if not widths else [weight.shape[1]]
    if len(widths) < 3:
        raise ValueError(
            f"no DCGAN in the PyTorch tutorial's layout among the keys {sorted(state)[:3]}...: expected 4x4 transposed "
            "convolutions under 'main.0.weight', 'main.3.weight', ...; try a generator's state dict"
        )
    return tuple(widths)


def _check_values(name: str, given: Tensor) -> None:
    if not given.is_floating_point() or not torch.isfinite(given.float()).all():
        raise ValueError(f"weight {name!r} holds values that are not finite real numbers; try an undamaged file")
    if name.endswith("running_var") and (given < 0).any():
        raise ValueError(f"weight {name!r} holds negative variances; try an undamaged file")
