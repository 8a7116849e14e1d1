"""Total variation of images."""

from torch import Tensor

SMOOTHING = 0.01
"""Of the gradient's length at zero, in units of intensity: far below an edge, and above the rounding of 8 bits."""


def total_variation(images: Tensor) -> Tensor:
    """Isotropic total variation a pixel and channel of every image, ``(rows,)``.

    TV(x) = 1/n sum_p sqrt(C sum_c |grad x_c(p)|^2 + s^2), with forward differences, C channels and a smoothing ``s``.
    The channels share one gradient length, so that edges fall in the same place in all of them; an image with equal
    channels has the TV of one of them.

    Args:
        images: ``(rows, channels, height, width)``.

    Source: Rudin, Osher & Fatemi 1992; the coupling of channels Blomgren & Chan 1998, Bresson & Chan 2008.
    """
    across = images[..., :-1, 1:] - images[..., :-1, :-1]
    down = images[..., 1:, :-1] - images[..., :-1, :-1]
    squares = (across.square() + down.square()).sum(1)
    channels, values = images.shape[1], images[0].numel()
    return (channels * squares + SMOOTHING**2).sqrt().sum((1, 2)) / values
