"""Interop both ways: their solvers and tests on our operators, and ours on theirs."""

import sys
import warnings

import numpy as np
import pytest
import scipy.sparse
import torch
from helpers import assert_one_sentence
from scipy.sparse.linalg import LinearOperator as SciPyOperator
from scipy.sparse.linalg import aslinearoperator, lsqr, svds
from test_operators import EVERY, KINDS, SHAPE, fourier, gaussian, image, measured
from torch import Tensor

from cs_lip.operators import (
    Gaussian,
    Identity,
    LinearOperator,
    SubsampledFourier,
    dot_test,
    from_deepinv,
    from_pylops,
    from_scipy,
    to_deepinv,
    to_pylops,
    to_scipy,
)
from cs_lip.operators.vectors import as_real

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what other libraries deprecate in each other
    import deepinv
    import pylops


def check_contract(A: LinearOperator, dtype: torch.dtype = torch.float64) -> None:
    """The heart of the contract, for an operator made of a foreign one."""
    assert dot_test(A, dtype=dtype) <= (1e-10 if dtype == torch.float64 else 1e-5)
    x = image(A, (2, 3), dtype=dtype)
    before = x.clone()
    y = A(x)
    assert y.shape == (2, 3, *A.out_shape) and y.dtype == measured(A, dtype=dtype).dtype
    torch.testing.assert_close(y[1, 2], A(x[1, 2]))
    y += 1
    assert torch.equal(x, before)
    x.requires_grad_()
    target = measured(A, dtype=dtype)
    (0.5 * (A(x) - target).abs().square().sum()).backward()
    torch.testing.assert_close(x.grad, A.adjoint(A(x.detach()) - target))
    torch.testing.assert_close(torch.func.jvp(A, (before,), (before,))[1], A(before))


# SciPy.


@EVERY
def test_scipy_runs_our_operators(make: object) -> None:
    A = make().double()  # type: ignore[operator]
    L = to_scipy(A)
    assert L.shape == (A.m, A.n) and L.dtype == np.float64
    x, y = image(A), measured(A)
    vector = as_real(x, A.in_shape).numpy()
    np.testing.assert_allclose(L @ vector, as_real(A(x), A.out_shape), atol=1e-12)
    np.testing.assert_allclose(L.H @ as_real(y, A.out_shape).numpy(), as_real(A.adjoint(y), A.in_shape), atol=1e-12)
    # Matrices of columns, vectors as columns, and SciPy's own algebra.
    columns = np.stack([vector, 2 * vector], axis=1)
    np.testing.assert_allclose(L @ columns, np.stack([L @ vector, 2 * (L @ vector)], axis=1), atol=1e-12)
    np.testing.assert_allclose((2 * L)(vector[:, None])[:, 0], 2 * (L @ vector), atol=1e-12)


@pytest.mark.parametrize("A", [gaussian(), fourier()], ids=["gaussian", "fourier"])
def test_scipy_lsqr_finds_the_real_image(A: LinearOperator) -> None:
    y = A(image(A, dtype=torch.float32))
    found = lsqr(to_scipy(A), as_real(y, A.out_shape).numpy(), atol=1e-10, btol=1e-10)[0]
    torch.testing.assert_close(torch.as_tensor(found).float().reshape(SHAPE), A.pinv(y), rtol=0, atol=1e-4)


def test_scipy_svds_agrees_with_our_norm() -> None:
    A = fourier(m=20) @ gaussian().gram.double()
    largest = svds(to_scipy(A), k=1, return_singular_vectors=False)[0]
    assert A.norm() == pytest.approx(largest, rel=1e-6)


def test_scipy_keeps_single_precision() -> None:
    assert to_scipy(gaussian()).dtype == np.float32
    assert (to_scipy(gaussian()) @ np.ones(40)).dtype == np.float32


def test_scipy_operators_follow_ours_to_another_precision() -> None:
    A = gaussian()
    L = to_scipy(A)
    A.double()
    assert (L @ np.ones(40)).dtype == np.float64


def test_complex_vectors_are_refused_not_cut() -> None:
    with pytest.raises(
        ValueError, match=r"vectors of real numbers, .* got complex128; try vector.view\(float\)"
    ) as caught:
        lsqr(to_scipy(gaussian()), 1j * np.ones(7))
    assert_one_sentence(caught.value)
    with pytest.raises(ValueError, match="vectors of real numbers"):
        to_pylops(fourier()).H @ (1j * np.ones(14))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_scipy_operators_become_ours(dtype: type) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(6, 8)).astype(dtype)
    if np.dtype(dtype).kind == "c":
        matrix = (matrix + 1j * rng.normal(size=(6, 8))).astype(dtype)
    A = from_scipy(aslinearoperator(matrix), (2, 4), (3, 2))
    single = np.dtype(dtype) in (np.float32, np.complex64)
    check_contract(A, torch.float32 if single else torch.float64)
    np.testing.assert_allclose(A.to_matrix(), matrix, atol=1e-6)
    assert A.norm() == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-5)
    if A.in_is_complex:
        x = image(A, (2,)).to(torch.complex64 if single else torch.complex128).conj()
        torch.testing.assert_close(A(x), A(x.resolve_conj()))
        real = from_scipy(aslinearoperator(matrix), in_is_complex=False)
        assert not real.in_is_complex and real.out_is_complex and real.in_shape == (8,)
        check_contract(real, torch.float32 if single else torch.float64)


