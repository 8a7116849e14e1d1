"""Smaller images out of larger ones (super-resolution)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cs_lip.operators.arguments import checked_choice, checked_count, checked_image_shape
from cs_lip.operators.constants import join_double, split_double
from cs_lip.operators.linear import RECIPE_FORMAT, LinearOperator

KERNELS = ("box", "bicubic", "lanczos")


class Downsample(LinearOperator):
    """y = D_h x D_w^T for each channel: an image smaller by a whole factor f, without aliasing.

    ``A(x)`` maps ``(*batch, *in_shape)`` to the same shape with height / f and width / f. Output pixel i of a row is
    sum_j k((j + 1/2) / f - (i + 1/2)) x_j / sum_j k(...) over the pixels j of the image, with a kernel k as wide as f
    asks for. Every row of D sums to 1, so a constant image keeps its value; the norm of A is about 1/f.

    - ``"box"``: the mean over f x f pixels.
    - ``"bicubic"``: cubic convolution with a = -1/2 (Keys 1981), 4 f pixels wide.
    - ``"lanczos"``: sinc(t) sinc(t / 3) (Duchon 1979), 6 f pixels wide.

    The weights are those of Pillow's ``resize`` (BOX, BICUBIC, LANCZOS) and of ``torch.nn.functional.interpolate`` with
    ``antialias=True``, without their rounding. Matlab's ``imresize`` uses the same kernels and mirrors the image at its
    border, where here the weights are normalised over the pixels there are: results differ near the border only.

    Box takes O(n) time and no memory. The others are two products with matrices of (side / f, side), which take
    O(n (height + width) / f) operations and below about 500 pixels a side are faster than strided convolutions.

    Args:
        in_shape: (channels, height, width) or (height, width); both sides are multiples of the factor.
        factor: f, from 1 to the shorter side.
        kernel: ``"box"``, ``"bicubic"`` or ``"lanczos"``.

    Raises:
        ValueError: an argument is out of its range, or a side is no multiple of the factor.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, in_shape: Sequence[int], factor: int, *, kernel: str = "bicubic") -> None:
        in_shape = checked_image_shape(in_shape)
        height, width = in_shape[-2:]
        factor = checked_count(factor, "the factor", min(height, width), attempt=min(2, height, width))
        if height % factor or width % factor:
            fitting = (*in_shape[:-2], height - height % factor, width - width % factor)
            raise ValueError(
                f"height and width must be multiples of the factor {factor}, got {in_shape}; "
                f"try to crop the image to {fitting}"
            )
        super().__init__(in_shape, (*in_shape[:-2], height // factor, width // factor))
        self.factor = factor
        self.kernel = checked_choice(kernel, "kernel", KERNELS)
        if kernel != "box":
            for name, side in (("rows", height), ("columns", width)):
                self.register_buffer(name, split_double(_weights(side, self.factor, kernel)), persistent=False)

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "in_shape", "factor", "kernel"}``; see `operator_from_recipe`."""
        return {
            "format": RECIPE_FORMAT,
            "kind": "downsample",
            "in_shape": list(self.in_shape),
            "factor": self.factor,
            "kernel": self.kernel,
        }

    def extra_repr(self) -> str:
        return f"{self.in_shape}, factor={self.factor}, kernel={self.kernel!r}"

    def _apply_forward(self, x: Tensor) -> Tensor:
        if self.kernel == "box":
            planes = x.reshape(-1, 1, *self.in_shape[-2:])
            means: Tensor = torch.nn.functional.avg_pool2d(planes, self.factor)
            return means.reshape(*x.shape[:-2], *self.out_shape[-2:])
        # Columns first: the larger of the two products is then one matrix product over the whole batch.
        return join_double(self.rows, x.dtype) @ (x @ join_double(self.columns, x.dtype).T)

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        if self.kernel == "box":
            f = self.factor
            spread = (y / f**2)[..., :, None, :, None].expand(*y.shape[:-1], f, y.shape[-1], f)
            return spread.reshape(*y.shape[:-2], *self.in_shape[-2:])
        return (join_double(self.rows, y.dtype).T @ y) @ join_double(self.columns, y.dtype)


def _weights(side: int, factor: int, kernel: str) -> npt.NDArray[np.float64]:
    """D of shape (side / factor, side)."""
    t = np.abs(np.subtract.outer(np.arange(side // factor) + 0.5, (np.arange(side) + 0.5) / factor))
    if kernel == "bicubic":
        near, far = (1.5 * t - 2.5) * t**2 + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2
        weights = np.where(t < 1, near, np.where(t < 2, far, 0))
    else:
        weights = np.where(t < 3, np.sinc(t) * np.sinc(t / 3), 0)
    normalised: npt.NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return normalised
