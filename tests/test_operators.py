"""Operators: every kind and every expression passes one list of checks; then each kind against an oracle of its own."""

import base64
import copy
import json
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import scipy.fft
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs_lip.operators import (
    BlockDiagonal,
    Blur,
    Downsample,
    Gaussian,
    Identity,
    LinearOperator,
    LogNormal,
    Mask,
    MatrixOperator,
    MultiCoilFourier,
    PartialCirculant,
    Rademacher,
    RealImaginary,
    SinglePixel,
    SparseRandom,
    StudentT,
    SubsampledDCT,
    SubsampledFourier,
    SubsampledHadamard,
    bernoulli_mask,
    birdcage_maps,
    box_mask,
    dot_test,
    gaussian_kernel,
    motion_kernel,
    operator_from_recipe,
    vstack,
)
from cs_lip.operators.vectors import as_real, forward_vectors

SHAPE = (2, 5, 4)
KEPT = torch.tensor([[1, 0, 0, 1], [0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]], dtype=torch.bool)


# What seed 0 drew when the recipe format 1 was fixed.
GOLDEN_GAUSSIAN = [[0.059911035001277924, 0.015559634193778038, -1.1644384860992432, -0.13264712691307068]]
GOLDEN_UNIFORM = [0, 2, 11, 25, 26, 30, 31]
GOLDEN_CENTRE = [0, 1, 4, 20, 21, 24, 25]


def gaussian(seed: int = 1, m: int = 7) -> Gaussian:
    return Gaussian(SHAPE, m, seed=seed)


def fourier(seed: int = 1, m: int = 14, pattern: str = "uniform") -> SubsampledFourier:
    return SubsampledFourier(SHAPE, m, seed=seed, pattern=pattern)


def matrix(is_complex: bool = False, rows: int = 7) -> np.ndarray:
    rng = np.random.default_rng(0)
    real, imag = rng.standard_normal((2, rows, 40)).astype(np.float32)
    return real + 1j * imag if is_complex else real


def sparse(is_complex: bool = False) -> scipy.sparse.csr_array:
    return scipy.sparse.csr_array(matrix(is_complex) * (matrix() > 0.8))


def coils(in_shape: tuple[int, ...] = (5, 4), in_is_complex: bool = False) -> MultiCoilFourier:
    return MultiCoilFourier(birdcage_maps(3, (5, 4)), KEPT, in_shape, in_is_complex=in_is_complex)


KINDS: dict[str, Callable[[], LinearOperator]] = {
    "gaussian": gaussian,
    "gaussian, variance 1": lambda: Gaussian(SHAPE, 7, seed=1, normalisation="1"),
    "gaussian, m = n": lambda: gaussian(m=40),
    "gaussian of vectors": lambda: Gaussian((11,), 1, seed=3),
    "fourier": fourier,
    "fourier, centre": lambda: fourier(pattern="centre"),
    "fourier, m = n": lambda: fourier(m=40, pattern="centre"),
    "fourier, one plane": lambda: SubsampledFourier((5, 7), 6, seed=0),
    "fourier, one sample": lambda: SubsampledFourier((2, 1, 1), 2, seed=0, pattern="centre"),
    "identity": lambda: Identity(SHAPE),
    "mask": lambda: Mask(KEPT, SHAPE),
    "mask of vectors": lambda: Mask(torch.tensor([False, True, True])),
    # Imaging.
    "box mask": lambda: Mask(box_mask((5, 4), (2, 3)), SHAPE),
    "bernoulli mask": lambda: Mask(bernoulli_mask(SHAPE, keep=0.4, seed=2)),
    "downsample, box": lambda: Downsample((2, 6, 9), 3, kernel="box"),
    "downsample, bicubic": lambda: Downsample((3, 10, 6), 2),
    "downsample, lanczos": lambda: Downsample((15, 5), 5, kernel="lanczos"),
    "downsample by 1": lambda: Downsample(SHAPE, 1, kernel="bicubic"),
    "blur, circular": lambda: Blur(SHAPE, gaussian_kernel(0.7, 3)),
    "blur, reflect": lambda: Blur((2, 5, 6), motion_kernel(3.4, 30), border="reflect"),
    "blur, even kernel, circular": lambda: Blur((7, 11), matrix()[:4, :6]),
    "blur, even kernel, reflect": lambda: Blur((7, 11), matrix()[:4, :6], border="reflect"),
    "blur, kernel of the image's size": lambda: Blur(SHAPE, matrix()[:5, :4], border="reflect"),
    "blocks of a channel": lambda: BlockDiagonal((2, 6, 10), Gaussian((3, 5), 4, seed=1)),
    "blocks of all channels": lambda: BlockDiagonal((2, 6, 10), Gaussian((2, 3, 5), 4, seed=1)),
    "blocks, one plane": lambda: BlockDiagonal((6, 4), SubsampledFourier((2, 4), 6, seed=0)),
    "single pixel": lambda: SinglePixel((2, 8, 4), 21),
    "single pixel, odd sides": lambda: SinglePixel((2, 5, 7), 33, patterns="0/1"),
    "single pixel, 0/1, natural": lambda: SinglePixel((4, 16), 64, patterns="0/1", order="natural"),
    "single pixel, one": lambda: SinglePixel((1, 1), 1),
    "multi-coil": coils,
    "multi-coil, channels": lambda: coils(SHAPE),
    "multi-coil, complex": lambda: coils((1, 5, 4), in_is_complex=True),
    "real and imaginary": lambda: RealImaginary((2, 5, 4)),
    "matrix": lambda: MatrixOperator(matrix(), SHAPE),
    "matrix of vectors": lambda: MatrixOperator(torch.from_numpy(matrix()).T),
    "matrix, complex": lambda: MatrixOperator(matrix(True), SHAPE),
    "matrix, complex images": lambda: MatrixOperator(matrix(True), SHAPE, in_is_complex=True),
    "matrix, real for complex images": lambda: MatrixOperator(matrix(), in_is_complex=True),
    "sparse matrix": lambda: MatrixOperator(sparse(), SHAPE),
    "sparse matrix, complex": lambda: MatrixOperator(sparse(True), SHAPE),
    "sparse matrix, complex images": lambda: MatrixOperator(sparse(True), SHAPE, in_is_complex=True),
}

