"""The fast Walsh-Hadamard transform, and the order of its patterns by sequency."""

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import hadamard
from torch import Tensor

# Products with 32 x 32 matrices took the least time: butterflies pass over the memory more often, and larger matrices
# multiply more. The leading corner of Sylvester's matrix is the matrix of that smaller size.
LARGEST_FACTOR = 32
_MATRIX = torch.from_numpy(hadamard(LARGEST_FACTOR, dtype=np.int8))


def fast_hadamard(x: Tensor) -> Tensor:
    """H x along the last axis, of length n = 2^k, with the +-1 matrix H of `scipy.linalg.hadamard` (natural order).

    ``(*batch, n)`` to the same shape. Not normalised: H is symmetric and H H = n I. As H_n is the Kronecker product of
    smaller Hadamard matrices, it is applied as one matrix product for each factor (Fino & Algazi 1976): time
    O(32 n log32 n), memory O(n).

    Raises:
        ValueError: the length is not a power of two.
    """
    n = x.shape[-1]
    if n < 1 or n & (n - 1):
        raise ValueError(f"a Hadamard transform needs a length that is a power of two, got {n}; try to pad with zeros")
    matrix = _MATRIX.to(x.dtype).to(x.device, non_blocking=True)
    result, done = x.clone() if n == 1 else x, 1
    while done < n:
        size = min(LARGEST_FACTOR, n // done)
        factor = matrix[:size, :size]
        if done == 1:  # the innermost factor multiplies rows, which is one large product
            result = result.reshape(*x.shape[:-1], n // size, size) @ factor
        else:
            result = factor @ result.reshape(*x.shape[:-1], n // (done * size), size, done)
        done *= size
    return result.reshape(x.shape)


def sequency_order(n: int) -> npt.NDArray[np.int64]:
    """The row of `scipy.linalg.hadamard` (n) that changes sign s times, for s = 0, ..., n - 1; n is a power of two.

    It is the bit reversal of the Gray code of s (Walsh order; Fino & Algazi 1976).
    """
    gray = np.arange(n) ^ (np.arange(n) >> 1)
    reversed_bits = np.zeros(n, dtype=np.int64)
    for _ in range(n.bit_length() - 1):
        reversed_bits = (reversed_bits << 1) | (gray & 1)
        gray >>= 1
    return reversed_bits
