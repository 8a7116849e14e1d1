"""What can be said of an operator by applying it: its matrix, its singular values, its coherence and its isometry."""

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cs_lip.operators.arguments import MAX_SIZE, checked_count, checked_number, checked_seed
from cs_lip.operators.vectors import (
    adjoint_vectors,
    as_real,
    forward_vectors,
    from_real,
    home,
    in_dtype,
    normal_numbers,
)

if TYPE_CHECKING:
    from cs_lip.operators.linear import LinearOperator

MAX_ENTRIES = 2**28
"""Of a matrix that `to_matrix` makes: 1 GiB in float32, 2 GiB in float64."""

MAX_DENSE_WORK = 2**32
"""m n min(m, n) up to which the condition number comes from a dense decomposition, in about ten seconds at most."""

MAX_STEPS = 300
"""Of a bidiagonalisation, whose vectors then take 300 (m + n) numbers."""

CHUNK = 2**24
"""Numbers of images or measurements in one batch of unit vectors."""


def to_matrix(A: "LinearOperator") -> Tensor:
    """See `LinearOperator.to_matrix`."""
    if A.in_is_complex:
        _check_complex_linear(A, "a matrix")
    matrix = real_matrix(A)
    if A.in_is_complex:  # column j of the complex matrix is A e_j; A (i e_j) stands between, and is i times that
        matrix = matrix[:, ::2]
    return from_real(matrix.T, (math.prod(A.out_shape),), A.out_is_complex).T


def real_matrix(A: "LinearOperator") -> Tensor:
    """The matrix ``(A.m, A.n)`` of the operator between vectors of real numbers, on its device and in its dtype.

    Raises:
        ValueError: it has more than 2^28 entries.
    """
    if A.m * A.n > MAX_ENTRIES:
        raise ValueError(
            f"the matrix of {type(A).__name__} has {A.m} x {A.n} entries, expected at most 2^28 in all; "
            "try A(x) and A.adjoint(y), which need no matrix"
        )
    # The adjoint gives the rows, so whichever side is shorter is applied.
    size, apply = (A.n, forward_vectors) if A.n <= A.m else (A.m, adjoint_vectors)
    with torch.no_grad():
        parts = [apply(A, _unit_vectors(A, rows, size)) for rows in _chunks(torch.arange(size), max(A.m, A.n))]
    matrix = torch.cat(parts)
    return matrix.T if A.n <= A.m else matrix


def norm(A: "LinearOperator", tolerance: float, seed: int) -> float:
    """See `LinearOperator.norm`."""
    (largest, _), converged = _extreme_singular_values(A, tolerance, seed, smallest=False)
    if not converged:
        warnings.warn(
            f"the norm of {type(A).__name__} is a lower bound, as {MAX_STEPS} steps did not reach the relative "
            f"tolerance {tolerance:g}; try a larger tolerance",
            RuntimeWarning,
            stacklevel=3,
        )
    return largest


def condition_number(A: "LinearOperator", tolerance: float, seed: int) -> float:
    """See `LinearOperator.condition_number`."""
    if A.m * A.n * min(A.m, A.n) <= MAX_DENSE_WORK and A.m * A.n <= MAX_ENTRIES:
        values: list[float] = torch.linalg.svdvals(real_matrix(in_dtype(A, torch.float64))).tolist()
        floor = values[0] * max(A.m, A.n) * torch.finfo(torch.float64).eps
        largest, smallest = values[0], min((value for value in values if value > floor), default=0.0)
    else:
        (largest, smallest), converged = _extreme_singular_values(A, tolerance, seed, smallest=True)
        if not converged:
            warnings.warn(
                f"the condition number of {type(A).__name__} is a lower bound, as {MAX_STEPS} steps did not reach the "
                f"relative tolerance {tolerance:g}; try a larger tolerance",
                RuntimeWarning,
                stacklevel=3,
            )
    if smallest == 0:
        raise ValueError("the operator maps every image to zero and has no condition number; try another one")
    return largest / smallest


