"""The analysis of operators against dense linear algebra: matrix, norm, condition number, pseudo-inverse, coherence."""

import itertools
import math
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import scipy.linalg
import torch
from helpers import assert_one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st
from test_operators import EVERY, EXPRESSIONS, KINDS, SHAPE, Wrong, fourier, gaussian, image, measured
from torch import Tensor

from cs_lip.operators import (
    Gaussian,
    Identity,
    LinearOperator,
    Mask,
    SubsampledFourier,
    analysis,
    coherence,
    restricted_isometry_lower_bound,
    vstack,
)
from cs_lip.operators.vectors import as_real, from_real

# Whose singular values are zero or well above it, so that the pseudo-inverse is what it is to many digits.
WELL_POSED = {
    name: make
    for name, make in (KINDS | EXPRESSIONS).items()
    if name.startswith(("gaussian", "fourier", "identity", "mask", "A", "F", "vstack")) or name in ("2.5 F", "-A * 3")
}
EVERY_WELL_POSED = pytest.mark.parametrize("make", WELL_POSED.values(), ids=list(WELL_POSED))


class Dense(LinearOperator):
    """y = M x for a real or complex matrix M of complex x, or of real x."""

    def __init__(self, matrix: Tensor, in_is_complex: bool) -> None:
        k, n = matrix.shape
        super().__init__((n,), (k,), in_is_complex=in_is_complex, out_is_complex=matrix.is_complex())
        self.matrix = matrix

    def _apply_forward(self, x: Tensor) -> Tensor:
        return x.to(self.matrix.dtype) @ self.matrix.T

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        x = y @ self.matrix.conj()
        return x if self.in_is_complex else x.real.clone()


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(3))


def column_by_column(A: LinearOperator) -> np.ndarray:
    """The matrix between vectors of real numbers, the slow and plain way."""
    columns = [A(from_real(e, A.in_shape, A.in_is_complex)) for e in torch.eye(A.n, dtype=torch.float64)]
    return torch.stack([as_real(column, A.out_shape) for column in columns], dim=1).numpy()


# The matrix.


@EVERY
def test_matrix_is_the_operator(make: Callable[[], LinearOperator]) -> None:
    A = make().double()
    x = image(A)
    if A.in_is_complex and not (A.out_is_complex and torch.allclose(A(1j * x), 1j * A(x))):
        # such as the adjoint Re(F^H y), which no complex matrix is
        with pytest.raises(ValueError, match="linear over the real ones only") as caught:
            A.to_matrix()
        assert_one_sentence(caught.value)
        return
    matrix = A.to_matrix()
    assert matrix.shape == (math.prod(A.out_shape), math.prod(A.in_shape))
    assert matrix.is_complex() == A.out_is_complex and matrix.real.dtype == torch.float64
    torch.testing.assert_close(matrix @ x.flatten().to(matrix.dtype), A(x).flatten())
    np.testing.assert_allclose(analysis.real_matrix(A).numpy(), column_by_column(A), atol=1e-12)


def test_matrix_of_all_frequencies_is_the_fourier_matrix() -> None:
    A = SubsampledFourier((1, 7), 6, seed=0)
    expected = scipy.linalg.dft(7, scale="sqrtn")[A.indices.numpy()]
    np.testing.assert_allclose(A.to_matrix().numpy(), expected, atol=1e-14)


def test_matrix_of_complex_images() -> None:
    matrix = draw(5, 3, dtype=torch.complex128)
    A = Dense(matrix, in_is_complex=True)
    torch.testing.assert_close(A.to_matrix(), matrix)
    torch.testing.assert_close(A.H.to_matrix(), matrix.mH)
    torch.testing.assert_close(A.gram.to_matrix(), matrix.mH @ matrix)
    assert A.norm() == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-8)


def test_matrix_keeps_the_dtype_and_comes_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    A = gaussian()
    monkeypatch.setattr(analysis, "CHUNK", 100)
    assert torch.equal(A.to_matrix(), A.matrix)
    torch.testing.assert_close(A.H.to_matrix(), A.matrix.T, rtol=0, atol=0)


