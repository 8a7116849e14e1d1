"""Parallel magnetic resonance imaging: the spectrum of the image as several coils see it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cs_lip.operators.arguments import checked_count, checked_image_shape
from cs_lip.operators.encoding import decode_array, encode_array
from cs_lip.operators.linear import RECIPE_FORMAT, LinearOperator

MAX_COILS = 4096


class MultiCoilFourier(LinearOperator):
    """y_c = S F (s_c x): the masked orthonormal 2-D spectrum of the image times each coil's map, as in SENSE.

    ``A(x)`` maps ``(*batch, *in_shape)`` to complex ``(*batch, coils, k)``, and (channels, height, width) images to
    ``(*batch, channels, coils, k)``; the k samples of the mask are in row-major order. With maps whose squares sum to 1
    (as those of `birdcage_maps`) the norm of A is at most 1, and A^H A is the identity where the mask keeps everything.

    A complex sample counts as two real measurements, m = 2 k coils (times channels), and all that the mask keeps are
    counted: coil maps are complex, so the twins F(u, v) and F(-u, -v) both tell something about a real image.

    Images are real here as everywhere, x = Re(sum_c conj(s_c) F^H S^T y_c) being the adjoint. Magnetisation is complex
    in truth; with ``in_is_complex=True`` the image is a complex tensor and the adjoint keeps its imaginary part.

    Maps are held in the precision they come in (``A.to(dtype)`` changes it): 8 bytes per coil and pixel for complex64.
    Time O(coils n log n). Source: Pruessmann et al. 1999, "SENSE: Sensitivity encoding for fast MRI".

    Args:
        coil_maps: complex and finite, of shape (coils, height, width).
        mask: booleans that broadcast to (height, width), true where a frequency is measured; zero frequency first (as
            in `SubsampledFourier.mask`; ``torch.fft.ifftshift`` brings a centred mask there).
        in_shape: (height, width), the default, or (channels, height, width).
        in_is_complex: whether images are complex.

    Raises:
        ValueError: an argument does not fit.
    """

    maps: Tensor
    indices: Tensor

    def __init__(
        self,
        coil_maps: Tensor | npt.NDArray[Any],
        mask: Tensor | npt.NDArray[np.bool_],
        in_shape: Sequence[int] | None = None,
        *,
        in_is_complex: bool = False,
    ) -> None:
        maps = _checked_maps(coil_maps)
        plane = tuple(maps.shape[-2:])
        in_shape = checked_image_shape(plane if in_shape is None else in_shape)
        if in_shape[-2:] != plane:
            raise ValueError(
                f"coil maps of {tuple(maps.shape)} do not fit images of shape {in_shape}; try in_shape {plane}"
            )
        indices = _checked_mask(mask, plane).flatten().nonzero().squeeze(-1)
        out_shape = (*in_shape[:-2], len(maps), len(indices))
        super().__init__(in_shape, out_shape, in_is_complex=bool(in_is_complex), out_is_complex=True)
        # As pairs of real numbers, since a module casts real buffers alone.
        self.register_buffer("maps", torch.view_as_real(maps), persistent=False)
        self.register_buffer("indices", indices.to(maps.device), persistent=False)

    @property
    def mask(self) -> Tensor:
        """The measured frequencies as booleans of shape (height, width), zero frequency first."""
        mask = torch.zeros(math.prod(self.in_shape[-2:]), dtype=torch.bool, device=self.indices.device)
        mask[self.indices] = True
        return mask.reshape(self.in_shape[-2:])

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "in_shape", "in_is_complex", "coil_maps", "mask"}``; see `operator_from_recipe`."""
        return {
            "format": RECIPE_FORMAT,
            "kind": "multi-coil-fourier",
            "in_shape": list(self.in_shape),
            "in_is_complex": self.in_is_complex,
            "coil_maps": encode_array(torch.view_as_complex(self.maps).cpu().numpy()),
            "mask": encode_array(self.mask.cpu().numpy()),
        }

    def _apply_forward(self, x: Tensor) -> Tensor:
        spectrum: Tensor = torch.fft.fft2(x.unsqueeze(-3) * torch.view_as_complex(self.maps), norm="ortho")
        return spectrum.flatten(-2).index_select(-1, self.indices)

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        # The adjoint's conjugate, sum_c s_c F S^T conj(y_c), conjugates the few samples in place of all the maps.
        plane = self.in_shape[-2:]
        spectrum = y.new_zeros((*y.shape[:-1], math.prod(plane)))
        spectrum.scatter_(-1, self.indices.expand_as(y), y.conj().resolve_conj())
        seen: Tensor = torch.fft.fft2(spectrum.reshape(*y.shape[:-1], *plane), norm="ortho")
        x = seen.mul_(torch.view_as_complex(self.maps)).sum(-3)
        # Copies drop the imaginary half and the lazy conjugation, which views would keep.
        return x.conj().resolve_conj() if self.in_is_complex else x.real.clone()


