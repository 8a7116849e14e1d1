"""Complex images out of two real channels, for priors that draw real numbers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cs_lip.operators.arguments import checked_shape
from cs_lip.operators.linear import RECIPE_FORMAT, LinearOperator


class RealImaginary(LinearOperator):
    """y = x_0 + i x_1: the first of two real channels is the real part, the second the imaginary one.

    ``A(x)`` maps real ``(*batch, 2, *shape)`` to complex ``(*batch, *shape)``. A keeps inner products, so A^H A and
    A A^H are the identity, and m = n. ``B @ RealImaginary((2, *B.in_shape))`` measures images of two real channels by
    an operator ``B`` that takes complex ones.

    Channels in [0, 1], as priors draw them, are complex numbers with a phase from 0 to 90 degrees. For any phase and
    magnitudes up to 1 each channel x stands for the number 2 x - 1 in [-1, 1]. That is no linear map but becomes one
    when its constant part moves to the measurements: B(R(2 x - 1)) = y says (2 B R) x = y + B(R 1).

    Args:
        in_shape: (2, ...), such as (2, height, width).

    Raises:
        ValueError: ``in_shape`` is not 2 followed by 1 to 7 positive integers.
    """

    def __init__(self, in_shape: Sequence[int]) -> None:
        in_shape = checked_shape(in_shape)
        if len(in_shape) < 2 or in_shape[0] != 2:
            raise ValueError(
                f"two channels, real and imaginary, must come first, got in_shape {in_shape}; try {(2, *in_shape[-2:])}"
            )
        super().__init__(in_shape, in_shape[1:], out_is_complex=True)

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "in_shape"}``; see `operator_from_recipe`."""
        return {"format": RECIPE_FORMAT, "kind": "real-imaginary", "in_shape": list(self.in_shape)}

    def _apply_forward(self, x: Tensor) -> Tensor:
        real, imaginary = x.unbind(-len(self.in_shape))
        return torch.complex(real, imaginary)

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        return torch.stack([y.real, y.imag], -len(self.in_shape))