def coherence(A: "LinearOperator", *, max_columns: int = 4096, seed: int = 0) -> float:
    """The coherence of the columns a_i of the matrix of A: max over i != j of ``|<a_i, a_j>| / (|a_i| |a_j|)``.

    Every image with fewer than (1 + 1/coherence) / 2 non-zero entries is the sparsest solution of A x = y, and basis
    pursuit finds it (Donoho & Elad 2003). The entries are those of the image itself; for images
    sparse in a basis W, use ``coherence(A @ W)``. The inner product is the real one where the image is real.

    Exact where n <= ``max_columns``. Otherwise it is taken over ``max_columns`` columns drawn without replacement, and
    is a bound from below. Accurate to the rounding of the operator's dtype. Time: c columns and c^2 m, memory: c m, for
    c = min(n, max_columns).

    Args:
        A: the operator, with at least two columns.
        max_columns: how many columns are compared at most, at least 2.
        seed: of the drawn columns.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: fewer than two columns; a column of zeros, which has no direction; a complex image whose operator is
            not linear over the complex numbers.
    """
    count = math.prod(A.in_shape)
    max_columns = checked_count(max_columns, "max_columns", MAX_SIZE, attempt=4096)
    if min(count, max_columns) < 2:
        raise ValueError("coherence compares two columns or more, got one; try a larger image and max_columns=4096")
    columns = _columns(A, _draw_positions(count, min(count, max_columns), seed, 0))
    norms = columns.norm(dim=1, keepdim=True)
    if (norms <= norms.max() * torch.finfo(norms.dtype).tiny ** 0.5).any():
        raise ValueError(
            "the operator maps some pixel to zero, and a column of zeros has no direction; "
            "try an operator that measures every pixel"
        )
    units = columns / norms
    largest = 0.0
    for rows in _chunks(torch.arange(len(units)), len(units)):
        products = (units[rows] @ units.mH).abs()
        products[torch.arange(len(rows)), rows] = 0
        largest = max(largest, float(products.max()))
    return min(largest, 1.0)


def restricted_isometry_lower_bound(A: "LinearOperator", k: int, *, samples: int = 100, seed: int = 0) -> float:
    """A bound from below on the restricted isometry constant delta_k of A, by random supports.

    delta_k is the smallest delta with (1 - delta) |x|^2 <= |A x|^2 <= (1 + delta) |x|^2 for every x with at most k
    non-zero entries (Candes & Tao 2005, Definition 1.1). It is the maximum of sigma_max(A_S)^2 - 1 and
    1 - sigma_min(A_S)^2 over all sets S of k columns; here over ``samples`` random ones. No sampling bounds delta_k
    from above: a small result proves nothing, a large one disproves. The operator is taken as it is scaled: use
    ``c * A`` where E|A x|^2 is not |x|^2. For images sparse in a basis W, use ``A @ W``.

    Singular values are computed in float64 from products in the operator's dtype. Time: ``samples`` k columns and
    ``samples`` k^2 m; memory: k m.

    Args:
        A: the operator.
        k: how many entries are not zero, 1 <= k <= n.
        samples: how many supports are drawn, at least 1.
        seed: of the supports; more samples of one seed include those of fewer, so the bound only grows.

    Returns:
        A number of at least 0.

    Raises:
        ValueError: an argument is out of its range; a complex image whose operator is not linear over the complex
            numbers.
    """
    count = math.prod(A.in_shape)
    k, samples = checked_count(k, "k", count, attempt=1), checked_count(samples, "samples", MAX_SIZE, attempt=100)
    bound = 0.0
    for sample in range(samples):
        columns = _columns(A, _draw_positions(count, k, seed, sample))
        columns = columns.to(torch.complex128 if columns.is_complex() else torch.float64)
        squares = torch.linalg.eigvalsh(columns @ columns.mH)
        bound = max(bound, float(squares[-1]) - 1, 1 - max(float(squares[0]), 0.0))
    return bound