def test_scipy_and_back() -> None:
    A = gaussian()
    for B in (from_scipy(to_scipy(A), SHAPE), from_scipy(aslinearoperator(scipy.sparse.eye(40)), SHAPE)):
        check_contract(B, torch.float32)
        assert B(image(A, dtype=torch.float16)).dtype == torch.float16
    torch.testing.assert_close(from_scipy(to_scipy(A), SHAPE)(image(A)), A.double()(image(A)), rtol=0, atol=1e-5)


# PyLops.


@EVERY
def test_pylops_dottest_passes_on_our_operators(make: object) -> None:
    A = make().double()  # type: ignore[operator]
    L = to_pylops(A)
    assert pylops.utils.dottest(L, rtol=1e-9, atol=1e-12)
    x, y = image(A), measured(A)
    x, y = (torch.view_as_real(values) if values.is_complex() else values for values in (x, y))
    assert L.dims == x.shape and L.dimsd == y.shape
    assert (L @ x.numpy()).shape == y.shape and (L.H @ y.numpy()).shape == x.shape


@pytest.mark.parametrize("kind", ["gaussian", "fourier"])
def test_pylops_fista_finds_a_sparse_image_with_our_operators(kind: str) -> None:
    A: LinearOperator = Gaussian((8, 8), 40, seed=1).double()
    if kind == "fourier":
        A = SubsampledFourier((8, 8), 44, seed=1)
    x = torch.zeros(8, 8, dtype=torch.float64)
    x[1, 2], x[5, 5], x[6, 0] = 1.0, 0.8, -0.5
    y = as_real(A(x), A.out_shape).numpy()
    found, _, _ = pylops.optimization.sparsity.fista(to_pylops(A), y, niter=600, eps=2e-3)
    np.testing.assert_allclose(found.reshape(8, 8), x, atol=1e-2)


@pytest.mark.parametrize(
    ("L", "complex_image", "complex_response"),
    [
        (pylops.MatrixMult(np.random.default_rng(0).normal(size=(3, 4))), False, False),
        (pylops.FirstDerivative((5, 4), axis=0), False, False),
        (pylops.Restriction((6,), [1, 3, 4]), False, False),
        (pylops.Identity(5), False, False),
        (pylops.signalprocessing.FFT2D((6, 5), real=True), False, True),
        (pylops.signalprocessing.FFT2D((6, 5), dtype=np.complex128), True, True),
    ],
    ids=["matrix", "derivative", "restriction", "identity", "real FFT", "complex FFT"],
)
def test_pylops_operators_become_ours(L: pylops.LinearOperator, complex_image: bool, complex_response: bool) -> None:
    A = from_pylops(L)
    assert (A.in_is_complex, A.out_is_complex) == (complex_image, complex_response)
    assert A.in_shape == tuple(L.dims) and A.out_shape == tuple(L.dimsd)
    check_contract(A)
    np.testing.assert_allclose(A(image(A)), L @ image(A).numpy(), atol=1e-12)
    check_contract(from_pylops(L, in_is_complex=False))


def test_pylops_and_back() -> None:
    A = gaussian().double()
    torch.testing.assert_close(from_pylops(to_pylops(A))(image(A)), A(image(A)))


# deepinv.


@pytest.mark.parametrize("kind", ["gaussian", "fourier", "identity", "mask"])
def test_deepinv_agrees_that_our_adjoint_is_one(kind: str) -> None:
    A = KINDS[kind]()
    physics = to_deepinv(A)
    x = image(A, (3,), dtype=torch.float32)
    assert torch.equal(physics(x), A(x))
    assert torch.equal(physics.A_adjoint(A(x)), A.adjoint(A(x)))
    if not A.out_is_complex:  # its test draws complex images for complex measurements
        assert abs(float(physics.adjointness_test(x))) <= 1e-4
    torch.testing.assert_close(physics.A_dagger(A(x)), A.pinv(A(x)), rtol=0, atol=1e-3)


def test_deepinv_moves_and_copies_our_operator() -> None:
    physics = to_deepinv(gaussian()).double()
    assert physics.A(image(gaussian(), (1,))).dtype == torch.float64
    assert not physics.state_dict()


