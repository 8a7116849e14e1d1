"""Plain decoders: fully connected layers from latents to images, such as the second half of a variational autoencoder.

D. P. Kingma & M. Welling, "Auto-Encoding Variational Bayes" (ICLR 2014, arXiv 1312.6114, appendix C.1).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from cs_lip.priors.generator import Generator, Layer, State

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": nn.functional.relu,
    "leaky-relu": nn.functional.leaky_relu,
    "softplus": nn.functional.softplus,
    "tanh": nn.functional.tanh,
}
"""What may stand between the layers; the leaky ReLU has PyTorch's slope of 0.01."""


class Decoder(Generator):
    """A chain of linear layers: latents ``(sizes[0],)`` to images ``image_shape`` in [0, 1].

    With ``h_0 = z`` and ``f`` the activation, ``h_i = f(W_i h_{i-1} + b_i)``, and the image is the sigmoid of the last
    layer's ``W_d h_{d-1} + b_d``, the logits of its pixels, row after row.

    Args:
        sizes: the values in every layer from the latent on, such as ``(20, 500, 500, 784)``.
        image_shape: ``(channels, height, width)``, which hold as many values as the last layer gives.
        activation: a name of `ACTIVATIONS`.

    Raises:
        ValueError: sizes that make no layer, an image of another size, or an unknown activation.
    """

    def __init__(self, sizes: Sequence[int], image_shape: Sequence[int], activation: str = "relu") -> None:
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(
                f"the sizes of a decoder's layers are two or more, got {list(sizes)!s:.60}; try [20, 500, 784]"
            )
        if len(image_shape) != 3 or min(image_shape) < 1 or math.prod(image_shape) != sizes[-1]:
            raise ValueError(
                f"images of shape {tuple(image_shape)!s:.60} do not hold the {sizes[-1]!s:.20} values of the last "
                "layer; try an image shape (channels, height, width) whose product is that"
            )
        if activation not in ACTIVATIONS:
            raise ValueError(f"there is no activation {activation!r:.40}; try one of {', '.join(ACTIVATIONS)}")
        channels, height, width = image_shape
        super().__init__((sizes[0],), (channels, height, width))
        self.activation = activation
        self.linear = nn.ModuleList(nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(sizes))

    def layers(self) -> dict[str, Layer]:
        """``linear-1``, ``linear-2``, ..., each with its activation; the last gives the image."""
        *inner, last = self.linear
        activate = ACTIVATIONS[self.activation]
        layers: list[Layer] = [*(partial(_activated, layer, activate) for layer in inner), partial(self._finish, last)]
        return {f"linear-{index}": layer for index, layer in enumerate(layers, 1)}

    def _finish(self, last: nn.Module, state: State) -> State:
        (values,) = state
        pixels: Tensor = last(values).sigmoid()
        return (pixels.reshape(-1, *self.image_shape),)


def _activated(layer: nn.Module, activate: Callable[[Tensor], Tensor], state: State) -> State:
    (values,) = state
    return (activate(layer(values)),)
