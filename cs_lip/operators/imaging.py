"""Measurements in the image itself: all pixels, or some of them (inpainting)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cs_lip.operators.arguments import checked_count, checked_number, checked_seed, checked_shape
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

    The adjoint puts them back and fills with zeros, so A A^H is the identity. Time O(m), and O(n) for the adjoint.

    Masks come from `box_mask` and `bernoulli_mask`, from any comparison (a black and white picture of bytes, white
    where a pixel is kept: ``Mask(picture > 127, in_shape)``), and ``~mask`` measures the other pixels.

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
        return x.flatten(-len(self.in_shape)).index_select(-1, self.indices)

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros((*y.shape[:-1], self.n)).scatter_(-1, self.indices.expand_as(y), y)
        return x.reshape(*y.shape[:-1], *self.in_shape)


def mask_from_recipe(mask: object) -> Mask:
    """The `Mask` of a recipe, of an encoded array of booleans.

    Raises:
        ValueError: it is no encoded array of booleans, or keeps no pixel.
    """
    return Mask(torch.from_numpy(decode_array(mask, "mask", dtypes=("bool",))))


def box_mask(shape: Sequence[int], size: int | Sequence[int]) -> Tensor:
    """A mask that loses a box in the centre: booleans of ``shape``, false inside the box, to pass to `Mask`.

    Where the rest of a side is odd, the box lies half a pixel towards its beginning.

    Args:
        shape: (..., height, width).
        size: (height, width) of the box, or the side of a square one.

    Raises:
        ValueError: the shape has less than two axes, or the box is no box or does not fit into the image.
    """
    shape = checked_shape(shape)
    sizes = [size, size] if not isinstance(size, Sequence) else list(size)
    if len(shape) < 2 or len(sizes) != 2:
        raise ValueError(
            f"a box has a height and a width and lies in an image that has both, got size {str(size)[:40]} and shape "
            f"{shape}; try size 32 and shape (64, 64)"
        )
    height = checked_count(sizes[0], "the height of the box", shape[-2], attempt=max(1, shape[-2] // 2))
    width = checked_count(sizes[1], "the width of the box", shape[-1], attempt=max(1, shape[-1] // 2))
    top, left = (shape[-2] - height) // 2, (shape[-1] - width) // 2
    mask = torch.ones(shape, dtype=torch.bool, device="cpu")
    mask[..., top : top + height, left : left + width] = False
    return mask


def bernoulli_mask(shape: Sequence[int], *, keep: float, seed: int) -> Tensor:
    """A mask that keeps each pixel with probability ``keep``, independently: booleans of ``shape``, for `Mask`.

    With one seed, the pixels kept at a smaller probability are among those kept at a larger one.

    Args:
        shape: (height, width) to lose all channels of a pixel together, (channels, height, width) to lose each alone.
        keep: probability in [0, 1]; 1 keeps every pixel.
        seed: integer in [0, 2^63 - 1].

    Raises:
        ValueError: an argument is out of its range.
    """
    shape = checked_shape(shape)
    keep = checked_number(keep, "the probability to keep a pixel", 0, 1, attempt=0.5)
    generator = np.random.Generator(np.random.Philox(key=np.array([checked_seed(seed), 0], dtype=np.uint64)))
    return torch.from_numpy(generator.random(math.prod(shape)) < keep).reshape(shape)