def _extreme_singular_values(
    A: "LinearOperator", tolerance: float, seed: int, *, smallest: bool
) -> tuple[tuple[float, float], bool]:
    """The largest and the smallest non-zero singular value, and whether they are within the relative tolerance.

    Golub-Kahan bidiagonalisation (Golub & Kahan 1965) with full reorthogonalisation. The start lies in the range of
    A^H, which the vectors then never leave, so that no singular value of zero turns up. The approximations lie between
    the true extremes; for each there is a singular value within the residual beta_k |p_k| (Parlett 1998, section 4.5).
    """
    tolerance = checked_number(tolerance, "the tolerance", 0, 1, open_below=True, attempt=1e-4)
    device, dtype = home(A)
    steps = min(A.m, A.n, MAX_STEPS)
    left = torch.zeros(steps, A.m, device=device, dtype=dtype)
    right = torch.zeros(steps + 1, A.n, device=device, dtype=dtype)
    bidiagonal = np.zeros((steps, steps + 1))
    floor = torch.finfo(dtype).eps * math.sqrt(max(A.m, A.n))
    with torch.no_grad():
        start = adjoint_vectors(A, normal_numbers(checked_seed(seed), 0, (A.m,)).to(device, dtype))
        length = float(start.norm())
        if length == 0:
            return (0.0, 0.0), True
        right[0] = start / length
        for k in range(steps):
            u = _orthogonal(forward_vectors(A, right[k]), left[:k])
            bidiagonal[k, k] = alpha = float(u.norm())
            scale = np.abs(bidiagonal).max()
            left[k] = u / alpha if alpha > floor * scale else 0
            v = _orthogonal(adjoint_vectors(A, left[k]), right[: k + 1])
            bidiagonal[k, k + 1] = beta = float(v.norm())
            exhausted = min(alpha, beta) <= floor * scale or k + 1 == steps == min(A.m, A.n)
            if exhausted or k + 1 == steps or k % 8 == 7:
                values, residuals = _ritz(bidiagonal[: k + 1, : k + 1], 0.0 if exhausted else beta)
                kept = np.flatnonzero(values > floor * values[0])
                ends = kept[[0, -1]] if smallest else kept[[0, 0]]
                if exhausted or (residuals[ends] <= tolerance * values[ends]).all():
                    return (float(values[kept[0]]), float(values[kept[-1]])), True
            right[k + 1] = v / beta
    return (float(values[kept[0]]), float(values[kept[-1]])), False


def _orthogonal(vector: Tensor, basis: Tensor) -> Tensor:
    """What is left of a vector beside an orthonormal basis (rows); the second pass makes it exact to rounding."""
    for _ in range(2):
        vector = vector - (basis @ vector) @ basis
    return vector


def _ritz(bidiagonal: np.ndarray, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """The singular values of a bidiagonal matrix, descending, and the residual of each."""
    left, values, _ = np.linalg.svd(bidiagonal)
    return values, beta * np.abs(left[-1])


def _draw_positions(count: int, size: int, seed: int, stream: int) -> Tensor:
    """``size`` sorted positions out of ``count``, all of them where that is as many."""
    if size == count:
        return torch.arange(count)
    generator = np.random.Generator(np.random.Philox(key=np.array([checked_seed(seed), stream], dtype=np.uint64)))
    return torch.from_numpy(np.sort(generator.choice(count, size, replace=False)))


def _columns(A: "LinearOperator", positions: Tensor) -> Tensor:
    """The columns at these positions of the flattened image, as rows; complex numbers only where the image is."""
    if A.in_is_complex:
        _check_complex_linear(A, "columns")
    device, dtype = home(A)
    dtype = dtype.to_complex() if A.in_is_complex else dtype
    parts = []
    for chosen in _chunks(positions, max(A.m, A.n)):
        images = torch.zeros(len(chosen), math.prod(A.in_shape), device=device, dtype=dtype)
        images[torch.arange(len(chosen)), chosen] = 1
        with torch.no_grad():
            response = A(images.reshape(-1, *A.in_shape))
        parts.append(response.flatten(1) if A.in_is_complex else as_real(response, A.out_shape))
    return torch.cat(parts)


def _check_complex_linear(A: "LinearOperator", what: str) -> None:
    """Refuse an operator with A(i x) != i A(x), such as the adjoint of one that takes real images."""
    device, dtype = home(A)
    x = from_real(normal_numbers(0, 0, (A.n,)).to(device, dtype), A.in_shape, True)
    with torch.no_grad():
        linear = A.out_is_complex and float((A(1j * x) - 1j * A(x)).norm()) <= 1e-3 * float(A(x).norm())
    if not linear:
        raise ValueError(
            f"{type(A).__name__} takes complex numbers but is linear over the real ones only, so it has no complex "
            f"matrix to take {what} from; try A.H, where that takes real images"
        )


def _unit_vectors(A: "LinearOperator", rows: Tensor, size: int) -> Tensor:
    device, dtype = home(A)
    vectors = torch.zeros(len(rows), size, device=device, dtype=dtype)
    vectors[torch.arange(len(rows)), rows] = 1
    return vectors


def _chunks(positions: Tensor, size: int) -> tuple[Tensor, ...]:
    return torch.split(positions, max(1, CHUNK // size))
