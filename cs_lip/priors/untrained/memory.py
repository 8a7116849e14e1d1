"""How much memory a fit of an untrained network takes, before any is taken."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cs_lip.priors.untrained.network import UntrainedNetwork
from cs_lip.priors.untrained.registry import shapes_alone

COPIES = 5
"""Of the weights in a fit by Adam: the caller's, the fit's, the gradient and its two moments."""

WAY_BACK = 2
"""Memory at the largest over what autograd keeps: gradients of feature maps, and what convolutions need for a moment.
Measured at 128x128 on a CPU: 2.0 for `skip`, 2.2 for `conv_decoder`, 2.8 for `deep_decoder`, with the weights off."""


def fit_bytes(name: str, image_shape: Sequence[int], **settings: Any) -> int:
    """The bytes, about, that a fit of the network's weights to one image takes at its largest, in float32.

    They are ``5 weights + 2 kept``: the weights five times, and twice what autograd keeps of one image on its way to
    the loss, which grows with the pixels. The latter is counted on the device ``meta``, so nothing is allocated. The
    operator and its measurements come on top.

    Args:
        name: of `UNTRAINED`.
        image_shape: ``(channels, height, width)``.
        settings: of the network's class.

    Raises:
        ValueError: as `untrained_network`.
    """
    network = shapes_alone(name, image_shape, settings)
    weights = sum(values.numel() * values.element_size() for values in network.parameters())
    return COPIES * weights + WAY_BACK * _kept_bytes(network)


def _kept_bytes(network: UntrainedNetwork) -> int:
    """What autograd keeps of one image, but for the weights; maps that several steps keep count once."""
    kept: dict[int, Tensor] = {}

    def keep(value: Tensor) -> Tensor:
        if not isinstance(value, nn.Parameter):
            kept[value.untyped_storage()._cdata] = value
        return value

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        drawn: Tensor = network(torch.empty(1, *network.input_shape, device="meta"))  # holds on to all that is kept
    total = sum(int(value.untyped_storage().nbytes()) for value in kept.values())
    return total + int(drawn.untyped_storage().nbytes())
