"""Measurements in the image itself: all pixels, or some of them (inpainting)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cs_lip.operators.arguments import checked_shape
from cs_lip.operators.encoding import decode_array, encode_array
from cs_lip.operators.linear import RECIPE_FORMAT, LinearOperator


class Identity(LinearOperator):
    """y = x: every pixel is measured (denoising). ``(*batch, *in_shape)`` to the same shape.

    Raises:
        ValueError: ``in_shape`` is not 1 to 8 positive integers.
    """

    def __init__(self, in_shape: Sequence[int]) -> None:
        in_shape = checked_shape(in_shape)
        super().__init__(in_shape, in_shape)

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "in_shape"}``; see `operator_from_recipe`."""
        return {"format": RECIPE_FORMAT, "kind": "identity", "in_shape": list(self.in_shape)}

    # Copies, since an operator never hands out memory that it shares with its input.
    def _apply_forward(self, x: Tensor) -> Tensor:
        return x.clone()

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        return y.clone()


class Mask(LinearOperator):
    """y = the pixels of x where the mask is true, in row-major order: ``(*batch, *in_shape)`` to ``(*batch, m)``.

    The adjoint puts them back and fills with zeros, so A A^H is the identity.

    Args:
        mask: booleans (tensor or array) of shape ``in_shape``, or of a shape that broadcasts to it, such as
            (height, width) for every channel alike; true pixels are measured.
        in_shape: shape of one image; the mask's own shape when left out.

    Raises:
        ValueError: the mask is not boolean, is empty (no pixel kept), or does not broadcast to ``in_shape``.
    """

    indices: Tensor

    def __init__(self, mask: Tensor, in_shape: Sequence[int] | None = None) -> None:
        mask = torch.as_tensor(mask).detach().cpu()
        if mask.dtype != torch.bool:
            raise ValueError(f"a mask must hold booleans, true where a pixel is kept, got {mask.dtype}; try mask > 0")
        in_shape = checked_shape(tuple(mask.shape) if in_shape is None else in_shape)
        try:
            mask = mask.broadcast_to(in_shape)
        except RuntimeError as error:
            raise ValueError(
                f"a mask of shape {tuple(mask.shape)} does not fit images of shape {in_shape}; "
                f"try a mask of shape {in_shape[-2:]}"
            ) from error
        indices = mask.flatten().nonzero().squeeze(-1)
        if len(indices) == 0:
            raise ValueError("the mask keeps no pixel, expected at least one that is true; try to invert it")
        super().__init__(in_shape, (len(indices),))
        self.register_buffer("indices", indices, persistent=False)

    @property
    def mask(self) -> Tensor:
        """The measured pixels as booleans of shape ``in_shape``."""
        mask = torch.zeros(self.n, dtype=torch.bool, device=self.indices.device)
        mask[self.indices] = True
        return mask.reshape(self.in_shape)

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "mask"}``, the mask of shape ``in_shape``; see `operator_from_recipe`."""
        return {"format": RECIPE_FORMAT, "kind": "mask", "mask": encode_array(self.mask.cpu().numpy())}

    def _apply_forward(self, x: Tensor) -> Tensor:
        return x.flatten(-len(self.in_shape))[..., self.indices]

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros((*y.shape[:-1], self.n))
        x[..., self.indices] = y
        return x.reshape(*y.shape[:-1], *self.in_shape)


def mask_from_recipe(mask: object) -> Mask:
    """The `Mask` of a recipe, of an encoded array of booleans.

    Raises:
        ValueError: it is no encoded array of booleans, or keeps no pixel.
    """
    return Mask(torch.from_numpy(decode_array(mask, "mask", dtypes=("bool",))))