KINDS |= {
    "gaussian, regenerated": lambda: Gaussian(SHAPE, 37, seed=1, storage="regenerated"),
    "rademacher": lambda: Rademacher(SHAPE, 7, seed=1),
    "rademacher, regenerated": lambda: Rademacher((3, 7), 19, seed=1, normalisation="1", storage="regenerated"),
    "student t": lambda: StudentT(SHAPE, 7, seed=1, degrees_of_freedom=3),
    "log-normal": lambda: LogNormal(SHAPE, 7, seed=1, sigma=1.0),
    "sparse random": lambda: SparseRandom(SHAPE, 7, seed=1, nonzeros_per_column=3),
    "sparse random, d = m": lambda: SparseRandom((13,), 4, seed=1, nonzeros_per_column=4, normalisation="1"),
    "fourier, vectors": lambda: SubsampledFourier((11,), 8, seed=1),
    "fourier, even vectors": lambda: SubsampledFourier((12,), 12, seed=1, pattern="centre"),
    "fourier, lines": lambda: SubsampledFourier.lines((2, 6, 9), acceleration=1.7, centre_fraction=0.3, seed=1),
    "fourier, every line": lambda: SubsampledFourier.lines((7, 8), acceleration=1, centre_fraction=0, seed=1),
    "fourier, radial": lambda: SubsampledFourier.radial((2, 7, 10), spokes=3),
    "fourier, full mask": lambda: SubsampledFourier.from_mask(torch.ones(5, 4, dtype=torch.bool), SHAPE),
    "fourier, masked vectors": lambda: SubsampledFourier.from_mask(torch.tensor([True, False, True, True, True])),
    "hadamard": lambda: SubsampledHadamard(SHAPE, 7, seed=1),
    "hadamard, per channel": lambda: SubsampledHadamard((3, 5, 7), 50, seed=1, per_channel=True, normalisation="1"),
    "hadamard, n a power of two": lambda: SubsampledHadamard((64,), 64, seed=1),
    "hadamard of one number": lambda: SubsampledHadamard((1,), 1, seed=1),
    "dct": lambda: SubsampledDCT(SHAPE, 7, seed=1),
    "dct, odd": lambda: SubsampledDCT((3, 11), 33, seed=1, normalisation="1"),
    "dct, per channel": lambda: SubsampledDCT(SHAPE, 40, seed=1, per_channel=True),
    "dct of one number": lambda: SubsampledDCT((1,), 1, seed=1),
    "circulant": lambda: PartialCirculant(SHAPE, 7, seed=1),
    "circulant, odd": lambda: PartialCirculant((3, 5, 7), 105, seed=1, normalisation="1"),
    "circulant, per channel": lambda: PartialCirculant((2, 3, 3), 10, seed=1, per_channel=True),
    "circulant of vectors": lambda: PartialCirculant((12,), 5, seed=1),
    "circulant of rows": lambda: PartialCirculant((3, 7), 12, seed=1, per_channel=True),
}

