"""Latent search: the problem against autograd and closed forms, the solvers on images that they can and cannot draw."""

import copy
import json
import math
import random
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from helpers import LinearGenerator, assert_one_sentence, tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cs_lip.operators import Gaussian, LinearOperator, Mask, SubsampledFourier
from cs_lip.priors import DEFAULT_GENERATOR, Generator, load_generator
from cs_lip.recovery import (
    DEFAULT_SOLVER,
    LBFGS,
    Adam,
    Candidates,
    LatentProblem,
    LatentSearch,
    LevenbergMarquardt,
    Record,
    Recovery,
    Round,
    Solver,
    Status,
    pose,
    pose_latents,
    recover,
)
from cs_lip.recovery.problem import mean_gain
from cs_lip.recovery.stopping import NOISELESS_RESIDUAL, discrepancy_target
from cs_lip.recovery.trace import Trace
from cs_lip.seeding import stream

SHAPE = (3, 16, 16)
M = 60

# Presets that take too long here stand back behind the same solver with fewer steps.
QUICK: dict[str, Solver] = {
    "latent-search": LatentSearch(),
    "csgm": Adam(steps=300, learning_rate=0.1, decay=False),
    "adam": Adam(steps=300),
    "lbfgs": LBFGS(iterations=60, restarts=2),
    "levenberg-marquardt": LevenbergMarquardt(),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small lose more to handing work between threads than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def operators() -> dict[str, LinearOperator]:
    kept = torch.rand(SHAPE, generator=stream(0, "mask")) < 0.1
    return {
        "gaussian": Gaussian(SHAPE, M, seed=0),
        "fourier": SubsampledFourier(SHAPE, M, seed=0, pattern="centre"),
        "mask": Mask(kept),
    }


def draw(count: int, dtype: torch.dtype = torch.float32) -> tuple[Any, Tensor, Tensor]:
    """The tiny generator, latents and the images that it draws from them."""
    generator = tiny_generator().to(dtype)
    latents = generator.sample_latents(count, generator=stream(0, "data"))
    with torch.no_grad():
        return generator, latents, generator(latents)


def mse(recovery: Recovery, images: Tensor) -> Tensor:
    return (recovery.images - images).square().mean((1, 2, 3))


# The problem


@pytest.fixture(params=["gaussian", "fourier", "mask"])
def double_problem(request: pytest.FixtureRequest) -> LatentProblem:
    """Three images' measurements in double precision, not quite in range, with a penalty that matters."""
    generator, _, images = draw(3, torch.float64)
    operator = operators()[request.param].double()
    measurements = operator(images + 0.1 * torch.rand(images.shape, generator=stream(0, "off"), dtype=torch.float64))
    return pose_latents(pose(operator, measurements), generator, 0.3)


def rows_of(problem: LatentProblem, count: int = 7) -> tuple[Tensor, Tensor]:
    latents = problem.generator.sample_latents(count, generator=stream(1, "rows"))
    return latents, torch.arange(count) % problem.images


def objective_of(problem: LatentProblem, latents: Tensor, which: Tensor) -> Tensor:
    """f(z) row by row, written out as in the paper."""
    values = []
    for latent, image in zip(latents, which.tolist(), strict=True):
        response = problem.problem.operator(problem.generator(latent))
        response = torch.view_as_real(response) if response.is_complex() else response
        residual = response.flatten() - problem.problem.measurements[image]
        values.append(residual.square().sum() / problem.problem.gain + problem.penalty * latent.square().sum())
    return torch.stack(values)


def test_residual_and_objective_are_what_the_formula_says(double_problem: LatentProblem) -> None:
    latents, which = rows_of(double_problem)
    residual = double_problem.residual(latents, which)
    assert residual.shape == (7, double_problem.problem.m)
    objective = double_problem.objective(residual, latents)
    torch.testing.assert_close(objective, objective_of(double_problem, latents, which), rtol=1e-12, atol=0)
    halved = double_problem.objective(residual, latents, 0.15)
    torch.testing.assert_close(objective - halved, 0.15 * latents.square().sum(1))


def test_gradient_against_autograd_and_finite_differences(double_problem: LatentProblem) -> None:
    latents, which = rows_of(double_problem)
    residual, gradient = double_problem.gradient(latents, which)
    assert gradient.shape == latents.shape
    torch.testing.assert_close(residual, double_problem.residual(latents, which))
    point = latents.clone().requires_grad_()
    expected = torch.autograd.grad(objective_of(double_problem, point, which).sum(), point)[0]
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)

    direction = torch.randn(latents.shape, generator=stream(2, "rows"), dtype=torch.float64)
    ahead, behind = (objective_of(double_problem, latents + h * direction, which) for h in (1e-6, -1e-6))
    torch.testing.assert_close((gradient * direction).sum(1), (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-5)
    assert not latents.requires_grad


def test_jacobian_against_autograd(double_problem: LatentProblem) -> None:
    latent = rows_of(double_problem)[0][0]

    def response(z: Tensor) -> Tensor:
        return double_problem.problem.measure(double_problem.generator(z[None]))[0]

    expected = torch.autograd.functional.jacobian(response, latent)
    jacobian = double_problem.linearise(latent)
    assert jacobian.shape == (8, double_problem.problem.m)
    torch.testing.assert_close(jacobian, expected.T, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("fast", [True, False])
def test_coarse_is_close_where_it_is_fast_and_exact_elsewhere(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cs_lip.recovery.latent_problem.has_fast_bfloat16", lambda device: fast)
    generator, latents, images = draw(3)
    operator, which = operators()["gaussian"], torch.arange(3)
    problem = pose_latents(pose(operator, operator(images.flip(0))), generator)
    assert problem.coarse.dtype == (torch.bfloat16 if fast else torch.float32)
    pairs = [
        (problem.linearise(latents[0], coarse=True), problem.linearise(latents[0])),
        *zip(problem.gradient(latents, which, coarse=True), problem.gradient(latents, which), strict=True),
    ]
    for coarse, exact in pairs:
        assert coarse.dtype == torch.float32
        error = float((coarse - exact).norm() / exact.norm())
        assert (0 < error < 0.05) if fast else error == 0
    double = generator.double()
    exact = pose(operator.double(), operator(double(latents.double())))
    assert pose_latents(exact, double).coarse.dtype == torch.float64


def test_chunks_do_not_change_the_result(double_problem: LatentProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    latents, which = rows_of(double_problem)
    whole = (*double_problem.gradient(latents, which), double_problem.linearise(latents[0]))
    monkeypatch.setattr("cs_lip.priors.generator.MOST_ROWS", 3)
    chunked = (*double_problem.gradient(latents, which), double_problem.linearise(latents[0]))
    for one, other in zip(whole, chunked, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["gaussian", "fourier", "mask"])
def test_gain_is_the_mean_square_of_the_singular_values(kind: str) -> None:
    operator = operators()[kind]
    identity = torch.eye(operator.n).reshape(-1, *SHAPE)
    exact = operator(identity).abs().square().sum() / operator.n
    assert mean_gain(operator, identity) == pytest.approx(float(exact), rel=0.2)
    assert mean_gain(8 * operator, identity) == pytest.approx(64 * mean_gain(operator, identity))


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("solver", [LatentSearch(), Adam(steps=30), LBFGS(iterations=20, restarts=2)])
def test_scale_of_the_operator_does_not_matter(noise: float, solver: Solver) -> None:
    generator, _, images = draw(2)
    operator = operators()["gaussian"]
    measurements = operator(images) + noise * torch.randn(2, M, generator=stream(0, "noise"))
    plain = recover(operator, measurements, generator, solver=solver, noise=noise)
    # a power of two makes every rounding error the same
    scaled = recover(8.0 * operator, 8.0 * measurements, generator, solver=solver, noise=8.0 * noise)
    assert torch.equal(plain.latents, scaled.latents)
    assert plain.status == scaled.status
    assert plain.relative_residual == pytest.approx(scaled.relative_residual)


@given(energies=st.lists(st.floats(0, 1e6), min_size=2, max_size=2), noise=st.sampled_from([0.0, 1e-3, 0.1, 10.0]))
@settings(deadline=None, max_examples=50)
def test_relaxed_penalty_falls_with_the_fit_and_stops_at_the_noise(energies: list[float], noise: float) -> None:
    problem = relaxing_problem(noise)

    def relaxed(energy: float) -> float:
        residual = torch.zeros(1, M)
        residual[0, 3] = math.sqrt(energy)
        return problem.relaxed_penalty(residual)

    low, high = map(relaxed, sorted(energies))
    floor = noise**2 / problem.problem.gain
    assert floor <= low <= high <= problem.penalty
    assert relaxed(1e9) == problem.penalty
    assert relaxed(0.0) == floor
    assert replace(problem, relaxes=False).relaxed_penalty(torch.ones(1, M)) == problem.penalty


def relaxing_problem(noise: float) -> LatentProblem:
    generator, _, images = draw(1)
    operator = operators()["gaussian"]
    return pose_latents(pose(operator, operator(images), noise=noise), generator)


def test_given_penalty_is_kept() -> None:
    generator, _, images = draw(1)
    operator = operators()["gaussian"]
    recovery = recover(operator, operator(images), generator, solver=Adam(steps=1), noise=1.0, latent_penalty=0.0)
    assert recovery.configuration["latent_penalty"] == 0.0


# When measurements count as explained


@pytest.mark.parametrize("m", [50, 500])
def test_true_noise_passes_the_discrepancy_principle(m: int) -> None:
    draws, noise = 20_000, 0.3
    residual = noise * torch.randn(draws, m, generator=stream(0, "noise"))
    target = float(discrepancy_target(torch.ones(1, m), torch.ones(1, m, dtype=torch.bool), noise))
    passed = float((residual.square().sum(1) <= target).double().mean())
    exact = scipy.stats.chi2.cdf(m + 2 * math.sqrt(2 * m), m)
    assert passed == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / draws))
    assert 0.96 < passed < 0.985


def test_noiseless_target_is_relative() -> None:
    measurements = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    expected = torch.tensor([25.0, 0.25]) * NOISELESS_RESIDUAL**2
    torch.testing.assert_close(discrepancy_target(measurements, torch.ones(2, 2, dtype=torch.bool), 0.0), expected)


# Choosing the best row


@given(
    values=st.lists(st.sampled_from([0.0, 0.5, 2.0, 3.0, math.nan, math.inf]), min_size=3, max_size=12),
    keep=st.integers(1, 4),
    seed=st.integers(0, 100),
)
@settings(deadline=None, max_examples=100)
def test_best_takes_the_lowest_objective_and_never_a_nan_row(values: list[float], keep: int, seed: int) -> None:
    problem = three_images()
    which = torch.cat([torch.arange(3), torch.randint(3, (len(values) - 3,), generator=stream(seed, "which"))])
    which = which[torch.randperm(len(values), generator=stream(seed, "order"))]
    latents = torch.randn(len(values), 8, generator=stream(seed, "latents"))
    residual = (1 + torch.tensor(values)).sqrt()[:, None]
    rows = Candidates(latents, which, residual, torch.zeros(len(values), dtype=torch.bool))
    best = rows.best(problem, keep)

    def ranked(rows: Candidates) -> Tensor:
        return torch.nan_to_num(problem.objective(rows.residual, rows.latents), nan=math.inf, posinf=math.inf)

    for image in range(3):
        assert torch.equal(ranked(best)[best.which == image], ranked(rows)[which == image].sort().values[:keep])


def three_images() -> LatentProblem:
    generator, _, images = draw(3)
    operator = operators()["gaussian"]
    return pose_latents(pose(operator, operator(images)), generator)


def test_row_that_explains_beats_a_lower_objective() -> None:
    problem = three_images()
    latents = torch.stack([torch.zeros(8), torch.full((8,), 3.0)] * 3)
    residual = torch.tensor([1e-3, 1e-9] * 3).sqrt()[:, None]
    which = torch.tensor([0, 0, 1, 1, 2, 2])
    assert torch.all(problem.objective(residual, latents)[1::2] > problem.objective(residual, latents)[::2])
    rows = Candidates(latents, which, residual, torch.zeros(6, dtype=torch.bool))
    assert torch.equal(rows.best(problem).residual, residual[1::2])


# Closed forms


@pytest.fixture(scope="module")
def linear() -> tuple[LinearGenerator, LinearOperator, Tensor]:
    """A linear generator of 6 latents in double precision, and 40 measurements of two images out of its range."""
    shape = (3, 8, 8)
    weight = 0.1 * torch.randn(192, 6, generator=stream(0, "weight"), dtype=torch.float64)
    operator = Gaussian(shape, 40, seed=0).double()
    images = torch.rand(2, *shape, generator=stream(0, "images"), dtype=torch.float64)
    return LinearGenerator(weight, shape), operator, operator(images)


TOLERANCES = {"latent-search": 1e-4, "csgm": 1e-2, "adam": 1e-3, "lbfgs": 1e-4, "levenberg-marquardt": 1e-6}


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("penalty", [0.0, 0.2])
def test_linear_generator_gives_ridge_regression(
    name: str, penalty: float, linear: tuple[LinearGenerator, LinearOperator, Tensor]
) -> None:
    generator, operator, measurements = linear
    with torch.no_grad():
        offset = operator(generator(torch.zeros(6, dtype=torch.float64)))
        matrix = operator(generator(torch.eye(6, dtype=torch.float64))).T - offset[:, None]
    gain = mean_gain(operator, measurements)
    normal = matrix.T @ matrix / gain + penalty * torch.eye(6, dtype=torch.float64)
    ridge = torch.linalg.solve(normal, matrix.T @ (measurements - offset).T / gain).T

    recovery = recover(operator, measurements, generator, solver=QUICK[name], latent_penalty=penalty)
    torch.testing.assert_close(recovery.latents, ridge, rtol=TOLERANCES[name], atol=TOLERANCES[name])
    assert Status.CONVERGED not in recovery.status


def test_levenberg_marquardt_needs_few_steps_on_a_linear_problem(
    linear: tuple[LinearGenerator, LinearOperator, Tensor],
) -> None:
    generator, operator, _ = linear
    truth = generator.sample_latents(1, generator=stream(5, "data"))
    recovery = recover(operator, operator(generator(truth)), generator, solver=LevenbergMarquardt(), restarts=1)
    assert recovery.status == (Status.CONVERGED,)
    assert len(recovery.history) <= 5
    torch.testing.assert_close(recovery.latents, truth, rtol=0, atol=1e-3)


@pytest.mark.parametrize("scale", [0.01, 0.1])
def test_search_is_not_biased_by_its_own_penalty(scale: float) -> None:
    # On a linear problem Adam reaches the penalised minimum, whose objective is below that of the exact answer.
    weight = scale * torch.randn(192, 8, generator=stream(0, "weight"))
    generator = LinearGenerator(weight, (3, 8, 8))
    operator = Gaussian((3, 8, 8), 40, seed=0)
    truth = generator.sample_latents(2, generator=stream(1, "data"))
    recovery = recover(operator, operator(generator(truth)), generator, solver="latent-search")
    assert recovery.status == (Status.CONVERGED,) * 2
    torch.testing.assert_close(recovery.latents, truth, rtol=0, atol=0.01)


# Images that the generator can draw


@pytest.mark.parametrize("kind", ["gaussian", "fourier"])
@pytest.mark.parametrize("name", QUICK)
def test_every_solver_recovers_images_in_range(name: str, kind: str) -> None:
    generator, _, images = draw(2)
    operator = operators()[kind]
    recovery = recover(operator, operator(images), generator, solver=QUICK[name], seed=1)
    assert recovery.images.shape == images.shape
    assert mse(recovery, images).max() <= 1e-5
    if name == "latent-search":
        # the search ends at a relative residual of 1e-4, which few Fourier samples magnify more than Gaussian ones
        assert mse(recovery, images).max() <= (1e-8 if kind == "gaussian" else 1e-7)
        assert recovery.status == (Status.CONVERGED,) * 2
    check_consistency(recovery, generator, operator, operator(images))


def check_consistency(recovery: Recovery, generator: Any, operator: LinearOperator, measurements: Tensor) -> None:
    """What a recovery says of itself is true."""
    with torch.no_grad():
        torch.testing.assert_close(generator(recovery.latents), recovery.images, rtol=0, atol=1e-5)
    assert recovery.images.min() >= 0
    assert recovery.images.max() <= 1
    difference = (operator(recovery.images) - measurements).flatten(1)
    residual = torch.linalg.vector_norm(difference, dim=1) / torch.linalg.vector_norm(measurements.flatten(1), dim=1)
    assert recovery.relative_residual == pytest.approx(residual.tolist(), rel=1e-2, abs=1e-6)
    for value, status in zip(recovery.relative_residual, recovery.status, strict=True):
        assert (status == Status.CONVERGED) == (value <= NOISELESS_RESIDUAL)


def test_levenberg_marquardt_goes_to_the_bottom_on_a_face() -> None:
    generator = load_generator(DEFAULT_GENERATOR)
    with torch.no_grad():
        face = generator(generator.sample_latents(1, generator=stream(7, "data")))
    operator = Gaussian(generator.image_shape, 500, seed=0)
    # the truth's own neighbourhood as the start: the bottom of the search without the minutes that finding it takes
    near, image = generator.sample_latents(1, generator=stream(7, "data")) + 0.1, torch.tensor([0])
    problem = pose(operator, operator(face))
    search = pose_latents(problem, generator)
    assert problem.relative_residual(search.residual(near, image), image) > 0.01
    found = LevenbergMarquardt().solve(search, near, image, Trace(problem))
    assert found.explained(search).all()
    assert (generator(found.latents) - face).square().mean() < 1e-6


# Batches, seeds and randomness


@pytest.mark.parametrize("name", QUICK)
def test_batch_equals_one_by_one(name: str) -> None:
    generator, _, images = draw(3, torch.float64)
    operator = operators()["gaussian"].double()
    solver = {"csgm": Adam(steps=60, decay=False), "adam": Adam(steps=60), "lbfgs": LBFGS(iterations=30, restarts=2)}
    chosen = solver.get(name, QUICK[name])
    batch = recover(operator, operator(images), generator, solver=chosen)
    alone = recover(operator, operator(images[0]), generator, solver=chosen)
    assert alone.images.shape == (1, *SHAPE)
    torch.testing.assert_close(batch.latents[:1], alone.latents, rtol=1e-6, atol=1e-6)
    assert batch.status[0] == alone.status[0]


@pytest.mark.parametrize("name", QUICK)
def test_same_seed_same_result_other_seed_other_starts(name: str) -> None:
    generator, _, images = draw(1)
    operator = operators()["gaussian"]
    solver = {
        "latent-search": LatentSearch((), Round(Adam(steps=5), keep=0.1), LevenbergMarquardt(1)),
        "lbfgs": LBFGS(iterations=5, restarts=2),
        "levenberg-marquardt": LevenbergMarquardt(iterations=2),
    }.get(name, Adam(steps=5))
    one, same, other = (recover(operator, operator(images), generator, solver=solver, seed=s) for s in (3, 3, 4))
    assert torch.equal(one.latents, same.latents)
    assert torch.equal(one.images, same.images)
    assert [asdict(record) | {"seconds": 0} for record in one.history] == [
        asdict(record) | {"seconds": 0} for record in same.history
    ]
    assert not torch.equal(one.latents, other.latents)


def test_images_of_a_batch_have_starts_of_their_own() -> None:
    generator, _, images = draw(1)
    operator = operators()["gaussian"]
    recovery = recover(operator, operator(images).expand(2, -1), generator, solver=Adam(steps=1), restarts=1)
    assert not torch.allclose(recovery.latents[0], recovery.latents[1], atol=0.1)


@pytest.mark.parametrize("name", QUICK)
def test_nothing_global_is_touched(name: str) -> None:
    generator, _, images = draw(1)
    operator = operators()["gaussian"]
    weights = {key: value.clone() for key, value in generator.state_dict().items()}
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes())
    solver = {"latent-search": LatentSearch(), "levenberg-marquardt": LevenbergMarquardt()}.get(name, Adam(steps=3))
    recover(operator, operator(images), generator, solver=LBFGS(iterations=3) if name == "lbfgs" else solver)
    after = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes())
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert all(torch.equal(value, weights[key]) for key, value in generator.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in generator.parameters())


