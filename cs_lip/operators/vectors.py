"""Images and measurements as vectors of real numbers, and where an operator computes."""

import copy
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from cs_lip.operators.linear import LinearOperator

Operator = TypeVar("Operator", bound="LinearOperator")


def as_real(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``(*batch, *shape)`` as vectors of real numbers ``(*batch, m)``; a complex number becomes two, re and im."""
    flat = values.flatten(values.dim() - len(shape))
    return torch.view_as_real(flat.resolve_conj()).flatten(-2) if flat.is_complex() else flat


def from_real(vectors: Tensor, shape: tuple[int, ...], is_complex: bool) -> Tensor:
    """The inverse of `as_real`: vectors of real numbers ``(*batch, m)`` as ``(*batch, *shape)``."""
    *batch, m = vectors.shape
    numbers = torch.view_as_complex(vectors.reshape(*batch, m // 2, 2).contiguous()) if is_complex else vectors
    return numbers.reshape(*batch, *shape)


def forward_vectors(A: "LinearOperator", vectors: Tensor) -> Tensor:
    """``A`` between vectors of real numbers: ``(*batch, A.n)`` to ``(*batch, A.m)``."""
    return as_real(A(from_real(vectors, A.in_shape, A.in_is_complex)), A.out_shape)


def adjoint_vectors(A: "LinearOperator", vectors: Tensor) -> Tensor:
    """``A^H`` between vectors of real numbers, ``(*batch, A.m)`` to ``(*batch, A.n)``: `forward_vectors` transposed."""
    return as_real(A.adjoint(from_real(vectors, A.out_shape, A.out_is_complex)), A.in_shape)


def home(A: "LinearOperator") -> tuple[torch.device, torch.dtype]:
    """The device and the real dtype of the numbers that ``A`` holds.

    Without any number they are the CPU and float64; indices alone tell the device and leave float64.
    """
    numbers = list(A.buffers())
    device = next((held.device for held in numbers), torch.device("cpu"))
    dtype = next((held.dtype.to_real() for held in numbers if held.is_floating_point() or held.is_complex()), None)
    return device, dtype or torch.float64


def in_dtype(A: Operator, dtype: torch.dtype) -> Operator:
    """``A`` itself where it takes ``dtype``, or else a copy that does."""
    taken = all(not held.is_floating_point() or held.dtype == dtype for held in A.buffers())
    return A if taken else copy.deepcopy(A).to(dtype)


def normal_numbers(seed: int, stream: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal float64 numbers from stream ``stream`` of ``seed`` (Philox), on the CPU."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)))
    return torch.from_numpy(generator.standard_normal(shape))
