"""The single-pixel camera: an image seen through Hadamard patterns."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cs_lip.operators.arguments import checked_choice, checked_image_shape, checked_m
from cs_lip.operators.hadamard import sequency_order, walsh_hadamard
from cs_lip.operators.linear import RECIPE_FORMAT, LinearOperator


class SinglePixel(LinearOperator):
    """``y_i = <p_i, x> / sqrt(N)``: each channel seen through the first two-dimensional Hadamard patterns p_i.

    ``A(x)`` maps ``(*batch, *in_shape)`` to ``(*batch, m)``. A pattern is the outer product of two rows of Hadamard
    matrices, one for the height and one for the width, of N pixels in all. A side that is not a power of two takes
    patterns of the next power, cropped to the image (the image is padded with zeros), and N counts them uncropped.

    - ``patterns="+-1"``: as they are. Rows are then orthonormal, A A^T = I, for sides that are powers of two; else the
      norm of A is at most 1.
    - ``patterns="0/1"``: (p + 1) / 2, what a micromirror array shows (Duarte et al. 2008, "Single-pixel imaging via
      compressive sampling"). Measurements then share a large mean; the norm of A grows like sqrt(m / channels) / 2.

    The bare sums that a detector counts are those of ``math.sqrt(N) * A``.

    - ``order="sequency"``: by the number of sign changes along a column plus that along a row, coarse patterns first;
      among equals, the one with fewer changes along a column is first.
    - ``order="natural"``: by the row of Sylvester's matrix of size N, as in `scipy.linalg.hadamard`.

    Pattern 0 of every channel comes first, then pattern 1 of every channel, and so on, so that fewer measurements are
    the first ones of more. Time O(n log n) by `walsh_hadamard` whatever m is, memory O(n).

    Args:
        in_shape: (channels, height, width) or (height, width).
        m: number of measurements over all channels, 1 <= m <= n = prod(in_shape).
        patterns: ``"+-1"`` or ``"0/1"``.
        order: ``"sequency"`` or ``"natural"``.

    Raises:
        ValueError: an argument is out of its range.
    """

    indices: Tensor

    def __init__(self, in_shape: Sequence[int], m: int, *, patterns: str = "+-1", order: str = "sequency") -> None:
        in_shape = checked_image_shape(in_shape)
        m = checked_m(m, 1, math.prod(in_shape))
        super().__init__(in_shape, (m,))
        self.patterns = checked_choice(patterns, "patterns", ("+-1", "0/1"))
        self.order = checked_choice(order, "order", ("sequency", "natural"))
        self._height, self._width = (1 << (side - 1).bit_length() for side in in_shape[-2:])
        size = self._height * self._width
        ranked = _sequency_order(self._height, self._width) if order == "sequency" else np.arange(size)
        channels = in_shape[0] if len(in_shape) == 3 else 1
        indices = (ranked[:, None] + np.arange(channels) * size).ravel()[:m]
        self.register_buffer("indices", torch.from_numpy(indices), persistent=False)

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "in_shape", "m", "patterns", "order"}``; see `operator_from_recipe`."""
        return {
            "format": RECIPE_FORMAT,
            "kind": "single-pixel",
            "in_shape": list(self.in_shape),
            "m": self.m,
            "patterns": self.patterns,
            "order": self.order,
        }

    def extra_repr(self) -> str:
        return f"{self.in_shape}, m={self.m}, patterns={self.patterns!r}, order={self.order!r}"

    def _apply_forward(self, x: Tensor) -> Tensor:
        bottom, right = self._height - self.in_shape[-2], self._width - self.in_shape[-1]
        if bottom or right:
            x = torch.nn.functional.pad(x, (0, right, 0, bottom))
        transformed = walsh_hadamard(x.flatten(-2))
        if self.patterns == "0/1":
            # <(p + 1) / 2, x> = (<p, x> + <1, x>) / 2, and the first pattern is all ones.
            transformed = (transformed + transformed[..., :1]) / 2
        flat = transformed if len(self.in_shape) == 2 else transformed.flatten(-2)
        return flat.index_select(-1, self.indices) / math.sqrt(self._height * self._width)

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        size = self._height * self._width
        flat = y.new_zeros((*y.shape[:-1], *self.in_shape[:-2], size)).flatten(y.dim() - 1)
        flat.scatter_(-1, self.indices.expand_as(y), y / math.sqrt(size))
        spectrum = flat.reshape(*y.shape[:-1], *self.in_shape[:-2], size)
        if self.patterns == "0/1":
            spectrum = spectrum / 2
            spectrum[..., 0] += spectrum.sum(-1)
        x = walsh_hadamard(spectrum).reshape(*spectrum.shape[:-1], self._height, self._width)
        return x[..., : self.in_shape[-2], : self.in_shape[-1]].contiguous()


def _sequency_order(height: int, width: int) -> npt.NDArray[np.int64]:
    """The rows of Sylvester's matrix of size height * width, by the sign changes of the pattern."""
    changes = np.add.outer(np.arange(height), np.arange(width)).ravel()
    rows = np.add.outer(sequency_order(height) * width, sequency_order(width)).ravel()
    return rows[np.argsort(changes, kind="stable")]