# Noise, and images that the generator cannot draw


@pytest.mark.parametrize("kind", ["gaussian", "fourier"])
@pytest.mark.parametrize("name", ["latent-search", "lbfgs", "levenberg-marquardt"])
def test_noisy_measurements_are_explained_down_to_the_noise(name: str, kind: str) -> None:
    noise, m = 0.05, 200
    generator, _, images = draw(4)
    operator = {"gaussian": Gaussian(SHAPE, m, seed=2), "fourier": SubsampledFourier(SHAPE, m, seed=2)}[kind]
    clean = operator(images)
    parts = torch.view_as_real(clean) if clean.is_complex() else clean
    noisy = parts + noise * torch.randn(parts.shape, generator=stream(2, "noise"))
    measurements = torch.view_as_complex(noisy) if clean.is_complex() else noisy
    recovery = recover(operator, measurements, generator, solver=QUICK[name], noise=noise)
    assert recovery.status == (Status.CONVERGED,) * 4
    norms = torch.linalg.vector_norm(noisy.flatten(1), dim=1)
    level = torch.tensor(recovery.relative_residual) * norms / (noise * math.sqrt(m))
    # 8 fitted latents take 2 % off the noise level, whose own deviation is 1 / sqrt(2 m) = 5 %
    assert level.min() > 0.8
    assert level.max() < 1.1


