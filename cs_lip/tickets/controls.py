"""Controls: what a ticket must beat before its mask may be said to matter.

The paper's (Wu, Chen, Jiang & Wang, TMLR 2023, arXiv 2410.24187): a random mask of the same density, new initial
weights under the same mask, and a dense network of the same size. Shuffling each layer keeps how much of it is left and
loses which (Frankle, Dziugaite, Roy & Carbin, ICLR 2021, arXiv 2009.08576).
"""

import copy
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cs_lip.priors.dcgan import DCGAN, KERNEL
from cs_lip.priors.prunable import Prunable
from cs_lip.priors.untrained.network import UntrainedNetwork, checked_shape
from cs_lip.seeding import stream
from cs_lip.tickets.criteria import random
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.selection import select

SPREAD = 0.02
"""Standard deviation of a DCGAN's initial weights (Radford, Metz & Chintala 2016, section 4)."""

DEPTH = 5
"""How often a Deep Decoder doubles the side, unless somebody says otherwise or the image is too small."""

Network = TypeVar("Network", bound=Prunable)


def random_mask(parent: Mask, density: float, seed: int = 0, granularity: str = "weight") -> Mask:
    """A mask of exactly this density whose weights are drawn from all that the parent keeps, with equal probability.

    With the granularity ``kernel`` these are kernels, and so is what the density counts.

    Raises:
        ValueError: as `cs_lip.tickets.selection.select`.
    """
    return select(random(parent, seed), density, parent=parent, granularity=granularity)


def shuffled(mask: Mask, seed: int = 0, granularity: str = "weight") -> Mask:
    """A mask that keeps as many weights (or whole kernels) of each layer, but others: their positions are shuffled."""
    return Mask(
        {name: _shuffled(kept, stream(seed, f"shuffle/{name}"), granularity) for name, kept in mask.kept.items()}
    )


def reinitialised(network: Network, mask: Mask, seed: int = 0) -> Network:
    """A copy with new initial weights under the same mask, in the network's mode, for a training from the beginning.

    A DCGAN has normal weights of deviation 0.02, and norms of scale 1 and shift 0 that have seen no image yet. An
    untrained network starts as `cs_lip.priors.untrained_network` starts it from this seed.

    Raises:
        ValueError: the network is neither, or the mask does not fit.
    """
    fresh = copy.deepcopy(network)
    fresh.keep_({})  # what was held at zero before may be kept now
    if isinstance(fresh, UntrainedNetwork):
        fresh.initialise(stream(seed, "weights"))
    elif isinstance(fresh, DCGAN):
        _initialise(fresh, stream(seed, "weights"))
    else:
        raise ValueError(
            f"there are no initial weights for a {type(network).__name__}; try a DCGAN that is not folded, or an "
            "untrained network"
        )
    mask.apply_(fresh)
    return fresh


def narrow_dcgan_settings(settings: Mapping[str, Any], weights: int) -> dict[str, Any]:
    """The settings of a DCGAN with narrower feature maps and about so many weights, biases and norms not counted.

    The maps between latent and image keep their proportions, rounded to whole channels, and never get wider. Of the
    widths that this allows, those with the nearest number of weights.

    Args:
        settings: the arguments of `DCGAN`.
        weights: of all its convolutions together.

    Raises:
        ValueError: less than one weight.
    """
    if weights < 1:
        raise ValueError(f"the weights of a network must be 1 or more, got {weights}; try as many as the ticket keeps")
    latents, *maps, channels = settings["widths"]
    widest = max(maps)
    candidates = [
        {**settings, "widths": (latents, *(max(1, round(width * kept / widest)) for width in maps), channels)}
        for kept in range(1, widest + 1)
    ]
    return min(candidates, key=lambda candidate: abs(dcgan_weights(candidate) - weights))


def dcgan_weights(settings: Mapping[str, Any]) -> int:
    """How many weights the convolutions of a DCGAN of these settings have."""
    latents, *maps = settings["widths"]
    spreading: int = (latents + settings.get("labels", 0)) * maps[0] * settings.get("first", KERNEL) ** 2
    doubling: int = sum(fan_in * fan_out for fan_in, fan_out in pairwise(maps)) * settings.get("kernel", KERNEL) ** 2
    return spreading + doubling


def deep_decoder_settings(image_shape: Sequence[int], parameters: int, depth: int | None = None) -> dict[str, int]:
    """The settings of the Deep Decoder whose number of parameters is nearest, those of its norms counted.

    With ``k`` channels and ``d`` doublings it has ``(d + 1)(k^2 + 2 k) + channels * k`` of them.

    Args:
        image_shape: ``(channels, height, width)``.
        parameters: of the network that it is compared with, such as what a ticket keeps, its biases and norms.
        depth: ``d``; None for 5, or as many as leave two pixels a side.

    Raises:
        ValueError: less than one parameter, or no image shape.
    """
    if parameters < 1:
        raise ValueError(f"the parameters of a network must be 1 or more, got {parameters}; try 100000")
    colours, *sides = checked_shape(image_shape)
    depth = min(DEPTH, max(1, math.ceil(math.log2(min(sides))) - 1)) if depth is None else depth
    layers = depth + 1

    def off(channels: int) -> int:
        return abs(layers * (channels**2 + 2 * channels) + colours * channels - parameters)

    # The positive root of the quadratic lies between the two that come into question.
    half = (2 * layers + colours) / (2 * layers)
    root = math.floor(math.sqrt(half**2 + parameters / layers) - half)
    return {"channels": min(max(1, root), root + 1, key=off), "depth": depth}


def _shuffled(kept: Tensor, rng: torch.Generator, granularity: str) -> Tensor:
    units = kept.flatten() if granularity == "weight" else kept.flatten(0, 1)
    return units[torch.randperm(len(units), generator=rng).to(kept.device)].reshape(kept.shape)


@torch.no_grad()
def _initialise(generator: DCGAN, rng: torch.Generator) -> None:
    for module in generator.modules():
        if isinstance(module, nn.ConvTranspose2d):
            # Drawn on the CPU and then moved, so that a seed means the same weights on every device.
            module.weight.copy_(SPREAD * torch.randn(module.weight.shape, generator=rng))
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.weight.fill_(1)
            module.bias.zero_()