EXPRESSIONS: dict[str, Callable[[], LinearOperator]] = {
    "A.H": lambda: gaussian().H,
    "F.H": lambda: fourier().H,
    "A.gram": lambda: gaussian().gram,
    "F.gram": lambda: fourier().gram,
    "A @ F.gram": lambda: gaussian() @ fourier().gram,
    "F @ mask.gram": lambda: fourier() @ Mask(KEPT, SHAPE).gram,
    "(A @ F.H).H": lambda: (gaussian() @ fourier().H).H,
    "A + B": lambda: gaussian() + gaussian(seed=2),
    "F - G": lambda: fourier() - fourier(seed=2),
    "identity - 2 A.gram": lambda: Identity(SHAPE) - 2 * gaussian().gram,
    "2.5 F": lambda: 2.5 * fourier(),
    "0 A": lambda: 0 * gaussian(),
    "-A * 3": lambda: -gaussian() * 3,
    "vstack real": lambda: vstack([gaussian(), Mask(KEPT, SHAPE), 2 * Identity(SHAPE)]),
    "vstack complex": lambda: vstack([fourier(), vstack([fourier(2), 2 * fourier(3)])]),
    "vstack.H": lambda: vstack([gaussian(), Identity(SHAPE)]).H,
    "vstack.gram": lambda: vstack([fourier(), fourier(2)]).gram,
}

EVERY = pytest.mark.parametrize("make", [*KINDS.values(), *EXPRESSIONS.values()], ids=[*KINDS, *EXPRESSIONS])
EVERY_KIND = pytest.mark.parametrize("make", KINDS.values(), ids=list(KINDS))


def draw(shape: tuple[int, ...], is_complex: bool = False, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype.to_complex() if is_complex else dtype)


