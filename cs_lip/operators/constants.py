"""Numbers of a matrix-free operator that serve float32 and float64 images alike."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def split_double(numbers: npt.NDArray[np.float64]) -> Tensor:
    """Float64 numbers of any shape as a buffer of shape ``(2, *shape)`` for `join_double`.

    A buffer of floats would be rounded by ``A.to(torch.float32)`` and would tie the operator to one dtype. This one
    holds the bits of two float32 numbers, high and low part, as int32: the module moves it and never casts it, float32
    is read without any work, and no device needs to know float64. The sum keeps 48 of float64's 53 bits.
    """
    high = numbers.astype(np.float32)
    low = (numbers - high).astype(np.float32)
    return torch.from_numpy(np.stack([high, low])).view(torch.int32)


def join_double(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers that `split_double` took, in ``dtype``; the result may share the memory of ``bits``."""
    numbers = bits.view(torch.float32)
    high = numbers[0].to(dtype)
    return high + numbers[1] if dtype == torch.float64 else high
