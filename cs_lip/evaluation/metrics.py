"""How close an image is to the truth: MSE, PSNR and SSIM of images in [0, 1]."""

import math

from skimage.metrics import structural_similarity
from torch import Tensor

SSIM_SIGMA = 1.5
SSIM_WINDOW = 11
"""Pixels across SSIM's Gaussian window: ``2 * round(3.5 sigma) + 1``, the 11x11 of Wang et al."""


def mse(a: Tensor, b: Tensor) -> float:
    """Mean squared error per pixel and channel, ``mean((a - b)^2)``, in double precision.

    Args:
        a, b: images ``(channels, height, width)`` in [0, 1].

    Raises:
        ValueError: the shapes differ, or they are not of that form.
    """
    _check(a, b)
    return float((a.detach().double() - b.detach().double()).square().mean())


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in decibels, ``-10 log10(mse(a, b))``: the data range is 1.

    Args:
        a, b: images ``(channels, height, width)`` in [0, 1].

    Returns:
        The ratio in dB; infinity where the images are identical.

    Raises:
        ValueError: the shapes differ, or they are not of that form.
    """
    error = mse(a, b)
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(a: Tensor, b: Tensor) -> float:
    """Structural similarity (Wang, Bovik, Sheikh & Simoncelli 2004), per channel and averaged.

    The paper's settings: an 11x11 Gaussian window of standard deviation 1.5, population covariances, ``K1 = 0.01`` and
    ``K2 = 0.03``, data range 1. Scikit-image carries it out, and leaves out a border of 5 pixels, where the window
    would reach over the edge.

    Args:
        a, b: images ``(channels, height, width)`` in [0, 1], at least 11 pixels high and wide.

    Returns:
        A number in [-1, 1]; 1 where the images are identical.

    Raises:
        ValueError: the shapes differ, are not of that form, or are smaller than the window.
    """
    _check(a, b)
    if min(a.shape[1:]) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM needs images at least {SSIM_WINDOW} pixels high and wide, got {tuple(a.shape)}; try MSE or PSNR"
        )
    similarity = structural_similarity(
        a.detach().double().cpu().numpy(),
        b.detach().double().cpu().numpy(),
        gaussian_weights=True,
        sigma=SSIM_SIGMA,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=0,
    )
    return float(similarity)


def _check(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.dim() != 3 or a.numel() == 0:
        raise ValueError(
            f"expected two images of one shape (channels, height, width), got {tuple(a.shape)} and {tuple(b.shape)}; "
            "try one image of a batch at a time"
        )