def image(A: LinearOperator, batch: tuple[int, ...] = (), seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return draw((*batch, *A.in_shape), A.in_is_complex, seed, dtype)


def measured(A: LinearOperator, batch: tuple[int, ...] = (), dtype: torch.dtype = torch.float64) -> Tensor:
    return draw((*batch, *A.out_shape), A.out_is_complex, 9, dtype)


# The contract, for every kind and every expression.


@EVERY
def test_adjoint_passes_the_dot_test(make: Callable[[], LinearOperator]) -> None:
    A = make()
    for batch in [(), (2,), (2, 3)]:
        x, y = image(A, batch, dtype=torch.float32), measured(A, batch, dtype=torch.float32)
        assert A(x).shape == y.shape and A(x).dtype == y.dtype
        assert A.adjoint(y).shape == x.shape and A.adjoint(y).dtype == x.dtype
    for operator in (A, A.H):
        assert dot_test(operator) <= 1e-10
        assert dot_test(operator, seed=1, dtype=torch.float32) <= 1e-5


@EVERY
def test_counts_of_real_numbers(make: Callable[[], LinearOperator]) -> None:
    A = make().double()
    numbers = {True: 2, False: 1}
    assert image(A).numel() * numbers[A.in_is_complex] == A.n == A.H.m
    assert measured(A).numel() * numbers[A.out_is_complex] == A.m == A.H.n


@EVERY
def test_linear_and_batched(make: Callable[[], LinearOperator]) -> None:
    A = make().double()
    x1, x2 = image(A, (2, 3), 1), image(A, (2, 3), 2)
    torch.testing.assert_close(A(2.0 * x1 - x2), 2.0 * A(x1) - A(x2))
    one_by_one = torch.stack([torch.stack([A(x) for x in row]) for row in x1])
    torch.testing.assert_close(A(x1), one_by_one)
    y = measured(A, (2, 3))
    torch.testing.assert_close(A.adjoint(y)[1, 2], A.adjoint(y[1, 2]))


@EVERY
@pytest.mark.parametrize("batch", [(0,), (2, 0)])
def test_an_empty_batch_stays_empty(make: Callable[[], LinearOperator], batch: tuple[int, ...]) -> None:
    A = make()
    x, y = image(A, (1,), dtype=torch.float32), A(image(A, (1,), dtype=torch.float32))
    no_x, no_y = (some[:0].expand(*batch, *some.shape[1:]) for some in (x, y))
    assert A(no_x).shape == (*batch, *A.out_shape) and A(no_x).dtype == y.dtype
    assert A.adjoint(no_y).shape == (*batch, *A.in_shape) and A.adjoint(no_y).dtype == x.dtype
    assert A.pinv(no_y).shape == (*batch, *A.in_shape)
    followed = no_x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(A(followed).abs().sum(), followed)
    assert slope.shape == no_x.shape


@EVERY
def test_conjugate_views_are_what_they_show(make: Callable[[], LinearOperator]) -> None:
    A = make().double()
    x, y = image(A, (2,)).conj(), measured(A, (2,)).conj()
    torch.testing.assert_close(A(x), A(x.resolve_conj()))
    torch.testing.assert_close(A.adjoint(y), A.adjoint(y.resolve_conj()))
    torch.testing.assert_close(forward_vectors(A, as_real(x, A.in_shape)), as_real(A(x), A.out_shape))


@EVERY
def test_strided_input_stays_as_it_is(make: Callable[[], LinearOperator]) -> None:
    A = make().double()
    x = image(A, (6,))[::2].transpose(0, -1).contiguous().transpose(0, -1)
    before = x.clone()
    result = A(x)
    torch.testing.assert_close(result, A(before), rtol=0, atol=1e-14)
    result += 1  # a view of the input would change it
    assert torch.equal(x, before)


@EVERY
def test_gradients_and_double_gradients(make: Callable[[], LinearOperator]) -> None:
    A = make().double()
    x = image(A, (2,)).requires_grad_()
    y = measured(A).requires_grad_()
    assert torch.autograd.gradcheck(A, (x,), check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradcheck(A.adjoint, (y,), check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(A, (x,), fast_mode=True)


@EVERY
def test_gradient_of_least_squares_is_the_normal_equation(make: Callable[[], LinearOperator]) -> None:
    A = make().double()
    x, y = image(A, (2,)).requires_grad_(), measured(A, (2,))
    (0.5 * (A(x) - y).abs().square().sum()).backward()
    torch.testing.assert_close(x.grad, A.adjoint(A(x.detach()) - y))
    torch.testing.assert_close(A.gram(x.detach()), A.adjoint(A(x.detach())))


@EVERY
def test_function_transforms(make: Callable[[], LinearOperator]) -> None:
    A = make().double()
    x, v = image(A, (3,), 1), image(A, (3,), 2)
    value, tangent = torch.func.jvp(A, (x,), (v,))
    torch.testing.assert_close(value, A(x))
    torch.testing.assert_close(tangent, A(v))
    torch.testing.assert_close(torch.func.vmap(A, in_dims=-1)(x.movedim(0, -1)), A(x))
    columns = torch.func.vmap(lambda t: torch.func.jvp(A, (x[0],), (t,))[1])(v)
    torch.testing.assert_close(columns, A(v))
    pulled = torch.func.vmap(lambda y: torch.func.vjp(A, x[0])[1](y)[0])(measured(A, (4,)))
    torch.testing.assert_close(pulled, A.adjoint(measured(A, (4,))))


@EVERY
def test_autograd_stores_nothing(make: Callable[[], LinearOperator]) -> None:
    A = make().double()
    stored: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: stored.append(t) or t, lambda t: t):
        A(image(A).requires_grad_())
        A.adjoint(measured(A).requires_grad_())
    assert not stored


@EVERY
def test_copies_and_pickles_measure_the_same(make: Callable[[], LinearOperator]) -> None:
    A = make().double()
    for twin in (copy.deepcopy(A), pickle.loads(pickle.dumps(A))):
        assert torch.equal(twin(image(A)), A(image(A)))
    assert not A.state_dict()  # the state is the recipe, not the matrix
    assert not list(A.parameters())


@EVERY
def test_seeds_alone_decide(make: Callable[[], LinearOperator]) -> None:
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    A, B = make(), make()
    dot_test(A)
    assert torch.equal(A(image(A, dtype=torch.float32)), B(image(A, dtype=torch.float32)))
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)


# Expressions mean what they say.


def test_algebra_against_arithmetic() -> None:
    A, B, F = gaussian(1).double(), gaussian(2).double(), fourier()
    x, y = image(A, (2,)), measured(A, (2,))
    torch.testing.assert_close((A + B)(x), A(x) + B(x))
    torch.testing.assert_close((A - B)(x), A(x) - B(x))
    torch.testing.assert_close((-A)(x), -A(x))
    for scaled in (3 * A, A * 3, np.float64(3) * A, np.float32(3) * A):
        torch.testing.assert_close(scaled(x), 3 * A(x))
    torch.testing.assert_close((A @ F.gram)(x), A(F.adjoint(F(x))))
    torch.testing.assert_close(A.H(y), A.adjoint(y))
    torch.testing.assert_close(vstack([A, Identity(SHAPE)])(x), torch.cat([A(x), x.flatten(1)], dim=1))
    assert A.H.H is A
    assert (2 * A).H.H.H.in_shape == A.out_shape


class Shaped(LinearOperator):
    """Of any shapes, to be refused for them."""

    def _apply_forward(self, x: Tensor) -> Tensor:
        return x.clone()

    _apply_adjoint = _apply_forward


class Wrong(LinearOperator):
    """Its adjoint forgets the factor, or returns another shape."""

    def __init__(self, flat: bool) -> None:
        super().__init__((2, 3), (2, 3))
        self.flat = flat

    def _apply_forward(self, x: Tensor) -> Tensor:
        return 2 * x

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        return 2 * y.flatten(-2) if self.flat else 1.5 * y


def test_dot_test_finds_a_wrong_adjoint_and_a_wrong_shape() -> None:
    assert dot_test(Wrong(flat=False)) > 1e-3
    with pytest.raises(ValueError, match=r"A\.adjoint\(y\) must be .* shape \(2, 2, 3\), got .* \(2, 6\)"):
        dot_test(Wrong(flat=True))


def test_dot_test_leaves_the_operator_as_it_is() -> None:
    A = gaussian()
    dot_test(A)
    assert A.matrix.dtype == torch.float32


# Gaussian.


def test_gaussian_is_its_matrix() -> None:
    A = gaussian().double()
    x, y = image(A, (3,)), measured(A, (3,))
    np.testing.assert_allclose(A(x).numpy(), x.numpy().reshape(3, -1) @ A.matrix.numpy().T, atol=1e-12)
    np.testing.assert_allclose(A.adjoint(y).numpy().reshape(3, -1), y.numpy() @ A.matrix.numpy(), atol=1e-12)


@pytest.mark.parametrize("normalisation", ["1/m", "1"])
def test_gaussian_mean_and_variance(normalisation: str) -> None:
    m, n = 200, 3000
    matrix = (
        Gaussian((n,), m, seed=5, normalisation=normalisation).matrix.double()
        * (m if normalisation == "1/m" else 1) ** 0.5
    )
    assert abs(matrix.mean()) < 5 / (m * n) ** 0.5
    assert abs(matrix.var() - 1) < 5 * (2 / (m * n)) ** 0.5
    assert abs(matrix.pow(4).mean() - 3) < 5 * (96 / (m * n)) ** 0.5
    # Neither rows of one block, nor the first rows of two blocks, tell about each other.
    correlation = torch.corrcoef(matrix[:40])
    assert (correlation - torch.eye(40)).abs().max() < 6 / n**0.5


def test_gaussian_keeps_the_energy_on_average() -> None:
    x = image(Identity(SHAPE), dtype=torch.float32)
    ratios = [gaussian(seed)(x).square().sum() / x.square().sum() for seed in range(300)]
    assert abs(float(torch.stack(ratios).mean()) - 1) < 5 * (2 / 7 / 300) ** 0.5


def test_gaussian_first_rows_and_other_seeds() -> None:
    many, few = (Gaussian(SHAPE, m, seed=4, normalisation="1").matrix for m in (37, 20))
    assert torch.equal(many[:20], few)
    assert not torch.equal(gaussian(4).matrix, gaussian(5).matrix)
    assert Gaussian((3,), 1, seed=2**63 - 1).matrix.isfinite().all()


def test_gaussian_does_not_depend_on_threads() -> None:
    threads, matrix = torch.get_num_threads(), gaussian(m=40).matrix
    try:
        torch.set_num_threads(1)
        assert torch.equal(gaussian(m=40).matrix, matrix)
    finally:
        torch.set_num_threads(threads)


def test_gaussian_numbers_are_those_of_files_already_written() -> None:
    # If this fails, a recipe no longer rebuilds the operator that a file was measured with: raise the recipe's format.
    matrix = Gaussian((4,), 1, seed=0, normalisation="1").matrix
    assert matrix.tolist() == GOLDEN_GAUSSIAN
    assert fourier(0, pattern="centre").indices.tolist() == GOLDEN_CENTRE
    assert fourier(0).indices.tolist() == GOLDEN_UNIFORM


def test_double_keeps_the_numbers() -> None:
    assert torch.equal(gaussian().double().matrix, gaussian().matrix.double())


# Fourier.

sides = st.integers(1, 13)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), sides, sides, st.data(), st.sampled_from(["uniform", "centre"]), st.integers(0, 2**63 - 1))
def test_fourier_of_any_size(
    channels: int, height: int, width: int, data: st.DataObject, pattern: str, seed: int
) -> None:
    n = channels * height * width
    if n < 2:
        return
    k = data.draw(st.integers(1, n // 2))
    A = SubsampledFourier((channels, height, width), 2 * k, seed=seed, pattern=pattern)
    assert A.m == 2 * k and A.out_shape == (k,) and A.mask.sum() == k
    x = image(A, (2,))
    spectrum = scipy.fft.fft2(x.numpy(), norm="ortho").reshape(2, -1)
    np.testing.assert_allclose(A(x).numpy(), spectrum[:, A.indices.numpy()], atol=1e-10)
    assert dot_test(A) <= 1e-10
    # No sample comes with its conjugate twin, unless it is its own.
    u, v = torch.arange(height)[:, None], torch.arange(width)[None, :]
    twins = A.mask[:, -u % height, -v % width]
    own = ((2 * u) % height == 0) & ((2 * v) % width == 0)
    assert not (A.mask & twins & ~own).any()
    if pattern == "centre" and k >= channels:
        assert A.mask[:, 0, 0].all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.data(), st.integers(0, 2**63 - 1))
def test_gaussian_and_mask_of_any_size(shape: list[int], data: st.DataObject, seed: int) -> None:
    n = int(np.prod(shape))
    A = Gaussian(shape, data.draw(st.integers(1, n)), seed=seed)
    kept = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any))).reshape(shape)
    M = Mask(kept)
    assert torch.equal(M.mask, kept) and M.m == kept.sum()
    assert torch.equal(M(image(M)), image(M)[kept])
    for operator in (A, M, vstack([A, M])):
        assert dot_test(operator) <= 1e-10
    for operator in (A, M):
        assert_same_numbers(operator_from_recipe(json.loads(json.dumps(operator.recipe()))), operator)


