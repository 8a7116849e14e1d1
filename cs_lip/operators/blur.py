"""Blur: convolution with a kernel, and the kernels that are usual."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
import torch
from torch import Tensor

from cs_lip.operators.arguments import checked_choice, checked_count, checked_image_shape, checked_number
from cs_lip.operators.constants import join_double, split_double
from cs_lip.operators.encoding import decode_array, encode_array
from cs_lip.operators.linear import RECIPE_FORMAT, LinearOperator

# Bounds of what the kernels' functions make, so that a slip of a unit does not fill the memory.
LARGEST_KERNEL = 4096


class Blur(LinearOperator):
    """y[i] = sum_j k[j] x[i - j + c]: each channel convolved with one kernel, anchored at c = (height, width) // 2.

    ``A(x)`` maps ``(*batch, *in_shape)`` to the same shape. This is `scipy.ndimage.convolve` (of even sizes too), a
    true convolution: a point becomes the kernel, not its mirror image. The kernel is used as it is; one that sums to 1
    (as `gaussian_kernel` and `motion_kernel` do) keeps a constant image. With a circular border, or with a kernel of
    odd sides that is its own mirror image along each axis, it keeps the mean of every image, and the norm of A is at
    most sum |k|; any other kernel gives some pixels more weight than others at a reflecting border, and the norm is at
    most 2 sum |k|.

    Borders, named as in scipy.ndimage:

    - ``"circular"``: (a b c d | a b c d | a b c d), scipy's ``"wrap"``; A^T A is then circulant.
    - ``"reflect"``: (d c b a | a b c d | d c b a), half-sample symmetric, which scipy calls ``"reflect"`` and numpy
      ``"symmetric"``. PyTorch's ``"reflect"`` is another one, (d c b | a b c d | c b a).

    Both go through the real FFT, of the image or of the image with its border: time O(n log n) whatever the size of
    the kernel, which beats a direct convolution even for 3 x 3, and 8 bytes for each pixel of one plane.

    Args:
        in_shape: (channels, height, width) or (height, width).
        kernel: real and finite, of shape (height, width) no larger than the image, odd or even.
        border: ``"circular"`` or ``"reflect"``.

    Raises:
        ValueError: an argument is out of its range; the input is neither float32 nor float64.
    """

    transfer: Tensor

    def __init__(self, in_shape: Sequence[int], kernel: Tensor | npt.NDArray[Any], *, border: str = "circular") -> None:
        in_shape = checked_image_shape(in_shape)
        super().__init__(in_shape, in_shape)
        numbers = _checked_kernel(kernel, in_shape[-2:])
        self.kernel = torch.from_numpy(numbers)
        self.border = checked_choice(border, "border", ("circular", "reflect"))
        (height, width), (kernel_height, kernel_width) = in_shape[-2:], numbers.shape
        self._after = (kernel_height // 2, kernel_width // 2)
        self._before = (kernel_height - 1 - kernel_height // 2, kernel_width - 1 - kernel_width // 2)
        self._fft_shape = (height, width)
        shift = self._after
        if border == "reflect":
            # Output i is the full convolution of the padded image at i + size - 1; zeros up to a fast length are free.
            shift = (kernel_height - 1, kernel_width - 1)
            padded = (height + shift[0], width + shift[1])
            self._fft_shape = (_fast_size(padded[0]), _fast_size(padded[1]))
        plane = np.zeros(self._fft_shape)
        plane[:kernel_height, :kernel_width] = numbers
        spectrum = scipy.fft.rfft2(np.roll(plane, (-shift[0], -shift[1]), (0, 1)))
        halves = spectrum.view(np.float64).reshape(*spectrum.shape, 2)
        self.register_buffer("transfer", split_double(halves), persistent=False)

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "in_shape", "kernel", "border"}``; see `operator_from_recipe`."""
        return {
            "format": RECIPE_FORMAT,
            "kind": "blur",
            "in_shape": list(self.in_shape),
            "kernel": encode_array(self.kernel.numpy()),
            "border": self.border,
        }

    def extra_repr(self) -> str:
        return f"{self.in_shape}, kernel of {tuple(self.kernel.shape)}, border={self.border!r}"

    def _apply_forward(self, x: Tensor) -> Tensor:
        transfer = self._transfer_for(x)
        if self.border == "reflect":
            x = self._reflect(x)
        spectrum: Tensor = torch.fft.rfft2(x, s=self._fft_shape)
        blurred: Tensor = torch.fft.irfft2(spectrum.mul_(transfer), s=self._fft_shape)
        return blurred[..., : self.in_shape[-2], : self.in_shape[-1]].contiguous()

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        transfer = self._transfer_for(y).conj()
        spectrum: Tensor = torch.fft.rfft2(y, s=self._fft_shape)
        x: Tensor = torch.fft.irfft2(spectrum.mul_(transfer), s=self._fft_shape)
        if self.border == "reflect":
            x = self._fold(x)
        return x.contiguous()

    def _reflect(self, x: Tensor) -> Tensor:
        """The image with its mirrored border, and with zeros up to the size of the transform."""
        padded = x.new_zeros((*x.shape[:-2], *self._fft_shape))
        self._image_in(padded).copy_(x)
        for axis in (-2, -1):
            before, side, after = self._before[axis], self.in_shape[axis], self._after[axis]
            padded.narrow(axis, 0, before).copy_(padded.narrow(axis, before, before).flip(axis))
            end = before + side
            padded.narrow(axis, end, after).copy_(padded.narrow(axis, end - after, after).flip(axis))
        return padded

    def _fold(self, padded: Tensor) -> Tensor:
        """The adjoint of `_reflect`: the border is added to what it mirrors, in place, and the image cut out."""
        for axis in (-1, -2):
            before, side, after = self._before[axis], self.in_shape[axis], self._after[axis]
            padded.narrow(axis, before, before).add_(padded.narrow(axis, 0, before).flip(axis))
            end = before + side
            padded.narrow(axis, end - after, after).add_(padded.narrow(axis, end, after).flip(axis))
        return self._image_in(padded)

    def _image_in(self, padded: Tensor) -> Tensor:
        height, width = self.in_shape[-2:]
        return padded.narrow(-2, self._before[0], height).narrow(-1, self._before[1], width)

    def _transfer_for(self, x: Tensor) -> Tensor:
        if x.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"Blur computes in float32 or float64, got {x.dtype}; try x.float()")
        return torch.view_as_complex(join_double(self.transfer, x.dtype))


