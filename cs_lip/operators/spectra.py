"""Cosine transforms, and real Fourier transforms as linear maps onto half of the spectrum with their exact adjoints."""

import math

import scipy.fft
import torch
from torch import Tensor

# One thread of MKL takes up to three times as long for one row as for two, of such a length and a multiple of SMOOTH.
LONG_ROW = 2**17
SMOOTH = 64


def check_precision(x: Tensor) -> None:
    """Fourier transforms know two precisions.

    Raises:
        ValueError: ``x`` is neither float32 nor float64.
    """
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"Fourier transforms are computed in float32 or float64, got {x.dtype}; try x.float()")


def half_spectrum(x: Tensor) -> Tensor:
    """sum_j x_j exp(-2 pi i j k / n) / sqrt(n), k = 0..n//2: real ``(..., n)`` to complex ``(..., n//2 + 1)``."""
    if _is_one_long_row(x, x.shape[-1]):
        two: Tensor = torch.fft.rfft(x.reshape(1, -1).expand(2, -1), norm="ortho")
        return two[0].reshape(*x.shape[:-1], -1)
    spectrum: Tensor = torch.fft.rfft(x, norm="ortho")
    return spectrum


def sum_of_waves(spectrum: Tensor, n: int) -> Tensor:
    """Re sum_k w_k Z_k exp(2 pi i j k / n) / sqrt(n), complex ``(..., n//2 + 1)`` to real ``(..., n)``.

    The weight w_k is 1 for k = 0 and k = n/2 and 2 for the others: this is the inverse of `half_spectrum`, and its
    adjoint when all but those two are halved. Imaginary parts at those two count nothing.
    """
    if _is_one_long_row(spectrum, n):
        two: Tensor = torch.fft.irfft(spectrum.reshape(1, -1).expand(2, -1), n=n, norm="ortho")
        return two[0].reshape(*spectrum.shape[:-1], n)
    x: Tensor = torch.fft.irfft(spectrum, n=n, norm="ortho")
    return x


def is_own_twin(frequencies: Tensor, n: int) -> Tensor:
    """True where frequency k is -k modulo n, which is where `sum_of_waves` has the weight 1."""
    return (2 * frequencies) % n == 0


def _is_one_long_row(rows: Tensor, n: int) -> bool:
    return n >= LONG_ROW and n % SMOOTH == 0 and rows.numel() == rows.shape[-1]


def cosine_transform(x: Tensor) -> Tensor:
    """The orthonormal DCT-II along the last axis, to the same shape; see `scipy.fft.dct`, which does it on the CPU."""
    if x.device.type != "cpu":
        return _cosines_by_fft(x)
    return torch.from_numpy(scipy.fft.dct(x.detach().numpy(), norm="ortho", workers=torch.get_num_threads()))


def inverse_cosine_transform(spectrum: Tensor) -> Tensor:
    """The inverse of `cosine_transform`, which is also its adjoint."""
    if spectrum.device.type != "cpu":
        return _inverse_cosines_by_fft(spectrum)
    return torch.from_numpy(scipy.fft.idct(spectrum.detach().numpy(), norm="ortho", workers=torch.get_num_threads()))


def _cosines_by_fft(x: Tensor) -> Tensor:
    """X_k = Re(f_k V_k) with the spectrum V of the pixels in the order 0, 2, 4, ..., 5, 3, 1 (Makhoul 1980)."""
    reordered = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], dim=-1)
    spectrum: Tensor = (torch.fft.fft(reordered, norm="ortho") * _half_turns(x)).real
    return spectrum


def _inverse_cosines_by_fft(spectrum: Tensor) -> Tensor:
    reordered = torch.fft.ifft(spectrum * _half_turns(spectrum).conj(), norm="ortho").real
    x = torch.empty_like(spectrum)
    half = (spectrum.shape[-1] + 1) // 2
    x[..., ::2] = reordered[..., :half]
    x[..., 1::2] = reordered[..., half:].flip(-1)
    return x


def _half_turns(like: Tensor) -> Tensor:
    """f_k = sqrt(2) exp(-pi i k / 2n), and f_0 = 1."""
    n = like.shape[-1]
    angle = torch.arange(n, device=like.device, dtype=like.dtype) * (-math.pi / (2 * n))
    turns = torch.polar(torch.full_like(angle, math.sqrt(2)), angle)
    turns[0] = 1
    return turns
