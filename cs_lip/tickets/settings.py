"""The constructor's arguments of a network, read off the network."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from cs_lip.priors.dcgan import DCGAN
from cs_lip.priors.decoder import Decoder
from cs_lip.priors.modulated import Dense, StyledConv
from cs_lip.priors.pggan import PGGAN
from cs_lip.priors.prunable import Prunable
from cs_lip.priors.stylegan2 import StyleGAN2
from cs_lip.priors.stylegan2_mapping import Mapping as StyleMapping
from cs_lip.priors.untrained.deep_decoder import ConvDecoder, DeepDecoder
from cs_lip.priors.untrained.skip import Scale, Skip, Step
from cs_lip.priors.untrained.unet import UNet


def settings_of(network: Prunable) -> dict[str, Any]:
    """The arguments with which its class makes a network of the same shapes, JSON-able.

    Of an untrained network they are those behind the image's shape, as `cs_lip.priors.untrained_network` takes them.

    Raises:
        ValueError: the settings of such a network are not known.
    """
    read = _SETTINGS.get(type(network))
    if read is None:
        known = ", ".join(kind.__name__ for kind in _SETTINGS)
        raise ValueError(
            f"the settings of a {type(network).__name__:.40} are not known; try one of {known}, before it is folded"
        )
    return read(network)


def _dcgan(network: DCGAN) -> dict[str, Any]:
    last = network.main[-2]
    assert isinstance(last, nn.ConvTranspose2d)
    return {
        "widths": list(network.widths),
        "first": network.first,
        "kernel": last.kernel_size[0],
        "output_bias": last.bias is not None,
        "labels": network.labels,
        "label": network.label,
    }


def _decoder(network: Decoder) -> dict[str, Any]:
    sizes = [*network.latent_shape, *(layer.out_features for layer in network.linear if isinstance(layer, nn.Linear))]
    return {"sizes": sizes, "image_shape": list(network.image_shape), "activation": network.activation}


def _pggan(network: PGGAN) -> dict[str, Any]:
    convs = [network.start, *(pair[1] for pair in network.doublings if isinstance(pair, nn.Sequential))]
    depths = [conv.out_channels for conv in convs if isinstance(conv, nn.Conv2d)]
    return {"latents": network.latent_size, "depths": depths, "channels": network.image_shape[0]}


def _stylegan2(network: StyleGAN2) -> dict[str, Any]:
    mapping, (size, _) = network.mapping, network.sizes
    convs = [block.conv1 for block in network.synthesis.values()]
    assert isinstance(mapping, StyleMapping) and isinstance(convs[0], StyledConv)
    layers = [layer for name, layer in mapping.items() if name != "embed" and isinstance(layer, Dense)]
    labels = embedding = 0
    if "embed" in mapping:
        embedding, labels = network.get_parameter("mapping.embed.weight").shape
    return {
        "widths": [size, *(len(layer.bias) for layer in layers)],
        "depths": [len(conv.bias) for conv in convs if isinstance(conv, StyledConv)],
        "channels": network.image_shape[0],
        "space": network.space,
        "rate": layers[0].rate,
        "clamp": convs[0].clamp,
        "labels": labels,
        "label": mapping.label,
        "embedding": embedding,
    }


def _skip(network: Skip) -> dict[str, Any]:
    scales = [scale for scale in network.scales if isinstance(scale, Scale)]
    return {
        "input_channels": network.input_shape[0],
        "widths": [scale.deepen.conv.out_channels for scale in scales],
        "skips": [scale.skip.conv.out_channels if scale.skip else 0 for scale in scales],
        "down_kernel": scales[0].deepen.conv.kernel_size[0],
        "up_kernel": scales[0].join.conv.kernel_size[0],
        "upsampling": [scale.upsampling for scale in scales],
        "pooling": scales[0].halve.pooling,
        "mixing": isinstance(scales[0].mix, Step),
        "grid": network.grid,
        "jitter": network.jitter,
    }


def _deep_decoder(network: DeepDecoder) -> dict[str, Any]:
    return {"channels": _channels(network), "depth": len(network.convs) - 1, "jitter": network.jitter}


def _conv_decoder(network: ConvDecoder) -> dict[str, Any]:
    return {
        "channels": _channels(network),
        "layers": len(network.convs),
        "input_size": list(network.input_shape[1:]),
        "upsampling": network.upsampling,
        "jitter": network.jitter,
    }


def _channels(network: DeepDecoder | ConvDecoder) -> list[int]:
    convs = [conv for conv in network.convs if isinstance(conv, nn.Conv2d)]
    return [network.input_shape[0], *(conv.out_channels for conv in convs)]


def _unet(network: UNet) -> dict[str, Any]:
    widths = [network.get_parameter(f"down.{index}.0.weight").shape[0] for index in range(len(network.down))]
    return {"input_channels": network.input_shape[0], "widths": widths}


_SETTINGS: Mapping[type, Callable[[Any], dict[str, Any]]] = {
    DCGAN: _dcgan,
    PGGAN: _pggan,
    StyleGAN2: _stylegan2,
    Decoder: _decoder,
    Skip: _skip,
    DeepDecoder: _deep_decoder,
    ConvDecoder: _conv_decoder,
    UNet: _unet,
}