@pytest.mark.parametrize("kind", ["gaussian", "fourier"])
def test_deepinv_proximal_gradient_finds_a_sparse_image_with_our_operators(kind: str) -> None:
    A = {"gaussian": Gaussian((1, 8, 8), 40, seed=1), "fourier": SubsampledFourier((1, 8, 8), 44, seed=1)}[kind]
    x = torch.zeros(1, 1, 8, 8)
    x[..., 1, 2], x[..., 5, 5], x[..., 6, 0] = 1.0, 0.8, -0.5
    solver = deepinv.optim.FISTA(
        data_fidelity=deepinv.optim.L2(),
        prior=deepinv.optim.L1Prior(),
        stepsize=0.9 / A.norm() ** 2,
        lambda_reg=1e-3,
        max_iter=600,
    )
    found = solver(A(x), to_deepinv(A))
    torch.testing.assert_close(found, x, rtol=0, atol=1e-2)


def physics_of(kind: str) -> tuple[deepinv.physics.LinearPhysics, tuple[int, ...]]:
    rng = torch.Generator().manual_seed(0)
    if kind == "compressed sensing":
        return deepinv.physics.CompressedSensing(m=9, img_size=(1, 4, 5), rng=rng), (1, 4, 5)
    if kind == "inpainting":
        return deepinv.physics.Inpainting((2, 5, 4), mask=0.5, rng=rng), (2, 5, 4)
    if kind == "MRI":
        return deepinv.physics.MRI(mask=torch.rand(1, 2, 6, 5, generator=rng).round(), img_size=(2, 6, 5)), (2, 6, 5)
    return deepinv.physics.Blur(torch.rand(1, 1, 3, 3, generator=rng), padding="circular"), (2, 6, 5)


@pytest.mark.parametrize("kind", ["compressed sensing", "inpainting", "MRI", "blur"])
def test_deepinv_physics_become_ours(kind: str) -> None:
    physics, shape = physics_of(kind)
    A = from_deepinv(physics, shape)
    check_contract(A, torch.float32)
    x = image(A, (3,), dtype=torch.float32)
    torch.testing.assert_close(A(x), physics.A(x))
    torch.testing.assert_close(
        (Gaussian(A.out_shape, 4, seed=0) @ A)(x), Gaussian(A.out_shape, 4, seed=0)(physics.A(x))
    )


def test_deepinv_and_back() -> None:
    A = fourier()
    B = from_deepinv(to_deepinv(A), SHAPE)
    assert B.out_is_complex and B.out_shape == A.out_shape
    check_contract(B, torch.float32)
    assert torch.equal(B(image(A, dtype=torch.float32)), A(image(A, dtype=torch.float32)))


# Bad input.


def two_parts(x: Tensor, **_: object) -> deepinv.utils.TensorList:
    return deepinv.utils.TensorList([x, x])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: from_scipy(np.eye(3)), "a scipy.sparse.linalg.LinearOperator, got ndarray; try .*aslinearoperator"),
        (
            lambda: from_scipy(aslinearoperator(np.eye(3)), (2, 2)),
            r"shape \(3, 3\) does not map images of shape \(2, 2\)",
        ),
        (lambda: from_scipy(aslinearoperator(np.eye(3)), (3, 0)), "in_shape must be"),
        (lambda: from_scipy(aslinearoperator(np.eye(3)), in_is_complex=True), "float64 takes real images only"),
        (lambda: from_pylops(aslinearoperator(np.eye(3))), "from_pylops expects a pylops.LinearOperator"),
        (lambda: from_deepinv(torch.nn.Identity(), SHAPE), "a deepinv LinearPhysics, got Identity"),
        (
            lambda: from_deepinv(physics_of("compressed sensing")[0], (1, 4, 4)),
            r"CompressedSensing cannot measure images of shape \(1, 4, 4\)",
        ),
        (lambda: from_deepinv(deepinv.physics.LinearPhysics(A=two_parts), SHAPE), "gives a TensorList, expected one"),
        (lambda: from_scipy(SciPyOperator((2, 2), matvec=abs)).recipe(), "has no recipe"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make()  # type: ignore[operator]
    assert_one_sentence(caught.value)


@pytest.mark.parametrize(
    ("convert", "package"),
    [
        (to_pylops, "pylops"),
        (from_pylops, "pylops"),
        (to_deepinv, "deepinv"),
        (lambda A: from_deepinv(A, SHAPE), "deepinv"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    convert: object, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name == package or name.startswith(f"{package}."):
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=rf"which is not installed; try pip install 'cs-lip\[{package}\]'") as caught:
        convert(Identity(SHAPE))  # type: ignore[operator]
    assert_one_sentence(caught.value)
