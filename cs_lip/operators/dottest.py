"""The dot test: is the adjoint the adjoint?"""

import math

import torch
from torch import Tensor

from cs_lip.operators.arguments import checked_seed
from cs_lip.operators.linear import LinearOperator
from cs_lip.operators.vectors import home, in_dtype


def dot_test(A: LinearOperator, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> float:
    """The relative error ``|<A x, y> - <x, A^H y>| / (|A x| |y|)`` of the adjoint for one random batch of two.

    An exact adjoint gives about 1e-16 in float64 and 1e-7 in float32. Inner products are real and summed in float64.
    The test runs on the operator's device; an operator that holds numbers in another dtype is tested as a copy in
    ``dtype`` and stays as it is.

    Raises:
        ValueError: A x or A^H y has another shape or dtype than the operator says. This is checked first, since
            flattening in the inner product would hide a wrong shape.
    """
    A = in_dtype(A, dtype)
    device, _ = home(A)
    generator = torch.Generator().manual_seed(checked_seed(seed))

    def draw(shape: tuple[int, ...], is_complex: bool) -> Tensor:
        dtype_here = dtype.to_complex() if is_complex else dtype
        return torch.randn((2, *shape), generator=generator, dtype=dtype_here).to(device)

    x, y = draw(A.in_shape, A.in_is_complex), draw(A.out_shape, A.out_is_complex)
    Ax, AHy = A(x), A.adjoint(y)
    for name, got, expected in (("A(x)", Ax, y), ("A.adjoint(y)", AHy, x)):
        if (got.shape, got.dtype) != (expected.shape, expected.dtype):
            raise ValueError(
                f"{name} must be {expected.dtype} of shape {tuple(expected.shape)}, got {got.dtype} of shape "
                f"{tuple(got.shape)}; try to correct the operator's shapes"
            )
    left, right = _inner(Ax, y), _inner(x, AHy)
    scale = math.sqrt(_inner(Ax, Ax) * _inner(y, y))
    return abs(left - right) / scale if scale > 0 else abs(left - right)


def _inner(a: Tensor, b: Tensor) -> float:
    a, b = a.to(torch.complex128), b.to(torch.complex128)
    return float((a.conj() * b).sum().real)