@pytest.mark.parametrize("name", QUICK)
def test_image_out_of_range_never_converges(name: str) -> None:
    generator = draw(1)[0]
    operator = Gaussian(SHAPE, 200, seed=0)
    checkerboard = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * torch.ones(1, 3, 1, 1)
    recovery = recover(operator, operator(checkerboard), generator, solver=QUICK[name], restarts=3)
    assert recovery.status[0] in (Status.STALLED, Status.MAX_ITERATIONS)
    assert recovery.relative_residual[0] > 0.1
    assert torch.isfinite(recovery.images).all()


@pytest.mark.parametrize(
    "solver", [Adam(steps=1), LBFGS(iterations=1), LevenbergMarquardt(iterations=1)], ids=lambda s: type(s).__name__
)
def test_too_few_iterations_are_called_that(solver: Solver) -> None:
    generator, _, images = draw(1)
    operator = operators()["gaussian"]
    assert recover(operator, operator(images), generator, solver=solver).status == (Status.MAX_ITERATIONS,)


@pytest.mark.parametrize("solver", [Adam(steps=5, learning_rate=1e30), Adam(steps=5, learning_rate=1e25, decay=False)])
def test_huge_steps_are_called_divergence(solver: Solver) -> None:
    generator, _, images = draw(1)
    operator = operators()["gaussian"]
    recovery = recover(operator, operator(images), generator, solver=solver)
    assert recovery.status == (Status.DIVERGED,)
    assert "learning rate" in recovery.status[0].message


