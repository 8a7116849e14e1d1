"""Subsampled Fourier measurements, as in magnetic resonance imaging."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cs_lip.operators.arguments import checked_count, checked_m, checked_number, checked_seed, checked_shape
from cs_lip.operators.encoding import decode_array, encode_array
from cs_lip.operators.frequencies import Indices, line_samples, random_samples, spoke_samples
from cs_lip.operators.imaging import Mask
from cs_lip.operators.linear import RECIPE_FORMAT, LinearOperator
from cs_lip.operators.spectra import check_precision, half_spectrum, is_own_twin, sum_of_waves


class SubsampledFourier(LinearOperator):
    """y = S F x: k = m / 2 complex samples of the orthonormal spectrum, 2-D of each channel or 1-D of a vector.

    ``A(x)`` maps real ``(*batch, *in_shape)`` to complex ``(*batch, k)``, in row-major order of the frequencies; the
    adjoint x = Re(F^H S^T y) is real. Both take O(n log n) for an image, and memory for half a spectrum.

    A complex sample counts as two real measurements, so m is even. The spectrum of a real image is conjugate symmetric,
    F(-u, -v) = conj(F(u, v)), so a sample's twin would tell nothing new: every pattern drawn here takes one of two
    twins, and no twin is ever measured. A frequency that is its own twin (zero frequency is one) has no imaginary part
    and still counts as two, so m never understates what was measured. The rows of the real matrix are then orthogonal,
    of norm 1/sqrt(2) (at own twins 1, and 0 for the imaginary part), so E|A x|^2 is not |x|^2 here.

    Patterns: `SubsampledFourier.lines` and `SubsampledFourier.radial` draw those of MRI scanners,
    `SubsampledFourier.from_mask` takes any, and the constructor draws m / 2 samples out of all channels, by exponential
    keys (Efraimidis & Spirakis 2006):

    - ``"uniform"``: every frequency of the half plane of every channel is equally likely.
    - ``"centre"``: variable density (Lustig, Donoho & Pauly 2007), with weight (1 - r)^4 where r in [0, 1] is the
      distance from zero frequency over that of the farthest one; the zero frequency of every channel is always
      measured when k is at least the number of channels.

    Args:
        in_shape: (channels, height, width), (height, width), or (length,) for the 1-D transform.
        m: number of real measurements, even, 2 <= m <= n = prod(in_shape).
        seed: integer in [0, 2^63 - 1].
        pattern: ``"uniform"`` or ``"centre"``.

    Raises:
        ValueError: an argument is out of its range; the input is neither float32 nor float64.
    """

    indices: Tensor
    positions: Tensor
    factors: Tensor
    transposed_positions: Tensor
    signs: Tensor

    def __init__(self, in_shape: Sequence[int], m: int, *, seed: int, pattern: str = "uniform") -> None:
        channels, height, width = _planes(in_shape)
        m = checked_m(m, 2, channels * height * width)
        if m % 2:
            nearest = f"{m - 1} or {m + 1}" if m < channels * height * width else f"{m - 1}"
            raise ValueError(f"m must be even, as a complex sample counts as two real ones, got {m}; try {nearest}")
        if pattern not in ("uniform", "centre"):
            raise ValueError(f"the pattern must be 'uniform' or 'centre', got {pattern!r}; try 'uniform'")
        seed = checked_seed(seed)
        indices = random_samples(channels, height, width, m // 2, seed, pattern)
        self._sample(in_shape, indices, "fourier", m=m, seed=seed, pattern=pattern)

    @classmethod
    def lines(
        cls, in_shape: Sequence[int], *, acceleration: float, centre_fraction: float, seed: int
    ) -> "SubsampledFourier":
        """Cartesian lines of MRI: all vertical frequencies at some horizontal ones, alike for every channel.

        A line and its mirror image tell the same of a real image, so of the width//2 + 1 lines that differ, a share
        1 / ``acceleration`` is measured: ``centre_fraction`` of them nearest to zero frequency, the others uniformly at
        random (as in fastMRI; Zbontar et al. 2018, section 4.2). m is then n / acceleration, up to the rounding
        to whole lines.

        Args:
            in_shape: (channels, height, width) or (height, width).
            acceleration: a number from 1 to the width.
            centre_fraction: a number from 0 to 1 / acceleration.
            seed: integer in [0, 2^63 - 1].

        Raises:
            ValueError: an argument is out of its range, or the centre alone takes more lines than are measured.
        """
        _, height, width = _planes(in_shape, least=2)
        acceleration = checked_number(acceleration, "acceleration", 1, width, attempt=min(4, width))
        centre_fraction = checked_number(centre_fraction, "centre_fraction", 0, 1, attempt=0.08)
        seed = checked_seed(seed)
        plane = line_samples(height, width, acceleration, centre_fraction, seed)
        arguments = {"acceleration": acceleration, "centre_fraction": centre_fraction, "seed": seed}
        return cls._of_planes(in_shape, plane, "fourier-lines", **arguments)

    @classmethod
    def radial(cls, in_shape: Sequence[int], *, spokes: int) -> "SubsampledFourier":
        """Radial lines of MRI: the frequencies of the grid nearest to spokes, alike for every channel.

        The spokes run through zero frequency from border to border at the angles pi i / spokes to the horizontal axis
        (Candes, Romberg & Tao 2006, Fig. 1); what several meet is measured once.

        Args:
            in_shape: (channels, height, width) or (height, width).
            spokes: their number, from 1 to height + width.

        Raises:
            ValueError: an argument is out of its range.
        """
        _, height, width = _planes(in_shape, least=2)
        spokes = checked_count(spokes, "spokes", height + width, attempt=min(22, height + width))
        return cls._of_planes(in_shape, spoke_samples(height, width, spokes), "fourier-radial", spokes=spokes)

    @classmethod
    def from_mask(cls, mask: Tensor, in_shape: Sequence[int] | None = None) -> "SubsampledFourier":
        """Exactly the frequencies where a mask is true, such as a scanner's, one complex sample for each.

        Such masks often hold both of two twins. A scanner measures both, each with noise of its own, so both are in y
        and count: m is twice the number of true values, up to 2n, and rows of twins are not orthogonal. The full mask
        keeps the energy, |A x| = |x|.

        Args:
            mask: booleans (tensor or array) of shape ``in_shape`` or (height, width), then alike for every channel,
                zero frequency first; ``torch.fft.ifftshift(mask, (-2, -1))`` makes it so of a centred one.
            in_shape: as for the constructor; the mask's own shape when left out.

        Raises:
            ValueError: the mask is not boolean, is empty, or does not broadcast to ``in_shape``.
        """
        frequencies = Mask(mask, in_shape)
        operator = cls.__new__(cls)
        operator._sample(frequencies.in_shape, frequencies.indices.numpy(), "fourier-mask")
        return operator

    @classmethod
    def _of_planes(cls, in_shape: Sequence[int], plane: Indices, kind: str, **arguments: Any) -> "SubsampledFourier":
        channels, height, width = _planes(in_shape)
        indices = (np.arange(channels)[:, None] * height * width + plane).ravel()
        operator = cls.__new__(cls)
        operator._sample(in_shape, indices, kind, **arguments)
        return operator

    def _sample(self, in_shape: Sequence[int], indices: Indices, kind: str, **arguments: Any) -> None:
        _, height, width = _planes(in_shape)
        super().__init__(checked_shape(in_shape), (len(indices),), out_is_complex=True)
        self._kind = kind
        self._arguments = arguments
        flat = torch.from_numpy(indices)
        # Only the columns 0..width//2 of a plane are computed; a sample beyond them is the conjugate of its twin.
        row, u, v = flat // (height * width), flat // width % height, flat % width
        beyond = v > width // 2
        column = torch.where(beyond, width - v, v)
        line = row * height + torch.where(beyond, -u % height, u)
        weight = 1 + is_own_twin(column, width).to(torch.int8)
        self.register_buffer("indices", flat, persistent=False)
        self.register_buffer("positions", line * (width // 2 + 1) + column, persistent=False)
        # Where the adjoint puts them: its planes lie transposed, as the transform along the columns comes first.
        across = (row * (width // 2 + 1) + column) * height + line % height
        self.register_buffer("transposed_positions", across, persistent=False)
        factors = torch.stack([weight, torch.where(beyond, -weight, weight)], dim=1)
        self.register_buffer("factors", factors, persistent=False)
        self.register_buffer("signs", factors[:, 1].sign(), persistent=False)

    @property
    def mask(self) -> Tensor:
        """The measured frequencies as booleans of shape ``in_shape``, zero frequency first (`fftshift` centres it)."""
        mask = torch.zeros(math.prod(self.in_shape), dtype=torch.bool, device=self.indices.device)
        mask[self.indices] = True
        return mask.reshape(self.in_shape)

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind"}`` and the arguments; see `operator_from_recipe`.

        The kind is ``"fourier"``, ``"fourier-lines"``, ``"fourier-radial"`` or ``"fourier-mask"``, the mask of shape
        ``in_shape``.
        """
        head = {"format": RECIPE_FORMAT, "kind": self._kind}
        if self._kind == "fourier-mask":
            return {**head, "mask": encode_array(self.mask.cpu().numpy())}
        return {**head, "in_shape": list(self.in_shape), **self._arguments}

    def extra_repr(self) -> str:
        described = {"m": self.m, "kind": self._kind, **self._arguments}
        return ", ".join([str(self.in_shape), *(f"{key}={value!r}" for key, value in described.items())])

    def _apply_forward(self, x: Tensor) -> Tensor:
        check_precision(x)
        spectrum = half_spectrum(x) if len(self.in_shape) == 1 else torch.fft.rfft2(x, norm="ortho")
        samples = spectrum.flatten(-len(self.in_shape)).index_select(-1, self.positions)
        torch.view_as_real(samples)[..., 1].mul_(self.signs)
        return samples

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        parts = torch.view_as_real(y.resolve_conj())
        samples = torch.view_as_complex(parts * self.factors)
        channels, height, width = _planes(self.in_shape)
        spectrum = y.new_zeros((*y.shape[:-1], channels * (width // 2 + 1) * height))
        spectrum.index_add_(-1, self.transposed_positions, samples, alpha=0.5)
        if len(self.in_shape) == 1:
            return sum_of_waves(spectrum, width)
        columns = torch.fft.ifft(spectrum.reshape(*y.shape[:-1], channels, width // 2 + 1, height), norm="ortho")
        # The copy lets the transform of the rows run over adjacent numbers, which saves more than it takes.
        images = sum_of_waves(columns.transpose(-1, -2).contiguous(), width)
        return images.reshape(*y.shape[:-1], *self.in_shape)


def fourier_from_recipe(mask: object) -> SubsampledFourier:
    """The `SubsampledFourier.from_mask` of a recipe, of an encoded array of booleans.

    Raises:
        ValueError: it is no encoded array of booleans, or holds no frequency.
    """
    return SubsampledFourier.from_mask(torch.from_numpy(decode_array(mask, "mask", dtypes=("bool",))))


def _planes(in_shape: Sequence[int], *, least: int = 1) -> tuple[int, int, int]:
    """(channels, height, width); a vector is a plane of height 1. ``least`` is the smallest number of axes."""
    shape = checked_shape(in_shape)
    if not least <= len(shape) <= 3 or math.prod(shape) < 2:
        shapes = "(channels, height, width), (height, width)" + (" or (length,)" if least == 1 else "")
        raise ValueError(
            f"these Fourier measurements need an in_shape {shapes} of two pixels or more, got {shape}; try (3, 64, 64)"
        )
    channels, height, width = (1,) * (3 - len(shape)) + shape
    return channels, height, width
