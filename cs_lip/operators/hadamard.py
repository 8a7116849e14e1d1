"""The fast Walsh-Hadamard transform, and the order of its patterns by sequency."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Rows of the batch are transformed so many numbers at a time, which a processor's cache holds through all passes.
NUMBERS_AT_ONCE = 2**19
LARGEST_FACTOR = 5


def walsh_hadamard(x: Tensor) -> Tensor:
    """H x over the last axis, whose length N is a power of two; H holds +1 and -1, H H = N times the identity.

    H is the symmetric matrix of Sylvester's order (``scipy.linalg.hadamard(N)``), the Kronecker product of small ones.
    A pass for each of those is a matrix product, so log2(N) / 5 passes over the data do instead of log2(N) passes of
    butterflies (Fino & Algazi 1976 give the factorisation). Real ``(*batch, N)`` to the same shape, O(N log N).

    Raises:
        ValueError: the length is not a power of two.
    """
    size = x.shape[-1]
    if size < 1 or size & (size - 1):
        raise ValueError(f"a Hadamard transform needs a length of a power of two, got {size}; try to pad with zeros")
    if size == 1:
        return x.clone()
    rows = x.reshape(-1, x.shape[-1])
    step = max(1, NUMBERS_AT_ONCE // x.shape[-1])
    if len(rows) <= step:
        return _transform(rows).reshape(x.shape)
    result = torch.empty_like(rows)
    for start in range(0, len(rows), step):
        result[start : start + step] = _transform(rows[start : start + step])
    return result.reshape(x.shape)


def _transform(rows: Tensor) -> Tensor:
    bits = rows.shape[-1].bit_length() - 1
    passes = math.ceil(bits / LARGEST_FACTOR)
    shape, inner = rows.shape, 1
    for index in range(passes):
        matrix = _matrix(bits // passes + (index < bits % passes), rows)
        # The axis of this factor lies between those of the factors done, ``inner`` numbers, and those to come.
        rows = rows.reshape(-1, len(matrix)) @ matrix if inner == 1 else matrix @ rows.reshape(-1, len(matrix), inner)
        inner *= len(matrix)
    return rows.reshape(shape)


def _matrix(bits: int, like: Tensor) -> Tensor:
    matrix = like.new_ones((1, 1))
    for _ in range(bits):
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix


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