def blur_from_recipe(in_shape: Sequence[int], kernel: object, border: str) -> Blur:
    """The `Blur` of a recipe, whose kernel is an encoded array of float64.

    Raises:
        ValueError: it is no such array, or an argument is out of its range.
    """
    return Blur(in_shape, decode_array(kernel, "kernel", dtypes=("float64",)), border=border)


def gaussian_kernel(sigma: float, size: int | None = None) -> Tensor:
    """k[u, v] proportional to exp(-(u^2 + v^2) / (2 sigma^2)), float64 of shape (size, size), of sum 1.

    Args:
        sigma: standard deviation in pixels, from 0.01 to 512.
        size: odd; when left out 2 r + 1 with r = 4 sigma rounded, as in `scipy.ndimage.gaussian_filter`.

    Raises:
        ValueError: an argument is out of its range.
    """
    sigma = checked_number(sigma, "the standard deviation sigma", 0.01, LARGEST_KERNEL / 8, attempt=2)
    if size is None:
        size = 2 * int(4 * sigma + 0.5) + 1
    else:
        size = checked_count(size, "the size of the kernel", LARGEST_KERNEL, attempt=9)
    if size % 2 == 0:
        raise ValueError(f"a Gaussian kernel is centred on a pixel and has an odd size, got {size}; try {size + 1}")
    profile = np.exp(-0.5 * ((np.arange(size) - size // 2) / sigma) ** 2)
    kernel = np.outer(profile, profile)
    return torch.from_numpy(kernel / kernel.sum())


def motion_kernel(length: float, angle: float) -> Tensor:
    """The blur of a camera that moves along a straight line: float64, of odd height and width, of sum 1.

    A pixel weighs max(1 - d, 0) with its distance d from a segment through the centre, from end pixel to end pixel,
    as in Matlab's ``fspecial("motion", length, angle)``.

    Args:
        length: number of pixels the line covers, from 1 to 4096.
        angle: in degrees, counter-clockwise from the horizontal axis as the image is displayed.

    Raises:
        ValueError: an argument is out of its range.
    """
    half = (checked_number(length, "the length of the motion", 1, LARGEST_KERNEL, attempt=9) - 1) / 2
    angle = math.radians(checked_number(angle, "the angle of the motion in degrees", -360, 360, attempt=45))
    along_x, along_y = math.cos(angle), math.sin(angle)
    # The pixels closer than 1; the subtraction keeps rounding from adding a row of zeros.
    reach_x, reach_y = (math.ceil(half * abs(part) - 1e-9) for part in (along_x, along_y))
    x, y = np.arange(-reach_x, reach_x + 1)[None, :], np.arange(reach_y, -reach_y - 1, -1)[:, None]
    nearest = np.clip(x * along_x + y * along_y, -half, half)
    kernel = np.maximum(1 - np.hypot(x - nearest * along_x, y - nearest * along_y), 0)
    return torch.from_numpy(kernel / kernel.sum())


def _checked_kernel(kernel: object, image: tuple[int, ...]) -> npt.NDArray[np.float64]:
    if isinstance(kernel, Tensor):
        kernel = kernel.detach().cpu().numpy()
    if not isinstance(kernel, np.ndarray) or kernel.ndim != 2 or kernel.dtype.kind not in "iuf":
        got = f"{kernel.dtype} of {kernel.shape}" if isinstance(kernel, np.ndarray) else type(kernel).__name__
        raise ValueError(
            f"a kernel must be a tensor or array of real numbers of shape (height, width), got {got}; "
            "try gaussian_kernel(2.0)"
        )
    if not (1 <= kernel.shape[0] <= image[0] and 1 <= kernel.shape[1] <= image[1]):
        raise ValueError(
            f"a kernel must not be larger than the image of {image} and not empty, got {kernel.shape}; "
            "try to crop the kernel"
        )
    numbers = kernel.astype(np.float64, order="C")
    if not np.isfinite(numbers).all():
        raise ValueError("a kernel must hold finite numbers, got NaN or infinity; try torch.nan_to_num(kernel)")
    return numbers


def _fast_size(size: int) -> int:
    """A fast length of a Fourier transform, ``size`` or up to a quarter more."""
    # Multiples of 8 without large factors: odd multiples of 2 that scipy calls fast took up to twice the time.
    fast: int = 8 * scipy.fft.next_fast_len(-(-size // 8), real=True)
    return fast
