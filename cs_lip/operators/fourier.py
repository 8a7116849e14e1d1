"""Subsampled two-dimensional Fourier measurements, as in magnetic resonance imaging."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cs_lip.operators.arguments import checked_m, checked_seed, checked_shape
from cs_lip.operators.linear import RECIPE_FORMAT, LinearOperator

# The density (1 - r)^4 of the centre pattern: Lustig, Donoho & Pauly 2007 found powers from 1 to 6 useful.
CENTRE_POWER = 4
# Keeps the weight of the farthest corner, where r = 1, above zero.
SMALLEST_WEIGHT = 1e-6


class SubsampledFourier(LinearOperator):
    """y = S F x: k = m / 2 complex samples of the orthonormal 2-D spectrum of each channel.

    ``A(x)`` maps real ``(*batch, *in_shape)`` to complex ``(*batch, k)``; the adjoint x = Re(F^H S^T y) is real.

    A complex sample counts as two real measurements, so m is even. The spectrum of a real image is conjugate symmetric,
    F(-u, -v) = conj(F(u, v)), so a sample's twin would tell nothing new: samples are drawn without replacement from
    one half of the plane, and no twin is ever measured. A frequency that is its own twin (zero frequency is one) has no
    imaginary part and still counts as two, so m never understates what was measured. The rows of the real matrix are
    orthogonal, of norm 1/sqrt(2) (at own twins 1, and 0 for the imaginary part), so E|A x|^2 is not |x|^2 here.

    Patterns, both drawn by exponential keys (Efraimidis & Spirakis 2006):

    - ``"uniform"``: every frequency of the half plane of every channel is equally likely.
    - ``"centre"``: variable density (Lustig, Donoho & Pauly 2007), with weight (1 - r)^4 where r in [0, 1] is the
      distance from zero frequency over that of the farthest one; the zero frequency of every channel is always
      measured when k is at least the number of channels.

    Args:
        in_shape: (channels, height, width) or (height, width).
        m: number of real measurements, even, 2 <= m <= n = prod(in_shape).
        seed: integer in [0, 2^63 - 1].
        pattern: ``"uniform"`` or ``"centre"``.

    Raises:
        ValueError: an argument is out of its range; the input is neither float32 nor float64.
    """

    indices: Tensor

    def __init__(self, in_shape: Sequence[int], m: int, *, seed: int, pattern: str = "uniform") -> None:
        in_shape = checked_shape(in_shape)
        n = math.prod(in_shape)
        if len(in_shape) not in (2, 3) or n < 2:
            raise ValueError(
                f"SubsampledFourier needs (channels, height, width) or (height, width) of two pixels or more, "
                f"got {in_shape}; try (3, 64, 64)"
            )
        m = checked_m(m, 2, n)
        if m % 2:
            nearest = f"{m - 1} or {m + 1}" if m < n else f"{m - 1}"
            raise ValueError(f"m must be even, as a complex sample counts as two real ones, got {m}; try {nearest}")
        if pattern not in ("uniform", "centre"):
            raise ValueError(f"the pattern must be 'uniform' or 'centre', got {pattern!r}; try 'uniform'")
        super().__init__(in_shape, (m // 2,), out_is_complex=True)
        self.seed = checked_seed(seed)
        self.pattern = pattern
        channels = in_shape[0] if len(in_shape) == 3 else 1
        indices = _draw_indices(channels, in_shape[-2], in_shape[-1], m // 2, self.seed, pattern)
        self.register_buffer("indices", torch.from_numpy(indices), persistent=False)

    @property
    def mask(self) -> Tensor:
        """The measured frequencies as booleans of shape ``in_shape``, zero frequency first (`fftshift` centres it)."""
        mask = torch.zeros(math.prod(self.in_shape), dtype=torch.bool, device=self.indices.device)
        mask[self.indices] = True
        return mask.reshape(self.in_shape)

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "in_shape", "m", "seed", "pattern"}``; see `operator_from_recipe`."""
        return {
            "format": RECIPE_FORMAT,
            "kind": "fourier",
            "in_shape": list(self.in_shape),
            "m": self.m,
            "seed": self.seed,
            "pattern": self.pattern,
        }

    def extra_repr(self) -> str:
        return f"{self.in_shape}, m={self.m}, seed={self.seed}, pattern={self.pattern!r}"

    def _apply_forward(self, x: Tensor) -> Tensor:
        if x.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"SubsampledFourier computes in float32 or float64, got {x.dtype}; try x.float()")
        spectrum: Tensor = torch.fft.fft2(x, norm="ortho")
        return spectrum.flatten(-len(self.in_shape))[..., self.indices]

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        spectrum = y.new_zeros((*y.shape[:-1], math.prod(self.in_shape)))
        spectrum[..., self.indices] = y
        x: Tensor = torch.fft.ifft2(spectrum.reshape(*y.shape[:-1], *self.in_shape), norm="ortho")
        # The copy drops the imaginary half, which a view would keep in memory.
        return x.real.clone()


def _draw_indices(channels: int, height: int, width: int, k: int, seed: int, pattern: str) -> npt.NDArray[np.int64]:
    """k sorted flat indices into (channels, height, width), with no two conjugate twins of one channel among them."""
    u, v = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    twin = (-u % height) * width + (-v % width)
    half = np.flatnonzero(np.arange(height * width) <= twin.ravel())
    candidates = (np.arange(channels)[:, None] * height * width + half).ravel()
    # Drawing with weights w and without replacement is taking the smallest of the waiting times Exp(1) / w.
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, 0], dtype=np.uint64)))
    keys = generator.standard_exponential(candidates.size)
    if pattern == "centre":
        radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :]).ravel()
        weight = np.maximum(1 - radius / (radius.max() or 1), 0) ** CENTRE_POWER
        keys /= np.maximum(np.tile(weight[half], channels), SMALLEST_WEIGHT)
        if k >= channels:
            keys[candidates % (height * width) == 0] = 0
    return np.sort(candidates[np.argsort(keys, kind="stable")[:k]])