@pytest.mark.parametrize("name", QUICK)
def test_image_that_overflows_diverges_and_spoils_no_other(name: str) -> None:
    generator, _, images = draw(2, torch.float32)
    operator = operators()["gaussian"]
    measurements = operator(images) * torch.tensor([[1e25], [1.0]])
    recovery = recover(operator, measurements, generator, solver=QUICK[name])
    assert recovery.status[0] == Status.DIVERGED
    assert recovery.status[1] in (Status.CONVERGED, Status.MAX_ITERATIONS, Status.STALLED)
    assert mse(recovery, images)[1] < 1e-4


def test_latent_without_effect_does_not_stop_levenberg_marquardt() -> None:
    generator = tiny_generator()
    with torch.no_grad():
        generator.main[0].weight[0] = 0
    operator = operators()["gaussian"]
    with torch.no_grad():
        images = generator(generator.sample_latents(1, generator=stream(0, "data")))
    recovery = recover(operator, operator(images), generator, solver="levenberg-marquardt", latent_penalty=0)
    assert recovery.status == (Status.CONVERGED,)


def test_levenberg_marquardt_never_goes_up() -> None:
    generator, _, _ = draw(1)
    operator = Gaussian(SHAPE, 200, seed=0)
    images = torch.rand(1, *SHAPE, generator=stream(0, "images"))
    solver = LevenbergMarquardt(iterations=20)
    recovery = recover(operator, operator(images), generator, solver=solver, restarts=1, latent_penalty=0)
    residuals = [record.relative_residual[0] for record in recovery.history]
    assert len(residuals) > 2
    assert residuals == sorted(residuals, reverse=True)


