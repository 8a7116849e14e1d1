"""Classical solvers: their minimisers against other libraries, their choices by held-out measurements alone."""

import json
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.restoration import denoise_tv_chambolle
from sklearn.linear_model import Lasso as SklearnLasso
from torch import Tensor

from cs_lip.operators import Gaussian, Identity, LinearOperator, MatrixOperator, SubsampledDCT, SubsampledFourier
from cs_lip.recovery import Record, Recovery, Solver, Status, pose, recover
from cs_lip.recovery.baselines import Lasso, OrthogonalMatchingPursuit, TotalVariation
from cs_lip.recovery.baselines.descent import Descent, Watch
from cs_lip.recovery.baselines.frame import Array, as_array, held_out_error, held_out_splits
from cs_lip.recovery.baselines.omp import pursue
from cs_lip.recovery.baselines.path import PenalisedLeastSquares
from cs_lip.recovery.baselines.sparsity import sparsifying
from cs_lip.recovery.baselines.vectorial_tv import VectorialTV
from cs_lip.recovery.fidelity import L1, Fidelity
from cs_lip.recovery.problem import Problem
from cs_lip.recovery.trace import Trace

SHAPE = (3, 16, 16)
QUICK = {"levels": 8, "iterations": 15, "final_iterations": 30, "tolerance": 1e-3}
"""Settings for tests of behaviour, where the last tenth of a decibel does not matter."""

PENALISED: list[PenalisedLeastSquares] = [
    Lasso(**QUICK),  # type: ignore[arg-type]
    Lasso(**QUICK, transform="wavelet"),  # type: ignore[arg-type]
    TotalVariation(**QUICK),  # type: ignore[arg-type]
]
SOLVERS: list[Solver] = [*PENALISED, OrthogonalMatchingPursuit(most_columns=60)]
BRIEF: list[Solver] = [
    *(replace(solver, levels=3, iterations=4, final_iterations=4) for solver in PENALISED),
    SOLVERS[3],
]
IDS = ["lasso-dct", "lasso-wavelet", "tv", "omp"]


