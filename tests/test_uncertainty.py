"""How far a recovery may be from the truth: posterior, samples, spread, error split; and steps without a matrix."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import LinearGenerator, assert_one_sentence, tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from cs_lip.cli.main import main
from cs_lip.evaluation.error_split import error_split
from cs_lip.evaluation.store import load_run
from cs_lip.operators import Gaussian, LinearOperator, SubsampledFourier
from cs_lip.priors import PGGAN, Generator
from cs_lip.recovery import LatentProblem, LevenbergMarquardt, pose, pose_latents, recover
from cs_lip.recovery.fidelity import Huber
from cs_lip.recovery.langevin import langevin
from cs_lip.recovery.levenberg_marquardt_steps import DenseCurvature, MatrixFreeCurvature
from cs_lip.recovery.trace import Trace
from cs_lip.recovery.uncertainty import Uncertainty, laplace, spread, uncertainty
from cs_lip.seeding import stream

SHAPE = (3, 16, 16)
"""Of `tiny_generator`."""


def linear(k: int, shape: tuple[int, int, int], seed: int, scale: float = 0.05) -> LinearGenerator:
    weight = torch.randn(math.prod(shape), k, generator=stream(seed, "weight"), dtype=torch.float64)
    return LinearGenerator(scale * weight, shape)


def measured(
    operator: LinearOperator, generator: Generator, count: int, noise: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Images in the range, and their noisy measurements."""
    with torch.no_grad():
        images = generator(generator.sample_latents(count, generator=stream(seed, "data")))
        clean = operator(images)
    return images, clean + noise * torch.randn(clean.shape, generator=stream(seed, "noise")).to(clean)


def tiny_problem(noise: float = 0.02, m: int = 60, count: int = 2) -> tuple[LatentProblem, Tensor, Tensor]:
    """A problem in double precision, its images and where a search from the truth's latents ends."""
    generator = tiny_generator().double()
    operator = Gaussian(SHAPE, m, seed=0).double()
    images, measurements = measured(operator, generator, count, noise, 0)
    problem = pose(operator, measurements, noise=noise)
    search = pose_latents(problem, generator)
    truth = generator.sample_latents(count, generator=stream(0, "data"))
    found = LevenbergMarquardt(settled=1e-9).solve(search, truth, torch.arange(count), Trace(problem))
    return search, images, found.latents


def regression(
    operator: LinearOperator, generator: LinearGenerator, measurements: Tensor, noise: float
) -> tuple[Tensor, Tensor]:
    """Mean image and covariance of Bayesian linear regression, by the textbook in measurement space:
    the covariance of ``W z`` given ``y`` is ``S - S A^T (A S A^T + noise^2 I)^-1 A S`` with ``S = W W^T``.
    """
    weight, matrix = generator.weight, operator.to_matrix().to(generator.weight)
    prior = weight @ weight.T
    gain = prior @ matrix.T @ torch.linalg.inv(matrix @ prior @ matrix.T + noise**2 * torch.eye(len(matrix)).double())
    mean = 0.5 + gain @ (measurements.flatten() - matrix @ torch.full((len(prior),), 0.5).double())
    return mean, prior - gain @ matrix @ prior


# Laplace