# What comes back


@pytest.mark.parametrize("name", QUICK)
def test_history_and_timings_are_complete(name: str) -> None:
    generator, _, images = draw(2)
    operator = operators()["gaussian"]
    seen: list[Record] = []
    solver = {"csgm": Adam(steps=20, decay=False), "adam": Adam(steps=20)}.get(name, QUICK[name])
    recovery = recover(operator, operator(images), generator, solver=solver, progress=seen.append)
    assert tuple(seen) == recovery.history
    assert {record.phase for record in recovery.history} == set(recovery.timings) - {"total"}
    for phase in set(recovery.timings) - {"total"}:
        counts = [record.iteration for record in recovery.history if record.phase == phase]
        assert counts == list(range(1, len(counts) + 1))
    seconds = [record.seconds for record in recovery.history]
    assert seconds == sorted(seconds)
    assert seconds[-1] <= recovery.timings["total"]
    parts = [value for phase, value in recovery.timings.items() if phase != "total"]
    assert min(parts) >= 0
    assert sum(parts) <= recovery.timings["total"]
    for record in recovery.history:
        assert len(record.relative_residual) == 2
        assert any(math.isfinite(value) for value in record.relative_residual)


def test_configuration_says_what_was_asked_in_json() -> None:
    generator, _, images = draw(1)
    operator = operators()["gaussian"]
    recovery = recover(operator, operator(images), generator, restarts=2, noise=0.5, seed=9)
    told = json.loads(json.dumps(recovery.configuration))
    assert (told["solver"], told["restarts"], told["seed"], told["noise"]) == (DEFAULT_SOLVER, 2, 9, 0.5)
    assert told["latent_penalty"] == pytest.approx(0.25 / mean_gain(operator, operator(images)))
    assert told["solver_settings"]["search"]["rounds"]
    custom = recover(operator, operator(images), generator, solver=Adam(steps=2))
    assert custom.configuration["solver_settings"] == asdict(Adam(steps=2))
    assert custom.configuration["restarts"] == Adam.restarts


