"""The mapping of a StyleGAN2 generator: from z, whose length says nothing, to w, which styles the image."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from cs_lip.priors.modulated import GAIN, SLOPE, Dense, normalised, plain_linear
from cs_lip.seeding import stream


class Mapping(nn.ModuleDict):
    """The mapping ``z -> w``: `normalised`, then linear layers ``fc0``, ``fc1``, ... each with a leaky ReLU.

    A class, if there are any, is a one-hot vector that ``embed`` makes a vector of, which is normalised and joined to
    ``z``, behind it.
    """

    def __init__(
        self, widths: Sequence[int], *, rate: float = 0.01, labels: int = 0, label: int = 0, embedding: int = 0
    ) -> None:
        if not 0 <= label < max(labels, 1):
            raise ValueError(f"the label must be from 0 to {max(labels, 1) - 1}, got {label}; try 0")
        fans = [widths[0] + (embedding if labels else 0), *widths[1:]]
        modules: dict[str, nn.Module] = {"embed": Dense(labels, embedding)} if labels else {}
        modules |= {f"fc{index}": Dense(*pair, rate=rate) for index, pair in enumerate(pairwise(fans))}
        super().__init__(modules)
        self.label = label

    def forward(self, z: Tensor) -> Tensor:
        """``w`` of shape ``(batch, styles)`` for ``z`` of shape ``(batch, size)``."""
        vectors = normalised(z)
        for name, layer in self.items():
            if name == "embed":
                vectors = torch.cat([vectors, self.embedded().expand(len(vectors), -1)], 1)
            else:
                vectors = GAIN * nn.functional.leaky_relu(layer(vectors), SLOPE)
        return vectors

    def embedded(self) -> Tensor:
        """The vector of the fixed class, ``(embedding,)``."""
        embed = self["embed"]
        assert isinstance(embed, Dense)
        weight, bias = embed.scaled()
        return normalised(weight[:, self.label] + bias)


class FoldedMapping(nn.Sequential):
    """A frozen `Mapping` with its gains baked in; the fixed class is a part of the first bias.

    The gain behind a leaky ReLU may as well stand before it, since that is linear along every ray from 0.
    """

    def __init__(self, source: Mapping) -> None:
        super().__init__()
        for name, layer in source.items():
            if name == "embed":
                continue
            assert isinstance(layer, Dense)
            weight, bias = layer.scaled()
            if name == "fc0" and "embed" in source:
                fixed = source.embedded()
                bias = bias + weight[:, -len(fixed) :] @ fixed
                weight = weight[:, : -len(fixed)]
            self.append(plain_linear(GAIN * weight, GAIN * bias))
            self.append(nn.LeakyReLU(SLOPE))

    def forward(self, z: Tensor) -> Tensor:
        vectors = normalised(z)
        for layer in self:
            vectors = layer(vectors)
        return vectors


def spread_of(mapping: nn.Module, size: int) -> tuple[Tensor, Tensor]:
    """The mean of ``w``, ``(styles,)``, and its spread, ``()``, over 10,000 standard normal ``z`` of this size.

    The spread is the root mean square, over the coordinates, of their standard deviations. The ``z`` come from a fixed
    stream of their own, so the same mapping always has the same mean and spread.
    """
    random = stream(0, "stylegan2 spread")
    with torch.no_grad():
        w = torch.cat([mapping(torch.randn(1000, size, generator=random)) for _ in range(10)]).double()
    return w.mean(0).float(), w.var(0).mean().sqrt().float()