def test_a_matrix_of_absurd_size_is_refused_before_any_memory_is_taken() -> None:
    A = Identity((3, 4096, 4096))
    with pytest.raises(ValueError, match=r"the matrix of Identity has 50331648 x 50331648 entries"):
        A.to_matrix()


# Norm and condition number.


def singular_values(A: LinearOperator) -> np.ndarray:
    values = np.linalg.svd(column_by_column(A), compute_uv=False)
    return values[values > 1e-12 * values[0]]


@EVERY
def test_norm_is_that_of_the_matrix(make: Callable[[], LinearOperator]) -> None:
    assert make().norm() == pytest.approx(np.linalg.norm(column_by_column(make().double()), 2), rel=1e-5)


@EVERY_WELL_POSED
def test_condition_number_is_that_of_the_matrix(make: Callable[[], LinearOperator]) -> None:
    values = singular_values(make().double())
    assert make().condition_number() == pytest.approx(values[0] / values[-1], rel=1e-5)


def test_norm_and_condition_number_where_a_matrix_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "MAX_DENSE_WORK", 0)
    stack = vstack([gaussian(), gaussian(2)])
    for A in (Gaussian((24, 25), 150, seed=1), fourier(m=40), stack, Mask(torch.eye(5) > 0)):
        values = singular_values(A.double())
        assert A.norm() == pytest.approx(values[0], rel=1e-6)
        assert A.condition_number() == pytest.approx(values[0] / values[-1], rel=1e-4)
    with pytest.raises(ValueError, match="maps every image to zero"):
        (0 * gaussian()).condition_number()


def test_norm_of_a_wide_gaussian_is_that_of_random_matrix_theory() -> None:
    # Geman 1980: the norm tends to 1 + sqrt(n/m) for entries of variance 1/m, with fluctuations of order n^(-2/3).
    A = Gaussian((3, 32, 32), 300, seed=0)
    assert A.norm() == pytest.approx(1 + (A.n / A.m) ** 0.5, rel=0.02)


def test_norm_is_not_its_square() -> None:
    assert (3 * Identity(SHAPE)).norm() == pytest.approx(3)


def test_norm_says_when_it_is_only_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "MAX_STEPS", 2)
    monkeypatch.setattr(analysis, "MAX_DENSE_WORK", 0)
    A = gaussian(m=40).double()
    values = singular_values(A)
    with pytest.warns(RuntimeWarning, match="the norm of Gaussian is a lower bound") as caught:
        assert 0.3 * values[0] < A.norm() < values[0]
    assert_one_sentence(caught[0].message)
    with pytest.warns(RuntimeWarning, match="the condition number of Gaussian is a lower bound"):
        assert A.condition_number() < values[0] / values[-1]