def test_fourier_rows_are_orthogonal_with_the_stated_norms() -> None:
    A = fourier(m=40, pattern="centre")
    frame = torch.func.jacrev(lambda x: torch.view_as_real(A(x)))(image(A)).reshape(A.m, A.n)
    own = torch.view_as_real(A(image(A))).abs()[:, 1] < 1e-12
    norms = torch.stack([torch.where(own, 1.0, 0.5), torch.where(own, 0.0, 0.5)], dim=1).double().flatten()
    torch.testing.assert_close(frame @ frame.T, norms.diag(), rtol=0, atol=1e-12)


def test_fourier_measures_one_plane_as_it_does_one_channel() -> None:
    plane, channel = (SubsampledFourier(shape, 12, seed=7) for shape in [(6, 5), (1, 6, 5)])
    x = image(plane)
    assert torch.equal(plane(x), channel(x[None]))


def test_centre_pattern_is_denser_in_the_middle() -> None:
    radius = torch.from_numpy(np.hypot(np.fft.fftfreq(32)[:, None], np.fft.fftfreq(32)[None, :]))
    means = {
        p: radius.expand(3, 32, 32)[SubsampledFourier((3, 32, 32), 400, seed=0, pattern=p).mask].mean()
        for p in ("uniform", "centre")
    }
    assert means["centre"] < 0.7 * means["uniform"]


