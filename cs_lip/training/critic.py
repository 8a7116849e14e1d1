"""The critic of WGAN-GP: images to numbers, high for real ones."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

SLOPE = 0.2


class Critic(nn.Module):
    """The mirror image of a `cs_lip.priors.DCGAN`: strided convolutions instead of transposed ones, without any norm.

    Batch norm would couple the images of a batch, and the gradient penalty is on every image alone (Gulrajani et al.
    2017, section 4).

    Args:
        widths: of the generator; its latent plays no part.
        first: the side of the generator's first feature map.
    """

    def __init__(self, widths: Sequence[int], first: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(reversed(widths[1:])):
            layers += [nn.Conv2d(fan_in, fan_out, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        self.main = nn.Sequential(*layers, nn.Conv2d(widths[1], 1, first))

    def forward(self, images: Tensor) -> Tensor:
        """``(batch,)`` for images ``(batch, channels, height, width)`` in [0, 1]."""
        values: Tensor = self.main(2 * images - 1)
        return values.flatten()
