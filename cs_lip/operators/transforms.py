"""Random rows of fast orthogonal transforms: measurements nearly as good as random matrices, in O(n log n)."""

import math
from abc import ABC
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.fft
import torch
from torch import Tensor

from cs_lip.operators.arguments import checked_m, checked_normalisation, checked_seed, checked_shape
from cs_lip.operators.hadamard import walsh_hadamard
from cs_lip.operators.linear import RECIPE_FORMAT, LinearOperator
from cs_lip.operators.spectra import (
    check_precision,
    cosine_transform,
    half_spectrum,
    inverse_cosine_transform,
    sum_of_waves,
)
from cs_lip.operators.streams import Stream, philox


class _SubsampledTransform(LinearOperator, ABC):
    """y = scale * S T x with T orthogonal, of ``blocks`` blocks (one, or one a channel) on ``size`` pixels each.

    A block's output has ``padded`` numbers, and S takes m of all blocks' outputs, drawn uniformly without replacement.
    """

    rows: Tensor
    signs: Tensor

    def __init__(
        self,
        in_shape: Sequence[int],
        m: int,
        kind: str,
        *,
        seed: int,
        per_channel: bool,
        normalisation: str,
        power_of_two: bool = False,
    ) -> None:
        in_shape = checked_shape(in_shape)
        n = math.prod(in_shape)
        super().__init__(in_shape, (checked_m(m, 1, n),))
        self.seed = checked_seed(seed)
        if not isinstance(per_channel, bool) or (per_channel and len(in_shape) < 2):
            raise ValueError(
                f"per_channel must be True or False, and True needs images with a channel axis before others, got "
                f"{per_channel!r} with in_shape {in_shape}; try per_channel=False"
            )
        self.per_channel = per_channel
        self.normalisation = checked_normalisation(normalisation)
        self.blocks = in_shape[0] if per_channel else 1
        self.size = n // self.blocks
        self.padded = 1 << (self.size - 1).bit_length() if power_of_two else self.size
        outputs = self.blocks * self.padded
        # S T keeps the share m / outputs of the energy on average.
        self.scale = math.sqrt(outputs / self.m if normalisation == "1/m" else outputs)
        self._kind = kind
        drawn = np.sort(philox(self.seed, Stream.SUBSET).permutation(outputs)[: self.m])
        self.register_buffer("rows", torch.from_numpy(drawn), persistent=False)

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "in_shape", "m", "seed", "per_channel", "normalisation"}``."""
        return {
            "format": RECIPE_FORMAT,
            "kind": self._kind,
            "in_shape": list(self.in_shape),
            "m": self.m,
            "seed": self.seed,
            "per_channel": self.per_channel,
            "normalisation": self.normalisation,
        }

    def extra_repr(self) -> str:
        return (
            f"{self.in_shape}, m={self.m}, seed={self.seed}, per_channel={self.per_channel}, "
            f"normalisation={self.normalisation!r}"
        )

    def _register_signs(self) -> None:
        signs = 1 - 2 * philox(self.seed, Stream.INPUT_SIGNS).integers(0, 1, self.n, np.int8, endpoint=True)
        self.register_buffer("signs", torch.from_numpy(signs.reshape(self.blocks, self.size)), persistent=False)

    def _signed_blocks(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[: x.dim() - len(self.in_shape)], self.blocks, self.size) * self.signs

    def _signed_images(self, blocks: Tensor) -> Tensor:
        return (blocks * self.signs).reshape(*blocks.shape[:-2], *self.in_shape)


class SubsampledHadamard(_SubsampledTransform):
    """y = c S H P D x: random signs D, zero padding P, the Walsh-Hadamard transform H, m random rows S.

    ``A(x)`` maps ``(*batch, *in_shape)`` to ``(*batch, m)``. H has the entries +1 and -1 over sqrt(N), where N is the
    next power of two from n = prod(in_shape), and acts on the flattened image, or on each flattened channel with N the
    next power of two from its size; the rows are then drawn out of all channels. Ailon & Chazelle 2009 and Tropp 2011
    show that the signs spread any image over all rows, so a uniform draw of rows keeps its energy.

    The normalisation sets c: ``"1/m"`` (default) for entries of variance 1/m, E|A x|^2 = |x|^2 over the seeds, and
    ``"1"`` for entries +1 and -1 (sqrt(channels) times that per channel), E|A x|^2 = m |x|^2. Where n is a power of two
    the rows are orthogonal.

    Time O(N log N) and memory for 2N numbers an image; the operator itself holds 8 m + n bytes and takes float32 and
    float64. The rows of fewer measurements with one seed are among those of more.

    Args:
        in_shape: shape of one image, any number of axes from 1 to 8, the first the channels where ``per_channel``.
        m: number of real measurements, 1 <= m <= n.
        seed: integer in [0, 2^63 - 1].
        per_channel: whether each channel is transformed by itself.
        normalisation: ``"1/m"`` or ``"1"``, the variance of an entry.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        m: int,
        *,
        seed: int,
        per_channel: bool = False,
        normalisation: str = "1/m",
    ) -> None:
        options: dict[str, Any] = {"per_channel": per_channel, "normalisation": normalisation}
        super().__init__(in_shape, m, "hadamard", seed=seed, power_of_two=True, **options)
        self._register_signs()

    def _apply_forward(self, x: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(self._signed_blocks(x), (0, self.padded - self.size))
        y = walsh_hadamard(padded).flatten(-2).index_select(-1, self.rows)
        return y * (self.scale / math.sqrt(self.padded))

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        spectrum = y.new_zeros((*y.shape[:-1], self.blocks * self.padded))
        spectrum.index_copy_(-1, self.rows, y * (self.scale / math.sqrt(self.padded)))
        blocks = walsh_hadamard(spectrum.reshape(*y.shape[:-1], self.blocks, self.padded))
        return self._signed_images(blocks[..., : self.size])


class SubsampledDCT(_SubsampledTransform):
    """y = c S C D x: random signs D, the orthonormal cosine transform C, m random rows S.

    ``A(x)`` maps ``(*batch, *in_shape)`` to ``(*batch, m)``. C is the one-dimensional DCT-II of the flattened image, or
    of each flattened channel, and the rows are then drawn out of all channels; see `SubsampledHadamard` for signs and
    rows, for the arguments and what is raised. Any n will do, without padding: rows are always orthogonal.

    The normalisation sets c = sqrt(n / m) for ``"1/m"`` (default), E|A x|^2 = |x|^2 over the seeds, and c = sqrt(n) for
    ``"1"``, E|A x|^2 = m |x|^2.

    Time O(n log n) and memory for 3n numbers an image; the operator itself holds 8 m + n bytes and takes float32 and
    float64.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        m: int,
        *,
        seed: int,
        per_channel: bool = False,
        normalisation: str = "1/m",
    ) -> None:
        super().__init__(in_shape, m, "dct", seed=seed, per_channel=per_channel, normalisation=normalisation)
        self._register_signs()

    def _apply_forward(self, x: Tensor) -> Tensor:
        check_precision(x)
        spectrum = cosine_transform(self._signed_blocks(x))
        return spectrum.flatten(-2).index_select(-1, self.rows) * self.scale

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        check_precision(y)
        spectrum = y.new_zeros((*y.shape[:-1], self.n))
        spectrum.index_copy_(-1, self.rows, y * self.scale)
        return self._signed_images(inverse_cosine_transform(spectrum.reshape(*y.shape[:-1], self.blocks, self.size)))


class PartialCirculant(_SubsampledTransform):
    """y = c S (h * x): circular convolution with a random kernel h, then m random pixels S (Romberg 2009).

    ``A(x)`` maps ``(*batch, *in_shape)`` to ``(*batch, m)``. The convolution runs over all axes of the image at once
    (for vectors it is a circulant matrix), or per channel, with a kernel for each, over the others; S draws out of all
    channels. The kernel's spectrum has modulus 1 and independent uniform phases, +1 or -1 at frequencies that are their
    own twins (section 1.2 of the paper), so the convolution is orthogonal, and so are the rows.

    The normalisation sets c = sqrt(n / m) for ``"1/m"`` (default), E|A x|^2 = |x|^2 over the seeds, and c = sqrt(n) for
    ``"1"``, E|A x|^2 = m |x|^2.

    Time O(n log n) and memory for 3n numbers an image. The operator holds the spectrum in 4n bytes of float32, which
    ``A.to(...)`` moves and casts. The arguments are those of `SubsampledHadamard`, and so is what is raised.
    """

    spectrum: Tensor

    def __init__(
        self,
        in_shape: Sequence[int],
        m: int,
        *,
        seed: int,
        per_channel: bool = False,
        normalisation: str = "1/m",
    ) -> None:
        super().__init__(in_shape, m, "circulant", seed=seed, per_channel=per_channel, normalisation=normalisation)
        # The spectrum of white noise has independent uniform phases and the symmetry of a real kernel's.
        noise = philox(self.seed, Stream.KERNEL).standard_normal(self.in_shape)
        transformed = scipy.fft.rfftn(noise, axes=tuple(range(int(per_channel), noise.ndim)))
        phases = torch.from_numpy((transformed / np.abs(transformed)).astype(np.complex64))
        self.register_buffer("spectrum", torch.view_as_real(phases), persistent=False)

    def _convolve(self, x: Tensor, spectrum: Tensor) -> Tensor:
        if len(self.in_shape) - self.per_channel == 1:
            return sum_of_waves(half_spectrum(x) * spectrum, self.size)
        axes = tuple(range(int(self.per_channel) - len(self.in_shape), 0))
        transformed = torch.fft.rfftn(x, dim=axes, norm="ortho").mul_(spectrum)
        return sum_of_waves(torch.fft.ifftn(transformed, dim=axes[:-1], norm="ortho"), self.in_shape[-1])

    def _apply_forward(self, x: Tensor) -> Tensor:
        y = self._convolve(x, torch.view_as_complex(self.spectrum))
        return y.flatten(-len(self.in_shape)).index_select(-1, self.rows) * self.scale

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        pixels = y.new_zeros((*y.shape[:-1], self.n))
        pixels.index_copy_(-1, self.rows, y * self.scale)
        return self._convolve(
            pixels.reshape(*y.shape[:-1], *self.in_shape), torch.view_as_complex(self.spectrum).conj()
        )
