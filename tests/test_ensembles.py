"""Random matrices: their distributions, the two storages, and the sparse ones, against scipy."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from helpers import assert_one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs_lip.operators import Gaussian, LinearOperator, LogNormal, Rademacher, SparseRandom, StudentT
from cs_lip.operators.ensembles import RandomMatrix

Make = Callable[..., RandomMatrix]

ENSEMBLES: dict[str, Make] = {
    "gaussian": Gaussian,
    "rademacher": Rademacher,
    "student t": lambda *args, **options: StudentT(*args, degrees_of_freedom=4.5, **options),
    "log-normal": lambda *args, **options: LogNormal(*args, sigma=0.8, **options),
}
EVERY_ENSEMBLE = pytest.mark.parametrize("make", ENSEMBLES.values(), ids=list(ENSEMBLES))


def sparse(m: int = 7, d: int = 3, n: int = 40, seed: int = 1, normalisation: str = "1/m") -> SparseRandom:
    return SparseRandom((n,), m, seed=seed, nonzeros_per_column=d, normalisation=normalisation)


def columns(A: LinearOperator, dtype: torch.dtype = torch.float32) -> Tensor:
    """The matrix of A, (m, n), with the numbers it has: a product with the identity adds nothing but zeros."""
    return A(torch.eye(A.n, dtype=dtype).reshape(A.n, *A.in_shape)).T


# Distributions.


@pytest.mark.parametrize(
    ("make", "entry"),
    [
        (lambda **options: Gaussian((500,), 160, seed=3, **options), scipy.stats.norm()),
        (
            lambda **options: StudentT((500,), 160, seed=3, degrees_of_freedom=2.5, **options),
            scipy.stats.t(2.5, scale=(0.5 / 2.5) ** 0.5),
        ),
        (
            lambda **options: StudentT((500,), 160, seed=3, degrees_of_freedom=30, **options),
            scipy.stats.t(30, scale=(28 / 30) ** 0.5),
        ),
        (
            lambda **options: LogNormal((500,), 160, seed=3, sigma=1.5, **options),
            scipy.stats.lognorm(1.5, loc=-1 / np.expm1(2.25) ** 0.5, scale=1 / (np.exp(2.25) * np.expm1(2.25)) ** 0.5),
        ),
    ],
    ids=["gaussian", "t, 2.5", "t, 30", "log-normal"],
)
@pytest.mark.parametrize("normalisation", ["1/m", "1"])
def test_entries_have_the_distribution(make: Make, entry: object, normalisation: str) -> None:
    A = make(normalisation=normalisation)
    entries = A.matrix.double().flatten().numpy() * (A.m**0.5 if normalisation == "1/m" else 1)
    assert abs(entry.mean()) < 1e-12 and abs(entry.var() - 1) < 1e-12  # the oracle is centred and of variance 1
    assert scipy.stats.kstest(entries, entry.cdf).pvalue > 1e-3


@pytest.mark.parametrize("normalisation", ["1/m", "1"])
def test_rademacher_entries_are_fair_signs(normalisation: str) -> None:
    m, n = 50, 801
    matrix = Rademacher((n,), m, seed=0, normalisation=normalisation).matrix
    expected = np.float32(1 / np.sqrt(m)) if normalisation == "1/m" else 1.0
    assert (matrix.abs() == float(expected)).all()
    signs = matrix.sign()
    assert abs(signs.mean()) < 5 / (m * n) ** 0.5
    assert (torch.corrcoef(signs) - torch.eye(m)).abs().max() < 6 / n**0.5


@EVERY_ENSEMBLE
def test_rows_do_not_correlate(make: Make) -> None:
    matrix = make((4000,), 40, seed=2).matrix
    assert (torch.corrcoef(matrix) - torch.eye(40)).abs().max() < 8 / 4000**0.5


@pytest.mark.parametrize("normalisation", ["1/m", "1"])
@pytest.mark.parametrize(
    "make",
    [*ENSEMBLES.values(), lambda *a, **o: SparseRandom(*a, nonzeros_per_column=2, **o)],
    ids=[*ENSEMBLES, "sparse"],
)
def test_energy_is_kept_on_average(make: Callable[..., LinearOperator], normalisation: str) -> None:
    x = torch.randn(30, generator=torch.Generator().manual_seed(0))
    ratios = [make((30,), 6, seed=seed, normalisation=normalisation)(x).square().sum() for seed in range(300)]
    ratios = torch.stack(ratios) / x.square().sum() / (6 if normalisation == "1" else 1)
    assert abs(ratios.mean() - 1) < 5 * ratios.std() / 300**0.5


@EVERY_ENSEMBLE
def test_seeds_and_kinds_differ_and_few_rows_are_the_first(make: Make) -> None:
    many, few = (make((7, 3), m, seed=4, normalisation="1").matrix for m in (21, 18))
    assert torch.equal(many[:18], few)
    assert not torch.isclose(many, make((7, 3), 21, seed=5, normalisation="1").matrix).all(1).any()
    others = [kind((7, 3), 21, seed=4, normalisation="1").matrix for kind in ENSEMBLES.values() if kind is not make]
    assert all(abs(np.corrcoef(many.flatten(), other.flatten())[0, 1]) < 0.25 for other in others)


def test_numbers_are_those_of_files_already_written() -> None:
    # If this fails, a recipe no longer rebuilds the operator that a file was measured with: raise the recipe's format.
    unit = {"seed": 0, "normalisation": "1"}
    assert Rademacher((4,), 2, **unit).matrix.tolist() == [[1, 1, -1, -1], [-1, -1, -1, -1]]
    t_row = [-0.19381162524223328, -0.33190321922302246, -2.3542063236236572, 0.10976541042327881]
    assert StudentT((4,), 1, degrees_of_freedom=4, **unit).matrix.tolist() == [t_row]
    log_row = [-0.6257479190826416, -0.6782917976379395, 0.6313294172286987, 0.7620977163314819]
    torch.testing.assert_close(LogNormal((4,), 1, sigma=1.0, **unit).matrix, torch.tensor([log_row]))
    signs = columns(sparse(m=4, d=2, n=6, seed=0)).sign()
    assert signs.tolist() == [[0, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [1, 0, -1, 1, -1, -1], [-1, 0, 0, -1, -1, 1]]


# Storage.


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(list(ENSEMBLES)),
    st.lists(st.integers(1, 11), min_size=1, max_size=3),
    st.data(),
    st.integers(0, 2**63 - 1),
    st.integers(1, 3),
)
def test_storages_have_the_same_numbers(
    kind: str, shape: list[int], data: st.DataObject, seed: int, threads: int
) -> None:
    m = data.draw(st.integers(1, int(np.prod(shape))))
    dense, again = (ENSEMBLES[kind](shape, m, seed=seed, storage=storage) for storage in ("dense", "regenerated"))
    assert again.matrix is None and again.recipe() == dense.recipe()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.equal(columns(again), dense.matrix)
        assert torch.equal(again.adjoint(torch.eye(m)).reshape(m, -1), dense.matrix)
        assert torch.equal(columns(again, torch.float64), dense.matrix.double())
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("batch", [(), (1,), (5,), (2, 4), (32,), (33,), (0,)])
def test_storages_agree_for_every_batch(batch: tuple[int, ...]) -> None:
    dense, again = (Gaussian((6, 7), 40, seed=0, storage=storage) for storage in ("dense", "regenerated"))
    x, y = torch.randn(*batch, 6, 7), torch.randn(*batch, 40)
    expected = torch.einsum("mn,...n->...m", dense.matrix.double(), x.flatten(-2).double()).float()
    for A in (dense, again):
        torch.testing.assert_close(A(x), expected, rtol=1e-5, atol=1e-5)
        assert A(x).is_contiguous() and A.adjoint(y).shape == x.shape
    torch.testing.assert_close(again.adjoint(y), dense.adjoint(y), rtol=1e-5, atol=1e-5)


def test_large_matrices_are_regenerated_by_default() -> None:
    A = Gaussian((3, 256, 256), 10_000, seed=0)  # 7.3 GiB
    assert A.storage == "regenerated" and Gaussian((3, 8, 8), 10, seed=0).storage == "dense"
    assert len(pickle.dumps(A)) < 10_000


def test_parts_fit_into_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Rademacher((30,), 30, seed=0, storage="regenerated")
    monkeypatch.setattr("cs_lip.operators.ensembles.LARGEST_BUFFER", 1)  # one block at a time is the least
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert [(rows.start, len(part)) for rows, part in whole._parts()] == [(0, 16), (16, 14)]
    finally:
        torch.set_num_threads(before)


# Sparse.


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.data(), st.sampled_from(["1/m", "1"]), st.integers(0, 2**63 - 1))
def test_sparse_columns_have_d_entries(n: int, data: st.DataObject, normalisation: str, seed: int) -> None:
    m = data.draw(st.integers(1, n))
    d = data.draw(st.integers(1, m))
    A = sparse(m, d, n, seed, normalisation).double()
    matrix = columns(A, torch.float64)
    assert (matrix.count_nonzero(dim=0) == d).all()
    value = (1 / d if normalisation == "1/m" else m / d) ** 0.5
    torch.testing.assert_close(matrix.abs().unique()[-1].item(), value)
    torch.testing.assert_close(matrix.square().sum(0), torch.full((n,), d * value**2, dtype=torch.float64))
    torch.testing.assert_close(A.adjoint(torch.eye(m, dtype=torch.float64)), matrix, rtol=0, atol=1e-14)


def test_sparse_rows_are_uniform_and_signs_fair() -> None:
    m, d, n = 12, 5, 4000
    matrix = columns(sparse(m, d, n))
    hits = matrix.count_nonzero(dim=1).double()
    # The variance of a count is n (d / m) (1 - d / m), and counts sum to n d.
    chi2 = ((hits - n * d / m).square() / (n * d / m * (1 - d / m))).sum() * (m - 1) / m
    assert chi2 < scipy.stats.chi2(m - 1).ppf(0.9999)
    assert abs(matrix.sign().sum()) < 5 * (n * d) ** 0.5
    together = (matrix != 0).double() @ (matrix != 0).double().T / n
    pairs = together[~torch.eye(m, dtype=torch.bool)]
    assert (pairs - d * (d - 1) / (m * (m - 1))).abs().max() < 5 * (0.16 / n) ** 0.5


def test_sparse_seeds_differ() -> None:
    assert not torch.equal(columns(sparse(seed=1)), columns(sparse(seed=2)))


# Bad input.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian((4,), 2, seed=0, storage="sparse"), "storage must be 'dense', 'regenerated' or None"),
        (lambda: Rademacher((4,), 2, seed=0, normalisation="n"), "normalisation must be '1/m' or '1', got 'n'"),
        (lambda: Rademacher((4,), 5, seed=0), "m must be an integer from 1 to n = 4"),
        (lambda: Rademacher((4,), 2, seed=0.5), "the seed must be an integer"),
        (lambda: Gaussian((2**31,), 2**31, seed=0, storage="dense"), "GiB, which could not be reserved; try storage="),
        (lambda: StudentT((4,), 2, seed=0, degrees_of_freedom=2), "must be a number above 2 .* got 2; try 4"),
        (lambda: StudentT((4,), 2, seed=0, degrees_of_freedom=float("nan")), "got nan"),
        (lambda: StudentT((4,), 2, seed=0, degrees_of_freedom="4"), "got '4'"),
        (lambda: LogNormal((4,), 2, seed=0, sigma=0), "sigma must be a number from 0.01 .* got 0; try 1"),
        (lambda: LogNormal((4,), 2, seed=0, sigma=True), "got True"),
        (lambda: LogNormal((4,), 2, seed=0, sigma=float("inf")), "got inf"),
        (lambda: sparse(d=0), "nonzeros_per_column must be an integer from 1 to 7, got 0; try 7"),
        (lambda: sparse(d=8), "got 8; try 7"),
        (lambda: sparse(d=2.0), "got 2.0"),  # type: ignore[arg-type]
        (lambda: sparse(normalisation="d"), "normalisation must be"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert_one_sentence(caught.value)