@settings(max_examples=8, deadline=None)
@given(k=st.integers(1, 12), m=st.integers(1, 20), noise=st.floats(0.01, 1.0), seed=st.integers(0, 99))
def test_linear_generator_has_the_posterior_of_linear_regression(k: int, m: int, noise: float, seed: int) -> None:
    generator, operator = linear(k, (1, 4, 5), seed), Gaussian((1, 4, 5), m, seed=seed).double()
    _, measurements = measured(operator, generator, 1, noise, seed)
    problem = pose_latents(pose(operator, measurements, noise=noise), generator)
    problem = replace(problem, penalty=noise**2 / problem.problem.gain)  # the Bayesian one, where noise is small too
    start = torch.zeros(1, k, dtype=torch.float64)
    solver = LevenbergMarquardt(settled=1e-12)
    best = solver.solve(replace(problem, relaxes=False), start, torch.tensor([0]), Trace(problem.problem)).latents
    found = laplace(problem, best)
    mean, covariance = regression(operator, generator, measurements, noise)
    if bool(problem.explained(problem.residual(best, torch.tensor([0])), torch.tensor([0]))):
        torch.testing.assert_close(found.sd.flatten(), covariance.diagonal().sqrt(), rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(found.images.flatten(), mean, rtol=1e-4, atol=1e-4)
    else:
        assert found.sd.isnan().all()


def test_band_of_a_linear_generator_covers_what_it_says() -> None:
    generator, operator, noise = linear(6, (1, 4, 5), 1), Gaussian((1, 4, 5), 12, seed=1).double(), 0.05
    images, measurements = measured(operator, generator, 400, noise, 2)
    problem = pose_latents(pose(operator, measurements, noise=noise), generator, noise**2)
    weight = operator.to_matrix() @ generator.weight
    precision = weight.T @ weight / noise**2 + torch.eye(6)
    centred = measurements - operator(torch.full((1, 1, 4, 5), 0.5).double())
    best = centred @ weight / noise**2 @ torch.linalg.inv(precision)
    found = laplace(problem, best)
    for level in (0.5, 0.9):
        assert float(found.coverage(images, level).nanmean()) == pytest.approx(level, abs=0.03)


def test_more_noise_means_more_uncertainty_and_fewer_measurements_too() -> None:
    def mean_sd(noise: float, m: int) -> float:
        problem, _, latents = tiny_problem(noise, m, count=1)
        return float(laplace(problem, latents).sd.mean())

    assert mean_sd(0.01, 60) < mean_sd(0.03, 60) < mean_sd(0.1, 60)
    assert mean_sd(0.03, 200) < mean_sd(0.03, 20)


def test_sphere_has_no_uncertainty_along_the_latent_and_its_length_does_not_matter() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = PGGAN(8, (8, 4, 4)).double()
    operator = Gaussian(SHAPE, 40, seed=0).double()
    _, measurements = measured(operator, generator, 1, 0.01, 0)
    problem = pose_latents(pose(operator, measurements, noise=0.01), generator)
    latents = generator.sample_latents(1, generator=stream(0, "data"))
    found = laplace(problem, latents)
    torch.testing.assert_close(laplace(problem, 7 * latents).sd, found.sd)
    assert found.sd.mean() > 0


def test_band_is_cut_to_the_range_of_images() -> None:
    found = Uncertainty(torch.tensor([[[[0.0, 0.5, 1.0]]]]), torch.tensor([[[[0.1, 0.1, 0.1]]]]))
    low, high = found.band()
    torch.testing.assert_close(low, torch.tensor([[[[0.0, 0.3355, 0.8355]]]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(high, torch.tensor([[[[0.1645, 0.6645, 1.0]]]]), atol=1e-4, rtol=0)
    assert found.coverage(torch.tensor([[[[0.0, 0.7, 1.0]]]])).tolist() == pytest.approx([2 / 3])


def test_image_outside_the_range_has_no_band() -> None:
    generator, operator = tiny_generator(), Gaussian(SHAPE, 100, seed=0)
    inside, _ = measured(operator, generator, 1, 0.0, 0)
    images = torch.cat([inside, torch.rand(1, *SHAPE, generator=stream(0, "images"))])
    measurements = operator(images) + 0.01 * torch.randn(2, 100, generator=stream(0, "noise"))
    recovery = recover(operator, measurements, generator, solver=LevenbergMarquardt(), restarts=10, noise=0.01)
    assert [status.value for status in recovery.status] == ["converged", "stalled"]
    found = uncertainty(operator, measurements, generator, recovery, noise=0.01)
    assert found.sd[0].isfinite().all()
    assert found.sd[1].isnan().all()
    assert found.coverage(images)[0] > 0.7
    assert found.coverage(images)[1].isnan()
    moved = replace(recovery, images=recovery.images + torch.tensor([0.1, 0.0]).reshape(2, 1, 1, 1))
    assert uncertainty(operator, measurements, generator, moved, noise=0.01).sd.isnan().all()


def test_works_with_complex_measurements_and_a_robust_fidelity() -> None:
    generator, operator = tiny_generator(), SubsampledFourier(SHAPE, 60, seed=0)
    images, measurements = measured(operator, generator, 1, 0.01, 0)
    recovery = recover(
        operator, measurements, generator, solver=LevenbergMarquardt(), restarts=10, noise=0.01, fidelity=Huber(0.05)
    )
    found = uncertainty(operator, measurements, generator, recovery, noise=0.01, fidelity=Huber(0.05))
    assert 0 < float(found.sd.mean()) < 0.1
    assert float(found.coverage(images)) > 0.7


def test_one_jacobian_of_an_image_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, _, latents = tiny_problem(count=2)
    pushed: list[int] = []
    push = type(problem.generator).push

    def counted(self: Generator, latent: Tensor, tangents: Tensor) -> Tensor:
        pushed.append(len(tangents))
        return push(self, latent, tangents)

    monkeypatch.setattr(type(problem.generator), "push", counted)
    laplace(problem, latents)
    assert sum(pushed) == 2 * problem.generator.latent_size


# Langevin


def test_samples_agree_with_laplace_where_that_is_exact() -> None:
    generator, operator, noise = linear(5, (1, 4, 5), 3), Gaussian((1, 4, 5), 10, seed=3).double(), 0.05
    _, measurements = measured(operator, generator, 2, noise, 3)
    problem = pose_latents(pose(operator, measurements, noise=noise), generator, noise**2)
    # away from the mode on purpose: the chain finds it
    start = generator.sample_latents(2, generator=stream(3, "data")) + 0.1
    samples = langevin(problem, start, steps=3000, burn_in=300, seed=0)
    for image in range(2):
        mean, covariance = regression(operator, generator, measurements[image], noise)
        sd = covariance.diagonal().sqrt()
        torch.testing.assert_close(samples.uncertainty.sd[image].flatten(), sd, rtol=0.15, atol=0)
        assert ((samples.uncertainty.images[image].flatten() - mean).abs() < 0.15 * sd).all()
    assert ((samples.acceptance > 0.45) & (samples.acceptance < 0.7)).all()
    assert samples.latents.shape == (2, 1000, 5)


def test_samples_agree_with_laplace_on_a_network() -> None:
    problem, _, latents = tiny_problem(noise=0.01, m=100, count=1)
    samples = langevin(problem, latents, steps=600, burn_in=100, seed=0)
    ratio = samples.uncertainty.sd.mean() / laplace(problem, latents).sd.mean()
    assert 0.85 < float(ratio) < 1.15


def test_a_chain_does_not_depend_on_its_batch_and_repeats() -> None:
    problem, _, latents = tiny_problem(count=2)
    both = langevin(problem, latents, steps=20, burn_in=5, seed=4)
    alone = langevin(
        replace(problem, problem=problem.problem.only(torch.tensor([0]))), latents[:1], steps=20, burn_in=5, seed=4
    )
    torch.testing.assert_close(both.latents[:1], alone.latents)
    other = langevin(problem, latents, steps=20, burn_in=5, seed=5)
    assert not torch.equal(both.latents, other.latents)


# Spread over restarts


def test_spread_counts_solutions_and_not_starts() -> None:
    one, other = torch.zeros(1, 2, 2), torch.ones(1, 2, 2)
    sd, count = spread(torch.stack([one, one + 1e-4, other, one]))
    assert count == 2
    torch.testing.assert_close(sd, torch.full((1, 2, 2), 0.5))
    sd, count = spread(one[None])
    assert count == 1
    assert (sd == 0).all()


# Refusals


def test_refusals() -> None:
    generator, operator = tiny_generator(), Gaussian(SHAPE, 60, seed=0)
    _, measurements = measured(operator, generator, 1, 0.01, 0)
    recovery = recover(
        operator, measurements, generator, solver=LevenbergMarquardt(iterations=2), restarts=1, noise=0.01
    )
    problem = pose_latents(pose(operator, measurements, noise=0.01), generator)
    moved = replace(recovery, images=recovery.images + 0.1)
    assert recovery.latents is not None
    with pytest.raises(ValueError, match="noise=0;") as caught:
        uncertainty(operator, measurements, generator, recovery, noise=0.0)
    assert_one_sentence(caught.value)
    without = replace(recovery, latents=None)
    with pytest.raises(ValueError, match="latents") as caught:
        uncertainty(operator, measurements, generator, without, noise=0.01)
    assert_one_sentence(caught.value)
    for wrong in (without, moved):
        with pytest.raises(ValueError, match="latents") as caught:
            error_split(operator, measurements, generator, wrong, recovery.images, noise=0.01, restarts=1)
        assert_one_sentence(caught.value)
    for act in (
        lambda: laplace(problem, recovery.latents[0]),
        lambda: langevin(problem, recovery.latents, steps=0),
        lambda: spread(recovery.images[:0]),
        lambda: spread(recovery.images, tolerance=-1.0),
        lambda: Uncertainty(recovery.images, recovery.images).band(1.0),
        lambda: error_split(operator, measurements, generator, recovery, recovery.images[:, :1], noise=0.01),
    ):
        with pytest.raises(ValueError, match="try ") as caught:
            act()
        assert_one_sentence(caught.value)


# Levenberg-Marquardt without a matrix


@pytest.mark.parametrize("kind", ["gaussian", "fourier"])
def test_steps_without_a_matrix_are_those_with_it(kind: str) -> None:
    generator = tiny_generator().double()
    operator = {"gaussian": Gaussian(SHAPE, 60, seed=0).double(), "fourier": SubsampledFourier(SHAPE, 40, seed=0)}[kind]
    _, measurements = measured(operator, generator, 1, 0.0, 0)
    problem = pose_latents(pose(operator, measurements, fidelity=Huber(0.1)), generator)
    latent, image = generator.sample_latents(1, generator=stream(1, "latents")), torch.tensor([0])
    residual, gradient = problem.gradient(latent, image)
    gradient = gradient.flatten()
    jacobian = problem.linearise(latent[0])
    matrix = (jacobian * problem.problem.fidelity.weights(residual)) @ jacobian.T / problem.problem.gain
    free = MatrixFreeCurvature(problem, latent, residual, forcing=1e-12)
    torch.testing.assert_close(free.product(gradient), matrix @ gradient, rtol=1e-8, atol=1e-12)
    dampings = torch.tensor([1e-3, 1.0, 100.0], dtype=torch.float64)
    scale = gradient @ matrix @ gradient / gradient.square().sum()
    identity = torch.eye(len(gradient), dtype=torch.float64)
    wanted = torch.stack([torch.linalg.solve(matrix + (1e-4 + d * scale) * identity, gradient) for d in dampings])
    torch.testing.assert_close(free.damped(gradient, 1e-4)(dampings), wanted, rtol=1e-6, atol=1e-9)
    # without any damping it is the very step of the dense solver, which scales its damping by the diagonal
    dense = DenseCurvature(problem, latent, residual).damped(gradient, 1e-4)
    none = torch.zeros(1, dtype=torch.float64)
    torch.testing.assert_close(free.damped(gradient, 1e-4)(none), dense(none), rtol=1e-6, atol=1e-9)


def test_truncated_steps_leave_no_more_than_asked() -> None:
    problem, _, latents = tiny_problem(count=1)
    image = torch.tensor([0])
    residual, gradient = problem.gradient(latents + 0.5, image)
    gradient = gradient.flatten()
    jacobian = problem.linearise((latents + 0.5)[0])
    matrix = jacobian @ jacobian.T / problem.problem.gain
    none = torch.zeros(1, dtype=torch.float64)
    for forcing in (0.5, 0.1, 0.001):
        free = MatrixFreeCurvature(problem, latents + 0.5, residual, forcing=forcing)
        step = free.damped(gradient, 1e-4)(none)[0]
        left = matrix @ step + 1e-4 * step - gradient
        assert float(left.norm() / gradient.norm()) <= forcing * (1 + 1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_matrix_free_search_ends_where_the_dense_one_does(noise: float) -> None:
    generator, operator = tiny_generator().double(), Gaussian(SHAPE, 60, seed=0).double()
    images, measurements = measured(operator, generator, 1, noise, 0)
    ends = []
    for dense_up_to in (256, 0):
        solver = LevenbergMarquardt(dense_up_to=dense_up_to, settled=1e-9)
        ends.append(recover(operator, measurements, generator, solver=solver, restarts=10, noise=noise))
    assert ends[1].status == ends[0].status
    torch.testing.assert_close(ends[1].images, ends[0].images, rtol=0, atol=1e-3 if noise == 0 else 1e-5)
    assert float((ends[1].images - images).square().mean()) < (1e-6 if noise == 0 else 1e-2)


def test_no_jacobian_is_pushed_without_a_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, operator = tiny_generator(), Gaussian(SHAPE, 60, seed=0)
    _, measurements = measured(operator, generator, 1, 0.0, 0)

    def never(*_: object, **__: object) -> Tensor:
        raise AssertionError("a Jacobian")

    monkeypatch.setattr(LatentProblem, "linearise", never)
    recovery = recover(operator, measurements, generator, solver=LevenbergMarquardt(iterations=3, dense_up_to=0))
    assert torch.isfinite(recovery.images).all()


def test_no_gradient_to_follow_ends_the_search() -> None:
    generator, operator = LinearGenerator(torch.zeros(20, 4), (1, 4, 5)), Gaussian((1, 4, 5), 10, seed=0)
    measurements = torch.ones(1, 10)
    solver = LevenbergMarquardt(dense_up_to=0)
    recovery = recover(operator, measurements, generator, solver=solver, restarts=1, latent_penalty=0.0)
    assert recovery.status[0].value == "stalled"


# Error split


def test_parts_sum_to_the_total_and_vanish_where_they_must() -> None:
    generator, operator = tiny_generator(), Gaussian(SHAPE, 60, seed=0)
    inside, measurements = measured(operator, generator, 1, 0.0, 0)
    recovery = recover(operator, measurements, generator, solver=LevenbergMarquardt(), restarts=10)
    (split,) = error_split(operator, measurements, generator, recovery, inside, restarts=10)
    assert split.total == pytest.approx(split.representation + split.measurement + split.optimisation, abs=1e-15)
    assert split.total == pytest.approx(float((recovery.images - inside).square().mean()), rel=1e-4)
    assert max(split.representation, abs(split.measurement), abs(split.optimisation)) < 1e-6


def test_each_part_is_found_where_it_was_put() -> None:
    """A linear generator has one minimum and known errors: what is outside its range, what the noise moves."""
    generator, operator, noise = linear(4, (1, 4, 5), 0), Gaussian((1, 4, 5), 10, seed=0).double(), 0.05
    inside, _ = measured(operator, generator, 1, 0.0, 0)
    normal = torch.linalg.qr(generator.weight, mode="complete")[0][:, -1].reshape(1, 1, 4, 5)
    truth = inside + 0.1 * normal
    measurements = operator(truth) + noise * torch.randn(1, 10, generator=stream(0, "noise")).double()
    recovery = recover(operator, measurements, generator, solver=LevenbergMarquardt(), restarts=1, noise=noise)
    (best,) = error_split(operator, measurements, generator, recovery, truth, noise=noise, restarts=1)
    assert best.representation == pytest.approx(0.01 / 20, rel=1e-4)
    assert best.measurement > 0
    assert best.optimisation == pytest.approx(0, abs=1e-8)
    assert recovery.latents is not None
    lost = recovery.latents + 1.0
    bad = replace(recovery, latents=lost, images=generator(lost))
    (worse,) = error_split(operator, measurements, generator, bad, truth, noise=noise, restarts=1)
    assert worse.representation == pytest.approx(best.representation, rel=1e-4)
    assert worse.measurement == pytest.approx(best.measurement, rel=0.05)
    assert worse.optimisation == pytest.approx(worse.total - best.total, rel=0.05)


# The command


@pytest.fixture
def tiny_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    torch.save({key: value.contiguous() for key, value in tiny_generator().state_dict().items()}, tmp_path / "tiny.pth")
    return str(tmp_path / "tiny.pth")


def test_recover_stores_deviations_and_says_which_images_have_none(tiny_weights: str, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "noise.png")
    arguments = ["recover", "-m", "100", "--noise", "0.01", "--generator", tiny_weights, "--solver", "latent-search"]
    result = CliRunner().invoke(main, [*arguments, "--restarts", "4", "--uncertainty", "--out", "run"])
    assert result.exit_code == 0, result.output
    stored = load_run(tmp_path / "run/recovery.h5")
    assert stored.sd is not None
    rows = json.loads((tmp_path / "run/summary.json").read_text())["images"]
    for row, sd in zip(rows, stored.sd, strict=True):
        assert (row["mean_sd"] is None) == (row["source"] != "in-range") == bool(sd.isnan().all())
        if row["mean_sd"] is not None:
            assert row["mean_sd"] == pytest.approx(float(sd.mean()))
    outside = sum(row["source"] != "in-range" for row in rows)
    assert f"No uncertainty of {outside} of {len(rows)} images" in result.stdout
    assert "mean sd" in result.stdout
    without = CliRunner().invoke(main, [*arguments, "--restarts", "1", "--image", "noise.png", "--json"])
    assert "mean_sd" not in json.loads(without.stdout)["images"][0]


def test_recover_needs_a_noise_for_the_uncertainty(tiny_weights: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["recover", "-m", "100", "--generator", tiny_weights, "--uncertainty"])
    assert result.exit_code == 2
    assert_one_sentence(result.stderr.strip().splitlines()[-1])
    assert not (tmp_path / "recovery").exists()
