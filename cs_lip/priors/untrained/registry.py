"""The untrained networks by name, and building them from a seed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from cs_lip.priors.untrained.deep_decoder import ConvDecoder, DeepDecoder
from cs_lip.priors.untrained.network import UntrainedNetwork
from cs_lip.priors.untrained.skip import Skip, hourglass
from cs_lip.priors.untrained.unet import UNet
from cs_lip.seeding import stream

UNTRAINED: dict[str, Callable[..., UntrainedNetwork]] = {
    "skip": Skip,
    "hourglass": hourglass,
    "deep_decoder": DeepDecoder,
    "conv_decoder": ConvDecoder,
    "unet": UNet,
}
"""What `untrained_network` can make; the arguments after the image's shape are JSON-able."""


def untrained_network(name: str, image_shape: Sequence[int], seed: int = 0, **settings: Any) -> UntrainedNetwork:
    """An untrained network on the CPU, in float32, with initial weights that are the seed's alone.

    Args:
        name: of `UNTRAINED`.
        image_shape: ``(channels, height, width)``.
        seed: of the weights; the input is a stream of its own (`UntrainedNetwork.sample_input`).
        settings: of the network's class. Of ``skip``, `SKIP_SETTINGS` has the published ones by task.

    Raises:
        ValueError: an unknown name, settings that it does not take, an image that is too small for it, or a bad seed.
    """
    weights = stream(seed, "weights")
    network = shapes_alone(name, image_shape, settings)
    try:
        network.to_empty(device="cpu")
    except RuntimeError as error:
        raise _not_made(name, settings, error) from None
    network.initialise(weights)
    return network


def shapes_alone(name: str, image_shape: Sequence[int], settings: Mapping[str, Any]) -> UntrainedNetwork:
    """The network on the device ``meta``, where tensors have shapes but no numbers and take no memory.

    PyTorch's initial weights then cost neither memory nor global random numbers.

    Raises:
        ValueError: as `untrained_network`, but for the seed.
    """
    make = UNTRAINED.get(name)
    if make is None:
        raise ValueError(f"there is no untrained network {name[:40]!r}; try one of {', '.join(UNTRAINED)}")
    try:
        with torch.device("meta"):
            return make(image_shape, **settings)
    except (TypeError, RuntimeError, OverflowError) as error:
        raise _not_made(name, settings, error) from None


def _not_made(name: str, settings: Mapping[str, Any], error: Exception) -> ValueError:
    reason = str(error).partition("\n")[0][:120]
    return ValueError(
        f"the settings {sorted(settings)} do not make the network {name!r} ({reason}); try its documented settings"
    )
