"""Compaction: a network without the channels that nobody reads, smaller and faster, that draws the same images."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from cs_lip.priors.pggan import PGGAN
from cs_lip.priors.prunable import Prunable
from cs_lip.priors.stylegan2 import StyleGAN2
from cs_lip.priors.untrained.network import UntrainedNetwork
from cs_lip.tickets.channel_groups import channel_groups
from cs_lip.tickets.settings import settings_of
from cs_lip.tickets.slices import ChannelGroup, between, rows_of

Network = TypeVar("Network", bound=Prunable)


def compact(network: Network) -> Network:
    """A network of the same class without the channels that play no part, which draws the same images.

    A channel plays no part where all weights that read it are zero, or lead to channels that play none themselves. In a
    PGGAN, whose pixel norm sums over all channels, it must be zero as well: the weights and the bias that make it. Of a
    group in which no channel plays a part the first remains. The image and its derivatives, by the latent and, where
    nothing is rescaled, by the weights that remain, are the same up to rounding.

    Two architectures count their channels, so what remains is rescaled there (`_factors`). What the network held at
    zero in the channels that remain is held at zero again, and weights ask for gradients where they did.

    Args:
        network: not folded; it is left as it is. Its zeros count, whether they are held or not.

    Returns:
        A network with weights of its own; `cs_lip.tickets.settings.settings_of` gives its constructor's arguments.

    Raises:
        ValueError: the channels of such a network are not known.
    """
    groups = channel_groups(network)
    channels = living_channels(network, groups)
    state = network.state_dict()
    rows = rows_of({name: value.shape for name, value in state.items()}, groups, channels)
    factors = _factors(network, groups, channels)
    smaller = _rebuilt(network, groups, channels)
    smaller.load_state_dict(
        {
            name: _selected(value, rows[name]) * factors[name] if name in factors else _selected(value, rows[name])
            for name, value in state.items()
        },
        assign=True,
    )
    smaller.train(network.training)
    for name, values in smaller.named_parameters():
        values.requires_grad_(network.get_parameter(name).requires_grad)
    kept = {name: _selected(mask, rows[name]) for name, mask in network.kept.items()}
    smaller.keep_({name: mask for name, mask in kept.items() if not mask.all()})
    return smaller


def living_channels(network: Prunable, groups: Sequence[ChannelGroup]) -> list[Tensor]:
    """Which channels of each group play a part in the image, bools ``(channels,)``; see `compact`."""
    nonzero = {name: (value != 0).cpu() for name, value in network.state_dict().items()}
    shapes = {name: value.shape for name, value in nonzero.items()}
    channels = [torch.ones(group.channels, dtype=torch.bool) for group in groups]
    while True:
        rows = rows_of(shapes, groups, channels)
        inside = {name: value & between(rows[name], value.dim()) for name, value in nonzero.items()}
        left = [_used(group, kept, inside) for group, kept in zip(groups, channels, strict=True)]
        if all(torch.equal(*pair) for pair in zip(left, channels, strict=True)):
            return left
        channels = left  # a channel that only removed ones read has become one that nobody reads


def _used(group: ChannelGroup, kept: Tensor, nonzero: Mapping[str, Tensor]) -> Tensor:
    """Which of the channels kept so far still play a part; the first if none does."""
    used = torch.zeros_like(kept)
    for slices in group.slices if group.summed else group.read:
        here = nonzero[slices.name].movedim(slices.axis, 0)
        along = here.reshape(len(here), -1).any(1)
        used |= slices.by_channel(along, group.channels).any(1)
    used &= kept
    if not used.any():
        used[kept.nonzero()[0]] = True
    return used


def _selected(values: Tensor, rows: Sequence[Tensor]) -> Tensor:
    values = values.detach().clone()
    for axis, kept in enumerate(rows):
        values = values.index_select(axis, kept.nonzero()[:, 0].to(values.device))
    return values


def _rebuilt(network: Network, groups: Sequence[ChannelGroup], channels: Sequence[Tensor]) -> Network:
    """A network with as many channels in every group, on the device ``meta``."""
    settings = settings_of(network)
    for group, kept in zip(groups, channels, strict=True):
        settings[group.setting][group.index] = int(kept.sum())
    shape = (network.image_shape,) if isinstance(network, UntrainedNetwork) else ()
    with torch.device("meta"):  # where PyTorch's initial weights cost no memory and no global random numbers
        return type(network)(*shape, **settings)


def _factors(network: Prunable, groups: Sequence[ChannelGroup], channels: Sequence[Tensor]) -> dict[str, float]:
    """What multiplies the tensors that remain, by name, since the architecture counts its channels.

    Let ``t = sqrt(left / all)`` of a group. A PGGAN's layer computes ``c (W x + b)`` with ``c`` proportional to ``1 /
    sqrt(channels of x)``, and pixel norm gives ``sqrt(channels) a / sqrt(sum(a^2) + 1e-8 channels)``. With ``t a`` in
    place of ``a`` it gives exactly ``t`` times what it gave. So what makes a channel, weights and bias, is multiplied
    by its group's ``t``, and the bias of what reads it too; the smaller ``x`` and the larger ``c`` of the weights that
    read it cancel. To colours a StyleGAN2 has weights over ``sqrt(channels)``, which ``t`` puts right.
    """
    factors: dict[str, float] = {}
    for group, kept in zip(groups, channels, strict=True):
        share = math.sqrt(int(kept.sum()) / group.channels)
        names: list[str] = []
        if isinstance(network, PGGAN):
            names += [slices.name for slices in group.made + group.beside]
            names += [slices.name.removesuffix("weight") + "bias" for slices in group.read]
        if isinstance(network, StyleGAN2):
            names += [slices.name for slices in group.read if ".torgb." in slices.name]
        for name in names:
            factors[name] = factors.get(name, 1.0) * share
    return factors