def test_norm_is_reproducible_and_leaves_the_global_generators() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    A = gaussian(m=40)
    assert A.norm(seed=3) == A.norm(seed=3)
    assert A.norm(seed=3, tolerance=1e-6) == pytest.approx(A.norm(seed=4, tolerance=1e-6), rel=1e-6)
    restricted_isometry_lower_bound(A, 3, samples=2)
    coherence(A, max_columns=5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


# The pseudo-inverse.


@EVERY_WELL_POSED
def test_pinv_is_that_of_the_matrix(make: Callable[[], LinearOperator]) -> None:
    A = make().double()
    y = measured(A, (2, 3))  # not in the range of A where there are more measurements than unknowns
    inverse = torch.from_numpy(np.linalg.pinv(column_by_column(A), rcond=1e-12))
    expected = from_real(as_real(y, A.out_shape) @ inverse.T, A.in_shape, A.in_is_complex)
    found = A.pinv(y, tolerance=1e-12)
    assert found.shape == (2, 3, *A.in_shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * max(1.0, float(expected.abs().max())))


@EVERY_WELL_POSED
def test_pinv_in_single_precision(make: Callable[[], LinearOperator]) -> None:
    A = make()
    y = A(image(A, (2,), dtype=torch.float32))
    x = A.pinv(y)
    torch.testing.assert_close(A(x), y, rtol=0, atol=1e-4 * float(y.abs().max()))


@EVERY_WELL_POSED
def test_gradient_of_pinv(make: Callable[[], LinearOperator]) -> None:
    A = make().double()
    y, gradient = measured(A, (2,)).requires_grad_(), image(A, (2,))
    A.pinv(y, tolerance=1e-12).backward(gradient)
    assert y.grad is not None
    inverse = torch.from_numpy(np.linalg.pinv(column_by_column(A), rcond=1e-12))
    expected = from_real(as_real(gradient, A.in_shape) @ inverse, A.out_shape, A.out_is_complex)
    torch.testing.assert_close(y.grad, expected, rtol=0, atol=1e-9 * max(1.0, float(expected.abs().max())))


@EVERY_WELL_POSED
def test_tangent_of_pinv(make: Callable[[], LinearOperator]) -> None:
    A = make().double()
    y, tangent = measured(A, (2,)), measured(A, (2,)).flip(0).conj()
    _, found = torch.func.jvp(partial(A.pinv, tolerance=1e-12), (y,), (tangent,))
    torch.testing.assert_close(found, A.pinv(tangent.resolve_conj(), tolerance=1e-12))


def test_every_member_of_a_batch_stops_for_itself() -> None:
    A = gaussian().double()
    y = measured(A, (4,)) * torch.tensor([1.0, 0.0, 1e-8, 1e8])[:, None]
    found = A.pinv(y)
    assert torch.equal(found[1], torch.zeros(SHAPE, dtype=torch.float64))
    for member, alone in zip(found, y, strict=True):
        assert (member - A.pinv(alone)).norm() <= 1e-12 * member.norm()


def test_pinv_says_when_it_did_not_converge() -> None:
    A = gaussian(m=40).double()
    y = measured(A, (3,))
    y[1] = 0
    with pytest.warns(RuntimeWarning, match="limit of 2 iterations for 2 of 3 measurements") as caught:
        A.pinv(y, max_iterations=2)
    assert_one_sentence(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        A.pinv(y)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
def test_pinv_of_any_rank(k: int, n: int, rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = min(rank, k, n)
    left, right = np.linalg.qr(rng.normal(size=(k, rank)))[0], np.linalg.qr(rng.normal(size=(n, rank)))[0]
    values = rng.uniform(0.1, 10, size=rank)
    matrix = (left * values) @ right.T
    A = Dense(torch.from_numpy(matrix), in_is_complex=False)
    y = torch.from_numpy(rng.normal(size=k))
    expected = right @ ((left.T @ y.numpy()) / values)
    np.testing.assert_allclose(A.pinv(y, tolerance=1e-13), expected, atol=1e-8 * max(1, np.abs(expected).max()))
    assert A.norm() == pytest.approx(values.max(), rel=1e-6)
    assert A.condition_number() == pytest.approx(values.max() / values.min(), rel=1e-6)


# Coherence and restricted isometry.


@pytest.mark.parametrize("A", [gaussian(m=20).double(), fourier(m=40), gaussian().double() @ fourier().gram], ids=str)
def test_coherence_is_the_largest_cosine_of_two_columns(A: LinearOperator) -> None:
    matrix = column_by_column(A)
    units = matrix / np.linalg.norm(matrix, axis=0)
    expected = max(abs(units[:, i] @ units[:, j]) for i, j in itertools.combinations(range(A.n), 2))
    assert coherence(A) == pytest.approx(expected, abs=1e-12)
    assert coherence(3 * A) == pytest.approx(expected, abs=1e-12)
    assert coherence(A, max_columns=5) <= expected + 1e-12


def test_coherence_of_complex_columns() -> None:
    matrix = draw(5, 4, dtype=torch.complex128)
    units = matrix / matrix.norm(dim=0)
    expected = float((units.mH @ units - torch.eye(4)).abs().max())
    assert coherence(Dense(matrix, in_is_complex=True)) == pytest.approx(expected)
    assert coherence(Dense(matrix, in_is_complex=False)) < expected  # of real images, the real inner product
    with pytest.raises(ValueError, match="linear over the real ones only"):
        coherence(fourier().H)


def test_coherence_of_known_operators() -> None:
    assert coherence(Identity(SHAPE)) == 0
    assert coherence(Identity((2,)) + Dense(torch.ones(2, 2).double(), False) - Identity((2,))) == pytest.approx(1)


def delta(matrix: np.ndarray, k: int) -> float:
    """The restricted isometry constant itself, over all supports."""
    return max(
        np.abs(np.linalg.svd(matrix[:, list(S)], compute_uv=False)[[0, -1]] ** 2 - 1).max()
        for S in itertools.combinations(range(matrix.shape[1]), k)
    )


def test_restricted_isometry_is_approached_from_below() -> None:
    A = Gaussian((9,), 6, seed=2).double()
    exact = delta(A.matrix.numpy(), 3)
    bounds = [restricted_isometry_lower_bound(A, 3, samples=samples) for samples in (1, 10, 400)]
    assert bounds == sorted(bounds) and bounds[0] < bounds[-1]
    assert bounds[-1] == pytest.approx(exact, rel=1e-9)  # 400 draws of the 84 supports find them all


def test_restricted_isometry_of_known_operators() -> None:
    assert restricted_isometry_lower_bound(Identity(SHAPE), 7) == pytest.approx(0, abs=1e-12)
    assert restricted_isometry_lower_bound(2 * Identity(SHAPE), 1, samples=1) == pytest.approx(3)
    assert restricted_isometry_lower_bound(gaussian(m=7), 8, samples=1) >= 1 - 1e-9  # eight columns in seven dimensions
    complex_matrix = torch.linalg.qr(draw(6, 6, dtype=torch.complex128))[0]
    assert restricted_isometry_lower_bound(Dense(complex_matrix, True), 3) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gaussian().norm(tolerance=0),
            "the tolerance must be .* above 0 and up to 1, got 0; try 0.0001",
        ),
        (lambda: gaussian().norm(tolerance=math.nan), "got nan"),
        (lambda: gaussian().norm(seed=-1), "the seed must be an integer"),
        (lambda: (gaussian() @ Identity(SHAPE)).pinv(torch.ones(8)), r"shape \(\*batch, 7\), got \(8,\)"),
        (lambda: gaussian().pinv(torch.ones(7).double()), "holds torch.float32, got torch.float64"),
        (lambda: gaussian().pinv(torch.full((7,), math.inf)), "NaN or infinite, expected finite ones"),
        (lambda: gaussian().pinv(torch.ones(7), max_iterations=0), "max_iterations must be an integer from 1"),
        (lambda: gaussian().pinv(torch.ones(7), tolerance=-1), "the tolerance must be a number above 0"),
        (lambda: coherence(Identity((1,))), "coherence compares two columns or more"),
        (lambda: coherence(gaussian(), max_columns=1), "coherence compares two columns or more"),
        (lambda: coherence(gaussian(), max_columns=0), "max_columns must be an integer from 1"),
        (lambda: coherence(Mask(torch.tensor([True, False]))), "a column of zeros has no direction"),
        (lambda: restricted_isometry_lower_bound(gaussian(), 41), "k must be an integer from 1 to 40, got 41; try 1$"),
        (lambda: restricted_isometry_lower_bound(gaussian(), 2.0), "got 2.0"),  # type: ignore[arg-type]
        (lambda: restricted_isometry_lower_bound(gaussian(), 2, samples=0), "samples must be an integer"),
        (lambda: restricted_isometry_lower_bound(gaussian(), 2, seed=-1), "the seed must be an integer"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert_one_sentence(caught.value)


def test_a_wrong_adjoint_does_not_pass_unseen() -> None:
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(analysis.real_matrix(Wrong(flat=False).H), column_by_column(Wrong(flat=False)).T)