def test_uniform_pattern_is_uniform_over_the_half_plane() -> None:
    counts = sum(SubsampledFourier((1, 5, 5), 4, seed=seed).mask.flatten().double() for seed in range(1000))
    half = counts[counts > 0]
    assert len(half) == 13  # 25 frequencies: zero, and 12 pairs of twins
    expected = 2000 / 13
    assert ((half - expected).square() / expected).sum() < 40  # chi squared, 12 degrees of freedom


def test_fourier_seeds_differ() -> None:
    assert not torch.equal(fourier(1).mask, fourier(2).mask)


# Identity and mask.


def test_mask_broadcasts_over_channels_and_fills_with_zeros() -> None:
    A = Mask(KEPT, SHAPE)
    x = image(A)
    assert torch.equal(A(x), torch.cat([x[0][KEPT], x[1][KEPT]]))
    assert torch.equal(A.gram(x), x * KEPT)
    assert torch.equal(A.mask, KEPT.expand(SHAPE))
    assert torch.equal(Identity(SHAPE)(x), x)


# Recipes.


def assert_same_numbers(A: LinearOperator, B: LinearOperator) -> None:
    assert type(A) is type(B) and A.in_shape == B.in_shape and A.out_shape == B.out_shape
    buffers = dict(B.named_buffers())
    assert all(torch.equal(numbers, buffers[name]) for name, numbers in A.named_buffers())


@EVERY_KIND
def test_recipe_rebuilds_bit_for_bit(make: Callable[[], LinearOperator]) -> None:
    A = make()
    B = operator_from_recipe(json.loads(json.dumps(A.recipe())))
    assert_same_numbers(A, B)
    assert B.recipe() == A.recipe()


GAUSSIAN = gaussian().recipe()
MASK = Mask(KEPT).recipe()
SCALED = (2 * gaussian()).recipe()
STACK = vstack([gaussian()]).recipe()