def multi_coil_from_recipe(
    in_shape: Sequence[int], in_is_complex: bool, coil_maps: Mapping[str, object], mask: Mapping[str, object]
) -> MultiCoilFourier:
    """The `MultiCoilFourier` of a recipe, whose maps and mask are encoded arrays.

    Raises:
        ValueError: they are no such arrays, or an argument does not fit.
    """
    if not isinstance(in_is_complex, bool):
        raise ValueError(f"in_is_complex must be true or false, got {str(in_is_complex)[:40]!r}; try false")
    maps = decode_array(coil_maps, "coil maps", dtypes=("complex64", "complex128"))
    return MultiCoilFourier(maps, decode_array(mask, "mask", dtypes=("bool",)), in_shape, in_is_complex=in_is_complex)


def birdcage_maps(coils: int, shape: Sequence[int]) -> Tensor:
    """Synthetic coil maps: complex64 of shape (coils, height, width), |s_1|^2 + |s_2|^2 + ... = 1 at every pixel.

    Coils stand evenly on a circle of 1.5 times half the image's side around its centre. A coil's sensitivity falls with
    1 / distance, and its phase is the angle at which the pixel is seen from it, turned with the coil. These are the
    maps of ``sigpy.mri.birdcage_maps``.

    Args:
        coils: from 1 to 4096.
        shape: (height, width).

    Raises:
        ValueError: an argument is out of its range.
    """
    coils, shape = checked_count(coils, "the number of coils", MAX_COILS, attempt=8), checked_image_shape(shape)
    if len(shape) != 2:
        raise ValueError(f"coil maps have the shape (height, width) of an image, got {shape}; try {shape[-2:]}")
    angle = (2 * np.pi / coils * np.arange(coils))[:, None, None]
    half_height, half_width = shape[0] / 2, shape[1] / 2
    x = (np.arange(shape[1]) / half_width - 1)[None, None, :] - 1.5 * np.cos(angle)
    y = (np.arange(shape[0]) / half_height - 1)[None, :, None] - 1.5 * np.sin(angle)
    maps = np.exp(1j * (np.arctan2(x, -y) - angle)) / np.hypot(x, y)
    maps /= np.sqrt((np.abs(maps) ** 2).sum(axis=0))
    return torch.from_numpy(maps.astype(np.complex64))


def _checked_maps(coil_maps: object) -> Tensor:
    maps = coil_maps
    if isinstance(coil_maps, np.ndarray) and coil_maps.dtype.name in ("complex64", "complex128"):
        maps = torch.from_numpy(coil_maps.astype(coil_maps.dtype.name))  # in the machine's byte order
    if not isinstance(maps, Tensor) or maps.dtype not in (torch.complex64, torch.complex128) or maps.dim() != 3:
        got = f"{maps.dtype} of {tuple(maps.shape)}" if isinstance(maps, Tensor | np.ndarray) else type(maps).__name__
        raise ValueError(
            f"coil maps must be complex64 or complex128 of shape (coils, height, width), got {got}; "
            "try birdcage_maps(8, (64, 64))"
        )
    maps = maps.detach().clone(memory_format=torch.contiguous_format).resolve_conj()
    if maps.numel() == 0 or not torch.view_as_real(maps).isfinite().all():
        raise ValueError("coil maps must hold finite numbers, got NaN, infinity or none at all; try to mask them")
    return maps


def _checked_mask(mask: object, plane: tuple[int, ...]) -> Tensor:
    kept = torch.as_tensor(mask).detach().cpu()
    if kept.dtype != torch.bool:
        raise ValueError(f"a mask must hold booleans, true where a frequency is kept, got {kept.dtype}; try mask > 0")
    try:
        kept = kept.broadcast_to(plane)
    except RuntimeError as error:
        raise ValueError(
            f"a mask of shape {tuple(kept.shape)} does not fit coil maps of {plane}; try a mask of shape {plane}"
        ) from error
    if not kept.any():
        raise ValueError("the mask keeps no frequency, expected at least one that is true; try to invert it")
    return kept