def test_every_status_explains_itself() -> None:
    for status in Status:
        assert status.message.endswith(".")
        assert "\n" not in status.message
        assert status == Status.CONVERGED or "try " in status.message


# Arguments


ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "too few measurements": ({"measurements": torch.zeros(2, M - 1)}, r"measurements of shape \(2, 59\)"),
    "no image": ({"measurements": torch.zeros(0, M)}, r"measurements of shape \(0, 60\)"),
    "one axis too many": ({"measurements": torch.zeros(1, 1, M)}, "measurements of shape"),
    "complex for real": ({"measurements": torch.zeros(1, M, dtype=torch.complex64)}, "are complex, .* real ones"),
    "real for complex": (
        {"operator": SubsampledFourier(SHAPE, M, seed=0), "measurements": torch.zeros(1, M // 2)},
        "are real, .* complex ones",
    ),
    "NaN": ({"measurements": torch.tensor([[math.nan] * 3 + [0.0] * (M - 3)])}, "3 of 60 measurements are NaN"),
    "infinity": ({"measurements": torch.tensor([[math.inf] + [0.0] * (M - 1)])}, "1 of 60 measurements are NaN or inf"),
    "complex NaN": (
        {
            "operator": SubsampledFourier(SHAPE, M, seed=0),
            "measurements": torch.full((1, M // 2), complex(0, math.nan)),
        },
        "30 of 60 measurements are NaN",
    ),
    "negative noise": ({"noise": -0.1}, "noise must be a number from 0 to 1e\\+12, got -0.1"),
    "noise beyond single precision": ({"noise": 1e20}, "noise must be a number from 0 to 1e\\+12, got 1e\\+20"),
    "NaN noise": ({"noise": math.nan}, "noise must be a number from 0"),
    "negative penalty": ({"latent_penalty": -1.0}, "latent penalty must be a number from 0"),
    "infinite penalty": ({"latent_penalty": math.inf}, "latent penalty must be a number from 0"),
    "unknown solver": ({"solver": "newton"}, "no solver 'newton'; try one of auto, latent-search, csgm"),
    "no restart": ({"restarts": 0}, "restarts must be at least 1, got 0"),
    "negative restarts": ({"restarts": -2}, "restarts must be at least 1, got -2"),
    "negative seed": ({"seed": -1}, "seed must be an integer"),
    "seed that is no integer": ({"seed": 1.5}, "seed must be an integer"),
    "operator of another shape": (
        {"operator": Gaussian((3, 8, 8), M, seed=0)},
        r"operator measures images of shape \(3, 8, 8\), but the generator draws \(3, 16, 16\)",
    ),
    "operator of another precision": ({"operator": Gaussian(SHAPE, M, seed=0).double()}, r"try A.to\(torch.float32\)"),
    "operator that measures nothing": ({"operator": 0 * Gaussian(SHAPE, M, seed=0)}, "maps every image to zero"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_bad_argument_is_named_in_one_sentence(case: str) -> None:
    change, expected = ARGUMENTS[case]
    arguments: dict[str, Any] = {
        "operator": operators()["gaussian"],
        "measurements": torch.ones(1, M),
        "prior": tiny_generator(),
        "solver": Adam(steps=1),
    }
    with pytest.raises(ValueError, match=expected) as caught:
        recover(**(arguments | change))
    assert_one_sentence(caught.value)


def test_measurements_of_another_precision_are_converted() -> None:
    generator, _, images = draw(1)
    operator = operators()["gaussian"]
    measurements = operator(images)
    one, other = (recover(operator, y, generator, solver=Adam(steps=3)) for y in (measurements, measurements.double()))
    assert torch.equal(one.latents, other.latents)
    assert other.images.dtype == torch.float32


def test_generator_in_training_mode_is_searched_in_evaluation_mode() -> None:
    generator, _, images = draw(1)
    operator = operators()["gaussian"]
    training = copy.deepcopy(generator).train()
    one, other = (recover(operator, operator(images), prior, solver=Adam(steps=3)) for prior in (generator, training))
    assert torch.equal(one.latents, other.latents)
    assert training.training


# Generators that normalise their latents


class Direction(nn.Module):
    """Draws from the direction of its latents alone, as PGGAN and StyleGAN2 do."""

    def __init__(self) -> None:
        super().__init__()
        weight = 0.05 * torch.randn(192, 8, generator=stream(0, "weight"))
        self.weight = nn.Parameter(weight)

    def forward(self, latents: Tensor) -> Tensor:
        unit = latents * latents.square().mean(1, keepdim=True).rsqrt()
        return 0.5 + (unit @ self.weight.T).unflatten(1, (3, 8, 8))


@pytest.mark.parametrize("name", QUICK)
def test_latents_of_a_sphere_are_searched_without_a_penalty(name: str) -> None:
    generator = Generator.wrap(Direction(), latent_shape=(8,), value_range=(0, 1), geometry="sphere")
    operator = Gaussian((3, 8, 8), 40, seed=0)
    truth = 3 * generator.sample_latents(1, generator=stream(1, "data"))
    with torch.no_grad():
        image = generator(truth)
        measurements = operator(image)
    recovery = recover(operator, measurements, generator, solver=QUICK[name])
    assert recovery.configuration["latent_penalty"] == 0
    assert float(mse(recovery, image)) < 1e-5
    torch.testing.assert_close(
        nn.functional.normalize(recovery.latents), nn.functional.normalize(truth), rtol=0, atol=2e-2
    )


def test_a_penalty_on_the_latents_of_a_sphere_is_refused() -> None:
    generator = Generator.wrap(Direction(), latent_shape=(8,), value_range=(0, 1), geometry="sphere")
    operator = Gaussian((3, 8, 8), 40, seed=0)
    with pytest.raises(ValueError, match="normalises its latents") as caught:
        recover(operator, torch.ones(1, 40), generator, latent_penalty=0.1)
    assert_one_sentence(caught.value)