def mask_with(**changes: object) -> dict[str, object]:
    return MASK | {"mask": MASK["mask"] | changes}


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ([1], "must be a mapping, got list"),
        ({}, "must have format 1, got None"),
        (GAUSSIAN | {"format": 2}, "must have format 1, got 2; try the version of cs-lip that wrote it"),
        (GAUSSIAN | {"format": True}, "must have format 1, got True"),
        (GAUSSIAN | {"kind": "radon"}, "unknown kind of operator 'radon', expected one of gaussian, "),
        (GAUSSIAN | {"kind": ["gaussian"]}, "unknown kind of operator"),
        ({k: v for k, v in GAUSSIAN.items() if k != "seed"}, "must have the keys .*seed is missing or too many"),
        (GAUSSIAN | {"matrix": [1]}, "and matrix is missing or too many"),
        (GAUSSIAN | {1: 1}, "and 1 is missing or too many"),
        (GAUSSIAN | {"seed": 1.0}, "the seed must be an integer"),
        (GAUSSIAN | {"m": "7"}, "m must be an integer from 1 to n = 40 .* got '7'"),
        (GAUSSIAN | {"in_shape": "345"}, "in_shape must be 1 to 8 positive integers"),
        (GAUSSIAN | {"in_shape": [2**16, 2**16]}, r"product of at most 2\^31"),
        (GAUSSIAN | {"in_shape": [1] * 9}, "in_shape must be 1 to 8 positive integers"),
        (GAUSSIAN | {"normalisation": ["1"]}, "the normalisation must be '1/m' or '1'"),
        (SCALED | {"scalar": "2"}, r"c \* A needs a finite real number c, got '2'; try 1.0"),
        (SCALED | {"scalar": True}, r"c \* A needs a finite real number c, got 'True'"),
        (SCALED | {"scalar": float("inf")}, r"c \* A needs a finite real number c, got inf"),
        (SCALED | {"operator": 3}, "recipe must be a mapping, got int"),
        (SCALED | {"operator": GAUSSIAN | {"seed": -1}}, "the seed must be an integer"),
        (SCALED | {"operators": []}, "operators is missing or too many"),
        (STACK | {"operators": GAUSSIAN}, "a stack needs a list of recipes, got dict"),
        (STACK | {"operators": []}, "vstack needs at least one operator"),
        (STACK | {"operators": [GAUSSIAN, {}]}, "must have format 1, got None"),
        (MASK | {"mask": "no array"}, "mask must hold dtype, shape and data"),
        (mask_with(data=3), "mask is not base64"),
        (mask_with(data="no base64!"), "mask is not base64"),
        (mask_with(dtype="float32"), "mask must be of bool, got 'float32'"),
        (mask_with(shape=[0]), "in_shape must be"),
        (mask_with(data=base64.b64encode(b"\x01\x00").decode()), r"shape \(5, 4\) in 3 bytes, got 2 bytes"),
        (mask_with(data=base64.b64encode(b"\x01\x00\x0f").decode()), "got 3 bytes that do not fit"),
        (mask_with(data=base64.b64encode(b"\x00\x00\x00").decode()), "the mask keeps no pixel"),
    ],
)
def test_bad_recipes(recipe: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        operator_from_recipe(recipe)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", EXPRESSIONS.values(), ids=list(EXPRESSIONS))
def test_recipes_of_expressions_rebuild_bit_for_bit(make: Callable[[], LinearOperator]) -> None:
    A = make()
    B = operator_from_recipe(json.loads(json.dumps(A.recipe())))
    assert_same_numbers(A, B)
    assert B.recipe() == A.recipe()
    x, y = image(A, dtype=torch.float32), measured(A, dtype=torch.float32)
    assert torch.equal(A(x), B(x)) and torch.equal(A.adjoint(y), B.adjoint(y))


def test_equal_parts_of_a_rebuilt_expression_share_their_numbers() -> None:
    A = operator_from_recipe((gaussian().gram + gaussian().gram - gaussian(2).gram).recipe())
    assert len(list(A.buffers())) == 2


def test_recipes_nest_only_so_deep() -> None:
    A: LinearOperator = Identity(SHAPE)
    for _ in range(63):
        A = 2 * A
    recipe = A.recipe()
    assert operator_from_recipe(recipe).recipe() == recipe
    with pytest.raises(ValueError, match=r"nests more than 64 operators deep.*; try vstack"):
        (2 * A).recipe()
    with pytest.raises(ValueError, match="nests more than 64 operators deep"):
        BlockDiagonal(SHAPE, A).recipe()
    with pytest.raises(ValueError, match="a recipe may nest at most 64 operators deep"):
        operator_from_recipe({"format": 1, "kind": "adjoint", "operator": recipe})


def test_an_operator_of_ones_own_has_no_recipe() -> None:
    for A in (Wrong(flat=False), Wrong(flat=False).gram):
        with pytest.raises(ValueError, match="a Wrong operator has no recipe; try one"):
            A.recipe()


# Bad input: one sentence each.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gaussian(m=0), r"m must be an integer from 1 to n = 40 .*, got 0; try 4"),
        (lambda: gaussian(m=-3), "got -3; try 4"),
        (lambda: gaussian(m=41), "got 41; try 40"),
        (lambda: gaussian(m=True), "got True"),
        (lambda: gaussian(m=7.0), "got 7.0"),  # type: ignore[arg-type]
        (lambda: gaussian(seed=-1), r"the seed must be an integer from 0 to 2\^63 - 1, got -1; try 0"),
        (lambda: gaussian(seed=2**63), "the seed must be an integer"),
        (lambda: gaussian(seed=True), "the seed must be an integer"),
        (lambda: Gaussian((), 1, seed=0), "in_shape must be"),
        (lambda: Gaussian((3, 0), 1, seed=0), r"in_shape must be .* got \(3, 0\); try \(3, 64, 64\)"),
        (lambda: Gaussian((3,), 1, seed=0, normalisation="m"), "normalisation must be '1/m' or '1', got 'm'"),
        (lambda: fourier(m=0), "an integer from 2 to n = 40 .* got 0; try 4"),
        (lambda: fourier(m=42), "got 42; try 40"),
        (lambda: fourier(m=7), "m must be even, .* got 7; try 6 or 8"),
        (lambda: SubsampledFourier((3, 3), 9, seed=0), "m must be even, .* got 9; try 8$"),
        (lambda: fourier(pattern="radial"), "the pattern must be 'uniform' or 'centre', got 'radial'"),
        (lambda: SubsampledFourier((1, 2, 3, 4), 2, seed=0), r"\(channels, height, width\), .* got \(1, 2, 3, 4\)"),
        (lambda: SubsampledFourier((1, 1), 2, seed=0), "two pixels or more"),
        (lambda: fourier(seed=-1), "the seed must be an integer"),
        (lambda: Identity((2, -1)), "in_shape must be"),
        (lambda: Mask(torch.zeros(2, 2, dtype=torch.bool)), "the mask keeps no pixel"),
        (lambda: Mask(torch.ones(2, 2)), "a mask must hold booleans, .* got torch.float32; try mask > 0"),
        (lambda: Mask(KEPT, (2, 4, 5)), r"a mask of shape \(5, 4\) does not fit images of shape \(2, 4, 5\)"),
        (lambda: gaussian() @ fourier(), r"A @ B .* expected real \(2, 5, 4\), got complex \(7,\)"),
        (lambda: gaussian() + gaussian(m=8), r"A \+ B .* expected real \(7,\), got real \(8,\)"),
        (lambda: gaussian() + fourier(), r"expected real \(7,\), got complex \(7,\)"),
        (lambda: gaussian() - Gaussian((4,), 2, seed=0), r"expected real \(2, 5, 4\), got real \(4,\)"),
        (lambda: float("nan") * gaussian(), "a finite real number c, got nan"),
        (lambda: Shaped((3,), ()), r"shapes of one axis or more, got \(3,\) to \(\); try \(1,\) for a single number"),
        (lambda: vstack([]), "vstack needs at least one operator"),
        (lambda: vstack([gaussian(), Identity((4,))]), "vstack needs operators that fit"),
        (lambda: vstack([gaussian(), fourier()]), "vstack got both real and complex"),
        (lambda: gaussian()(torch.ones(2, 5, 5)), r"shape \(\*batch, 2, 5, 4\), got \(2, 5, 5\)"),
        (lambda: gaussian()(torch.ones(5, 4)), r"got \(5, 4\)"),
        (
            lambda: gaussian()(torch.ones(SHAPE, dtype=torch.uint8)),
            r"floating-point values, got torch.uint8; try x.float",
        ),
        (lambda: gaussian()(np.ones(SHAPE)), "expects a torch tensor, got ndarray"),  # type: ignore[arg-type]
        (
            lambda: gaussian()(torch.ones(SHAPE).double()),
            r"holds torch.float32, got torch.float64; try A.to\(torch.float64",
        ),
        (lambda: (2 * gaussian())(torch.ones(SHAPE).double()), "Scaled holds torch.float32"),
        (lambda: gaussian()(torch.ones(SHAPE, device="meta")), "Gaussian is on cpu, its input on meta"),
        (lambda: gaussian()(torch.ones(SHAPE) + 0j), "expects real values here, got torch.complex64; try x.real"),
        (lambda: fourier().adjoint(torch.ones(7)), "expects complex values here, got torch.float32"),
        (lambda: fourier().adjoint(torch.ones(6) + 0j), r"shape \(\*batch, 7\), got \(6,\)"),
        (lambda: fourier()(torch.ones(SHAPE).half()), "computed in float32 or float64, got torch.float16"),
        (lambda: dot_test(gaussian(), seed=-1), "the seed must be an integer"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "; try " in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "expression", [lambda A: A @ torch.ones(40), lambda A: A + 1, lambda A: 2j * A, lambda A: A * A]
)
def test_expressions_of_other_types_are_type_errors(expression: Callable[[LinearOperator], object]) -> None:
    with pytest.raises(TypeError):
        expression(gaussian())