def picture(shape: tuple[int, ...] = SHAPE) -> Tensor:
    """A bright box and a dark stripe on a slope of colour, ``(1, *shape)``."""
    channels, height, width = shape
    slope = (
        torch.linspace(0.2, 0.5, width).expand(channels, height, width)
        * torch.linspace(1, 0.6, channels)[:, None, None]
    )
    image = slope.clone()
    image[:, height // 4 : height // 2, width // 4 : 3 * width // 4] = 0.9
    image[0, 3 * height // 4 : 3 * height // 4 + 2] = 0.1
    return image[None]


def measured(A: LinearOperator, x: Tensor, noise: float = 0.01) -> Tensor:
    y = A(x)
    return y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)


def minimised(
    solver: PenalisedLeastSquares, problem: Problem, level: float, iterations: int = 3000
) -> tuple[Descent, Array]:
    norm = 1.01 * problem.operator.norm() ** 2
    descent = solver.descent(problem, norm)
    watch = Watch(Trace(problem, None, None), "test", 0)
    return descent, descent.minimise(level, np.zeros_like(descent.correlation), iterations, 1e-7, watch).coefficients


def psnr(recovery: Recovery, truth: Tensor) -> float:
    return float(-10 * (recovery.images - truth).square().mean().log10())


@pytest.mark.parametrize("transform", ["dct", "wavelet"])
def test_the_lasso_finds_the_minimiser_of_scikit_learn(transform: str) -> None:
    shape, m = (1, 8, 8), 40
    A = Gaussian(shape, m=m, seed=0)
    problem = pose(A, measured(A, picture(shape)))
    W, sparse = sparsifying(transform, shape)  # type: ignore[arg-type]
    descent, c = minimised(Lasso(transform=transform), problem, 0.05)  # type: ignore[arg-type]
    matrix = np.stack([descent.measure(unit) for unit in np.eye(W.shape[0], dtype=np.float32)], 1).astype(np.float64)
    y = as_array(problem.measurements).astype(np.float64)
    # Theirs penalises every column: those that cost nothing are projected out, and fitted to what is left.
    free, rest = matrix[:, sparse == 0], matrix[:, sparse == 1]
    without = np.eye(m) - free @ np.linalg.pinv(free)
    theirs = SklearnLasso(alpha=0.05 / m, fit_intercept=False, tol=1e-10, max_iter=100_000).fit(
        without @ rest, without @ y
    )
    np.testing.assert_allclose(c[sparse == 1], theirs.coef_, atol=2e-3)
    np.testing.assert_allclose(c[sparse == 0], np.linalg.pinv(free) @ (y - rest @ theirs.coef_), atol=2e-3)
    assert 0 < np.count_nonzero(theirs.coef_) < m


@pytest.mark.parametrize(("transform", "complex_measurements"), [("dct", True), ("wavelet", False)])
def test_the_lasso_meets_its_optimality_conditions(transform: str, complex_measurements: bool) -> None:
    shape = (3, 8, 8)
    A = SubsampledFourier(shape, m=80, seed=0) if complex_measurements else Gaussian(shape, m=80, seed=0)
    problem = pose(A, A(picture(shape)))
    level = 0.02 * problem.gain
    descent, c = minimised(Lasso(transform=transform), problem, level)  # type: ignore[arg-type]
    correlated = descent.adjoint(as_array(problem.measurements) - descent.measure(c))
    slack = 3e-2 * level
    assert np.abs(correlated[descent.penalised == 0]).max() < slack
    assert np.abs(correlated[descent.penalised == 1]).max() < level + slack
    active = (c != 0) & (descent.penalised == 1)
    assert active.any()
    np.testing.assert_allclose(correlated[active], level * np.sign(c[active]), atol=slack)


def test_total_variation_of_the_identity_is_the_denoising_of_scikit_image() -> None:
    shape, level = (1, 16, 16), 0.1
    noisy = picture(shape) + 0.1 * torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    descent, x = minimised(TotalVariation(), pose(Identity(shape), noisy), level, iterations=60)
    theirs = denoise_tv_chambolle(noisy[0, 0].double().numpy(), weight=level, eps=1e-12, max_num_iter=20_000)
    np.testing.assert_allclose(descent.image(x)[0].numpy(), theirs, atol=2e-3)


def test_total_variation_is_that_of_all_channels_together() -> None:
    x = picture()[0].numpy()
    down, right = np.zeros_like(x), np.zeros_like(x)
    down[:, :-1], right[:, :, :-1] = np.diff(x, axis=1), np.diff(x, axis=2)
    expected = np.sqrt((down**2 + right**2).sum(0)).sum()
    assert VectorialTV(SHAPE, 2.0)(x.ravel()) == pytest.approx(2 * expected, rel=1e-5)


@given(st.integers(0, 2**31), st.floats(0.01, 1.0))
@settings(max_examples=8, deadline=None)
def test_the_proximal_operator_of_total_variation_beats_every_neighbour(seed: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    shape = (2, 6, 5)
    x = rng.random(shape, dtype=np.float32).ravel()
    tv = VectorialTV(shape, level)
    for _ in range(40):  # each call goes on from the dual variable of the one before
        u = tv.prox(x, 1.0)

    def objective(v: Array) -> float:
        return float(0.5 * np.square(v - x, dtype=np.float64).sum()) + tv(v)

    others = [
        u + scale * rng.standard_normal(u.shape, dtype=np.float32) for scale in (0.3, 0.1, 0.03) for _ in range(5)
    ]
    assert all(objective(u) <= objective(other) + 1e-5 for other in [x, np.full_like(x, x.mean()), *others])


@given(st.sampled_from(["dct", "wavelet"]), st.integers(1, 4), st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=15, deadline=None)
def test_the_transforms_lose_nothing_at_any_size(transform: str, channels: int, height: int, width: int) -> None:
    shape = channels, height, width
    W, sparse = sparsifying(transform, shape)  # type: ignore[arg-type]
    x = np.random.default_rng(0).random(channels * height * width, dtype=np.float32)
    c = W.matvec(x)
    assert c.dtype == np.float32 and sparse.shape == c.shape
    np.testing.assert_allclose(W.rmatvec(c), x, atol=1e-5)
    assert np.linalg.norm(c) == pytest.approx(np.linalg.norm(x), rel=1e-5)
    other = np.random.default_rng(1).random(c.size, dtype=np.float32)
    assert np.dot(c, other) == pytest.approx(np.dot(x, W.rmatvec(other)), rel=1e-4, abs=1e-4)


def test_orthogonal_matching_pursuit_recovers_few_cosines_exactly() -> None:
    W, _ = sparsifying("dct", SHAPE)
    c = np.zeros(W.shape[0], np.float32)
    c[[0, 3, 40, 300, 517]] = 14, 0.8, -0.6, 0.5, -0.4  # small enough beside the mean for [0, 1]
    x = torch.from_numpy(W.rmatvec(c)).reshape(1, *SHAPE)
    assert x.min() >= 0 and x.max() <= 1
    A = Gaussian(SHAPE, m=120, seed=3)
    found = recover(A, A(x), solver=OrthogonalMatchingPursuit())
    torch.testing.assert_close(found.images, x, atol=1e-4, rtol=0)
    assert found.status == (Status.CONVERGED,)
    assert found.notes[0]["columns"] >= 5


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
def test_a_pursuit_finds_columns_whatever_the_units(scale: float) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((60, 100), dtype=np.float32) * rng.uniform(0.7, 1, 100).astype(np.float32)
    matrix[:, 7] = 0  # a pixel that nothing measures
    truth = np.zeros(100, np.float32)
    truth[[3, 50, 99]] = 1, -2, 3
    path = pursue(matrix, np.float32(scale) * (matrix @ truth), 10)
    np.testing.assert_allclose(path[:, -1], scale * truth, atol=scale * 1e-3)
    assert [np.count_nonzero(column) for column in path.T[:3]] == [1, 2, 3]


@pytest.mark.parametrize("solver", SOLVERS, ids=IDS)
def test_they_beat_least_squares_and_say_what_they_chose(solver: Solver) -> None:
    A = Gaussian(SHAPE, m=300, seed=0)
    x = picture()
    found = recover(A, measured(A, x), solver=solver, noise=0.01)
    least_squares = A.pinv(measured(A, x)).clamp(0, 1)
    assert psnr(found, x) > float(-10 * (least_squares - x).square().mean().log10()) + 3
    assert found.images.min() >= 0 and found.images.max() <= 1
    assert found.latents is None
    assert found.status[0] in (Status.CONVERGED, Status.STOPPED, Status.MAX_ITERATIONS)
    json.dumps([found.notes, found.configuration])
    assert ("columns" if isinstance(solver, OrthogonalMatchingPursuit) else "lambda") in found.notes[0]


@pytest.mark.parametrize("solver", [PENALISED[0], PENALISED[2]], ids=["lasso-dct", "tv"])
def test_complex_measurements_of_pictures_are_as_welcome(solver: Solver) -> None:
    A, x = SubsampledFourier(SHAPE, m=300, seed=0, pattern="centre"), picture()
    y = measured(A, x)
    least_squares = A.pinv(y).clamp(0, 1)
    assert psnr(recover(A, y, solver=solver), x) > float(-10 * (least_squares - x).square().mean().log10()) + 0.5


@pytest.mark.parametrize("solver", PENALISED, ids=IDS[:3])
def test_the_held_out_measurements_choose_almost_as_well_as_the_truth_would(solver: PenalisedLeastSquares) -> None:
    x = picture()
    A = Gaussian(SHAPE, m=400, seed=0)
    y = measured(A, x)
    found = recover(A, y, solver=solver, noise=0.01)
    highest = max(found.notes[0]["lambdas"])
    errors = []
    for step in range(3, 8):
        descent, c = minimised(solver, pose(A, y), highest * 0.5**step, iterations=30)
        errors.append(float((descent.image(c).clamp(0, 1) - x[0]).square().mean()))
    assert psnr(found, x) > -10 * np.log10(min(errors)) - 0.7


def test_the_held_out_error_is_that_of_the_rows_that_took_no_part() -> None:
    A = Gaussian(SHAPE, m=60, seed=0)
    problem = pose(A, measured(A, picture()))
    splits = held_out_splits(problem, 0)
    assert [(kept.m, out.m) for kept, out in splits] == [(50, 10)] * 5
    _, out = splits[0]
    assert out.rows is not None
    guess = torch.full(SHAPE, 0.4)
    expected = (A(guess[None]) - problem.measurements)[0, out.rows].square().mean()
    assert held_out_error(out, guess) == pytest.approx(float(expected), rel=1e-5)
    assert len(held_out_splits(pose(Gaussian(SHAPE, m=760, seed=0), torch.zeros(760)), 0)) == 2


@pytest.mark.parametrize("solver", BRIEF, ids=IDS)
def test_one_seed_gives_one_result_for_each_image_whatever_the_batch(solver: Solver) -> None:
    A = Gaussian(SHAPE, m=100, seed=0)
    y = measured(A, torch.cat([picture(), picture().flip(3)]))
    state = torch.get_rng_state()
    both, again, first = recover(A, y, solver=solver), recover(A, y, solver=solver), recover(A, y[:1], solver=solver)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(both.images, again.images) and both.notes == again.notes
    torch.testing.assert_close(both.images[:1], first.images, atol=1e-3, rtol=0)
    assert both.notes[0].keys() == first.notes[0].keys()


@pytest.mark.parametrize("solver", BRIEF, ids=IDS)
@pytest.mark.parametrize("m", [1, 19, 20])
def test_few_measurements_are_enough_to_answer(solver: Solver, m: int) -> None:
    A = Gaussian((1, 8, 8), m=m, seed=0)
    found = recover(A, measured(A, picture((1, 8, 8))), solver=solver, noise=0.01)
    assert torch.isfinite(found.images).all()


def test_too_few_measurements_to_hold_any_out_are_explained_down_to_the_noise() -> None:
    A = Gaussian((1, 8, 8), m=19, seed=0)
    found = recover(A, measured(A, picture((1, 8, 8)), noise=0.03), solver=TotalVariation(), noise=0.03)
    assert found.notes[0]["held_out_errors"] == []
    assert found.status == (Status.CONVERGED,)
    assert found.relative_residual[0] > 1e-3


@pytest.mark.parametrize("solver", BRIEF, ids=IDS)
def test_measurements_of_nothing_give_nothing(solver: Solver) -> None:
    found = recover(Gaussian(SHAPE, m=50, seed=0), torch.zeros(1, 50), solver=solver)
    assert torch.equal(found.images, torch.zeros(1, *SHAPE))
    assert found.status == (Status.CONVERGED,)


@pytest.mark.parametrize("solver", BRIEF, ids=IDS)
def test_a_wild_image_leaves_the_others_alone(solver: Solver) -> None:
    A = Gaussian(SHAPE, 200, seed=1)
    y = A(torch.cat([picture(), picture()])) * torch.tensor([[1e25], [1.0]])
    found = recover(A, y, None, solver=solver)
    assert found.status[0] is Status.DIVERGED and found.status[1] is not Status.DIVERGED
    assert torch.isfinite(found.images).all()
    torch.testing.assert_close(found.images[1:], recover(A, y[1:], None, solver=solver).images)


@pytest.mark.parametrize("solver", BRIEF, ids=IDS)
def test_units_of_the_operator_do_not_matter(solver: Solver) -> None:
    A = Gaussian(SHAPE, m=150, seed=0)
    y = measured(A, picture())
    images = [recover(scale * A, scale * y, solver=solver).images for scale in (1.0, 1024.0)]
    torch.testing.assert_close(images[0], images[1], atol=1e-3, rtol=0)


@pytest.mark.parametrize("solver", PENALISED, ids=IDS[:3])
def test_who_has_had_enough_gets_the_best_so_far(solver: PenalisedLeastSquares) -> None:
    A = Gaussian(SHAPE, m=150, seed=0)
    records: list[Record] = []
    y = measured(A, picture())
    found = recover(A, y, solver=solver, progress=records.append, cancel=lambda: len(records) >= 30)
    assert found.status == (Status.INTERRUPTED,)
    assert 30 <= len(records) < 45
    assert found.relative_residual[0] < 1
    finished = recover(A, y, solver=solver)
    assert [record.iteration for record in finished.history if record.phase == "final"][:2] == [1, 2]
    assert all(0 <= record.relative_residual[0] <= 1.01 for record in finished.history)


def test_a_pursuit_that_is_cancelled_ends_after_the_next_run() -> None:
    A = Gaussian(SHAPE, m=150, seed=0)
    found = recover(A, measured(A, picture()), solver=OrthogonalMatchingPursuit(), cancel=lambda: True)
    assert found.status == (Status.INTERRUPTED,)
    assert len(found.history) == 2


@pytest.mark.parametrize("solver", PENALISED, ids=IDS[:3])
def test_pictures_of_256x256_need_no_matrix(solver: PenalisedLeastSquares) -> None:
    shape = (3, 256, 256)
    A = SubsampledDCT(shape, m=40_000, seed=0)
    x = picture(shape)
    tracemalloc.start()
    found = recover(A, A(x), solver=replace(solver, levels=2, iterations=2, final_iterations=2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**27  # NumPy's; the matrix would take 31 GB
    assert found.images.shape == (1, *shape)
    assert found.relative_residual[0] < 0.9


@pytest.mark.parametrize("solver", SOLVERS, ids=IDS)
def test_what_they_do_not_take_is_refused_in_one_sentence(solver: Solver) -> None:
    A = Gaussian(SHAPE, m=100, seed=0)
    flat = MatrixOperator(torch.ones(30, 16))
    of_complex = MatrixOperator(torch.ones(30, 16), (1, 4, 4), in_is_complex=True)
    refused: list[tuple[LinearOperator, Tensor, Fidelity | None, str]] = [
        (flat, torch.ones(1, 30), None, "channels, height, width"),
        (of_complex, torch.ones(1, 30, dtype=torch.complex64), None, "complex"),
        (A, torch.ones(1, 100), L1(), "fidelity L1"),
    ]
    for operator, y, fidelity, words in refused:
        with pytest.raises(ValueError, match=words) as error:
            recover(operator, y, solver=solver, fidelity=fidelity)
        assert_one_sentence(error.value)


def test_a_matrix_too_large_or_a_transform_unknown_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="16384") as error:
        recover(SubsampledDCT((1, 256, 256), m=100, seed=0), torch.ones(1, 100), solver=OrthogonalMatchingPursuit())
    assert_one_sentence(error.value)
    with pytest.raises(ValueError, match="'haar'") as error:
        recover(Gaussian(SHAPE, m=50, seed=0), torch.ones(1, 50), solver=Lasso(transform="haar"))  # type: ignore[arg-type]
    assert_one_sentence(error.value)


def test_the_libraries_load_where_they_are_needed() -> None:
    code = (
        "import sys, cs_lip.recovery, cs_lip.recovery.baselines; "
        "print([name for name in ('pylops', 'pyproximal', 'pywt', 'sklearn') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
