"""The hidden channels of a network, whatever its architecture."""

from collections.abc import Callable, Mapping
from typing import Any

from cs_lip.priors.dcgan import DCGAN
from cs_lip.priors.decoder import Decoder
from cs_lip.priors.pggan import PGGAN
from cs_lip.priors.prunable import Prunable
from cs_lip.priors.stylegan2 import StyleGAN2
from cs_lip.priors.untrained.deep_decoder import ConvDecoder, DeepDecoder
from cs_lip.priors.untrained.skip import Skip
from cs_lip.priors.untrained.unet import UNet
from cs_lip.tickets.generator_channels import dcgan_channels, decoder_channels, pggan_channels, stylegan2_channels
from cs_lip.tickets.slices import ChannelGroup
from cs_lip.tickets.untrained_channels import chain_channels, skip_channels, unet_channels


def channel_groups(network: Prunable) -> tuple[ChannelGroup, ...]:
    """The hidden channels of a network: neither those of its latent or input nor the colours of its image.

    Raises:
        ValueError: the channels of such a network are not known.
    """
    find = _GROUPS.get(type(network))
    if find is None:
        known = ", ".join(kind.__name__ for kind in _GROUPS)
        raise ValueError(
            f"the channels of a {type(network).__name__:.40} are not known; try one of {known}, before it is folded"
        )
    return find(network)


_GROUPS: Mapping[type, Callable[[Any], tuple[ChannelGroup, ...]]] = {
    DCGAN: dcgan_channels,
    PGGAN: pggan_channels,
    StyleGAN2: stylegan2_channels,
    Decoder: decoder_channels,
    Skip: skip_channels,
    DeepDecoder: chain_channels,
    ConvDecoder: chain_channels,
    UNet: unet_channels,
}
