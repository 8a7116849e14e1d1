"""Beyond a generator's range: tuned weights and activations, sparse deviations, and what they are made of."""

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

import pytest
import torch
from helpers import LinearGenerator, assert_one_sentence, tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor, nn

from cs_lip.operators import Gaussian, LinearOperator, SubsampledFourier
from cs_lip.priors import DCGAN, Generator
from cs_lip.recovery import Auto, Fidelity, LevenbergMarquardt, MedianOfMeans, Recovery, Solver, Status, pose, recover
from cs_lip.recovery.back_projection import back_project, error_variance
from cs_lip.recovery.baselines import Lasso
from cs_lip.recovery.fidelity import L1
from cs_lip.recovery.image_adaptive import SHIFTS, ImageAdaptive, shifted
from cs_lip.recovery.intermediate_layers import Activations, IntermediateLayers, _pieces, project_onto_l1_ball
from cs_lip.recovery.problem import Problem
from cs_lip.recovery.solver import Task
from cs_lip.recovery.sparse_deviation import SparseDeviation, deviate
from cs_lip.recovery.total_variation import SMOOTHING, total_variation
from cs_lip.recovery.trace import Trace
from cs_lip.recovery.tuning import RATE, TV_BY_COUNT, TV_BY_NOISE, Tuning
from cs_lip.seeding import stream

SHAPE = (3, 16, 16)
M = 300
NOISE = 0.003

SEARCH = LevenbergMarquardt(restarts=3)
TUNING = Tuning(iterations=100, learning_rate=1e-3, patience=40, folds=1)

BEYOND: dict[str, Solver] = {
    "image-adaptive": ImageAdaptive(SEARCH, TUNING, shifts=1),
    "intermediate-layers": IntermediateLayers(SEARCH, steps=20, tuning=replace(TUNING, learning_rate=2e-4)),
    "sparse-pixel": SparseDeviation(SEARCH, "pixel", rounds=1),
}
TRANSFORMED: dict[str, Solver] = {
    "sparse-dct": SparseDeviation(SEARCH, "dct"),
    "sparse-wavelet": SparseDeviation(SEARCH, "wavelet", rounds=1),
}
"""Which take longer, and differ from the last of `BEYOND` in nothing but the transform."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small lose more to handing work between threads than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=list(BEYOND))
def solver(request: pytest.FixtureRequest) -> Solver:
    return BEYOND[request.param]


def gaussian() -> LinearOperator:
    return Gaussian(SHAPE, M, seed=0)


def fourier() -> LinearOperator:
    return SubsampledFourier(SHAPE, M, seed=0, pattern="centre")


def in_range(count: int = 1) -> tuple[DCGAN, Tensor]:
    generator = tiny_generator()
    with torch.no_grad():
        return generator, generator(generator.sample_latents(count, generator=stream(0, "data")))


def spotted(images: Tensor) -> Tensor:
    """The images with a handful of pixels in black or white."""
    places = torch.randperm(256, generator=stream(0, "spots"))[:10]
    spots = images.flatten(2).clone()
    spots[:, :, places] = (spots[:, :, places] < 0.5).to(images)
    return spots.reshape(images.shape)


def shaded(images: Tensor) -> Tensor:
    """The images under a soft light from the upper left, which is smooth and few coefficients of any transform."""
    ramp = torch.linspace(0, 1, 16)
    light = torch.exp(-4 * (ramp[:, None] ** 2 + ramp[None, :] ** 2))
    return (images + light * (1 - images)).clamp(0, 1)


def measured(operator: LinearOperator, images: Tensor, noise: float = NOISE) -> Tensor:
    y = operator(images)
    size = torch.randn(*y.shape, generator=stream(0, "noise"), dtype=y.dtype)
    return y + noise * (math.sqrt(2) if y.is_complex() else 1) * size


def mse(recovery: Recovery, images: Tensor) -> float:
    return float((recovery.images - images).square().mean())


def task_of(problem: Problem, prior: Generator | None = None) -> Task:
    return Task(problem, prior, 0, Trace(problem))


# The solvers


def test_images_in_range_are_left_as_the_search_found_them(solver: Solver) -> None:
    generator, images = in_range(2)
    operator = gaussian()
    y = measured(operator, images)
    alone = recover(operator, y, generator, solver=SEARCH, noise=NOISE)
    beyond = recover(operator, y, generator, solver=solver, noise=NOISE)
    assert set(beyond.status) == {Status.CONVERGED}
    assert alone.latents is not None and beyond.latents is not None
    assert torch.equal(beyond.latents, alone.latents)
    assert torch.equal(beyond.images, alone.images)
    assert all("kept" in note for note in beyond.notes)


@pytest.mark.parametrize(
    ("name", "measure"),
    [*((name, gaussian) for name in BEYOND | TRANSFORMED), *((name, fourier) for name in BEYOND)],
)
def test_an_image_out_of_range_comes_closer_than_the_search_gets(
    name: str, measure: Callable[[], LinearOperator]
) -> None:
    generator, images = in_range()
    truth, operator = (spotted if name == "sparse-pixel" else shaded)(images), measure()
    y = measured(operator, truth)
    alone = recover(operator, y, generator, solver=SEARCH, noise=NOISE)
    beyond = recover(operator, y, generator, solver=(BEYOND | TRANSFORMED)[name], noise=NOISE)
    assert mse(beyond, truth) < 0.6 * mse(alone, truth)
    assert beyond.images.shape == truth.shape
    assert float(beyond.images.min()) >= 0 and float(beyond.images.max()) <= 1
    assert beyond.notes[0]["held_out_misfit"] > 0


def test_images_in_and_out_of_range_in_one_batch(solver: Solver) -> None:
    generator, images = in_range(2)
    truth = torch.cat([images[:1], shaded(images[1:])])
    operator = gaussian()
    y = measured(operator, truth)
    alone = recover(operator, y, generator, solver=SEARCH, noise=NOISE)
    beyond = recover(operator, y, generator, solver=solver, noise=NOISE)
    assert torch.equal(beyond.images[0], alone.images[0])
    assert not torch.equal(beyond.images[1], alone.images[1])
    assert "kept" in beyond.notes[0] and "kept" not in beyond.notes[1]
    phases = {record.phase for record in beyond.history} - {record.phase for record in alone.history}
    assert phases
    for record in beyond.history:
        if record.phase in phases:
            assert math.isnan(record.relative_residual[0])


def test_same_seed_same_result_and_nothing_of_the_callers_changes(solver: Solver) -> None:
    generator, images = in_range()
    operator = gaussian()
    y = measured(operator, shaded(images))
    before, kept, given_seed = copy.deepcopy(generator.state_dict()), y.clone(), torch.random.get_rng_state()
    first = recover(operator, y, generator, solver=solver, noise=NOISE, seed=5)
    torch.manual_seed(1)
    again = recover(operator, y, generator, solver=solver, noise=NOISE, seed=5)
    torch.random.set_rng_state(given_seed)
    assert torch.equal(first.images, again.images)
    assert first.notes == again.notes
    assert torch.equal(y, kept)
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    assert all(parameter.grad is None for parameter in generator.parameters())


@pytest.mark.parametrize("after", [0, 8])
def test_cancelled_beyond_the_range(solver: Solver, after: int) -> None:
    generator, images = in_range()
    operator = gaussian()
    seen: list[str] = []

    def cancel() -> bool:
        return len([phase for phase in seen if phase != "levenberg-marquardt"]) >= after

    stopped = recover(
        operator,
        measured(operator, shaded(images)),
        generator,
        solver=solver,
        noise=NOISE,
        cancel=cancel,
        progress=lambda record: seen.append(record.phase),
    )
    assert stopped.status == (Status.INTERRUPTED,)
    assert bool(torch.isfinite(stopped.images).all())
    assert len([phase for phase in seen if phase != "levenberg-marquardt"]) <= after + 6


# Intermediate layers


class InOnePiece(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3 * 16 * 16)

    def forward(self, latents: Tensor) -> Tensor:
        values: Tensor = self.linear(latents)
        return values.sigmoid().reshape(-1, *SHAPE)


@pytest.mark.parametrize("radius", [0, -1, math.nan, math.inf])
def test_a_ball_without_radius_is_refused(radius: float) -> None:
    with pytest.raises(ValueError, match="radius") as caught:
        IntermediateLayers(radius=radius)
    assert_one_sentence(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: IntermediateLayers(steps=0),
        lambda: IntermediateLayers(layers=()),
        lambda: SparseDeviation(rounds=0),
        lambda: SparseDeviation(transform="curvelet"),  # type: ignore[arg-type]
        lambda: Tuning(iterations=0),
        lambda: Tuning(patience=0),
        lambda: Tuning(learning_rate=math.nan),
        lambda: Tuning(total_variation=-1),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="got") as caught:
        make()
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("layers", [None, ("start",), ("nowhere",), ("double-2",)])
def test_layers_that_a_generator_does_not_have_are_refused(layers: tuple[str, ...] | None) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole: Generator = Generator.wrap(InOnePiece(), latent_shape=(4,), value_range=(0, 1))
    generator = whole if layers in (None, ("start",)) else tiny_generator()
    operator = gaussian()
    with pytest.raises(ValueError, match="intermediate layers") as caught:
        recover(operator, torch.ones(1, M), generator, solver=IntermediateLayers(SEARCH, layers))
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("layers", [None, ("start",), ("double-1",)])
def test_activations_draw_the_image_at_first_and_stay_in_their_balls(layers: tuple[str, ...] | None) -> None:
    generator = tiny_generator().fold()
    latent = generator.sample_latents(1, generator=stream(0, "latent"))
    radius, steps = 0.1, 3
    moving = Activations(_pieces(generator, layers), latent, radius, steps)
    with torch.no_grad():
        torch.testing.assert_close(moving.image(), generator(latent))
    names = [moving.name]
    optimiser = torch.optim.Adam([{**group, "lr": 0.1} for group in moving.groups()])
    for _ in range(2 * steps):
        before, centre, place = moving.states[moving.place], moving.centre, moving.place
        optimiser.zero_grad()
        moving.image().square().sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        moving.project_()
        for tensor, middle in zip(before, centre, strict=True):
            distance = float((tensor - middle).detach().abs().sum())
            assert 0 < distance <= radius * float(middle.abs().sum()) * (1 + 1e-4)
        if moving.place != place:
            names.append(moving.name)
    assert names == (["start", "double-1"] if layers is None else list(layers))


def test_the_next_layer_starts_where_the_last_one_ended() -> None:
    generator = tiny_generator().fold()
    latent = generator.sample_latents(1, generator=stream(0, "latent"))
    moving = Activations(_pieces(generator, None), latent, radius=1.0, steps=1)
    with torch.no_grad():
        moving.states[0][0].mul_(1.1)
        here = moving.image()
    moving.project_()
    assert moving.name == "double-1"
    with torch.no_grad():
        torch.testing.assert_close(moving.image(), here)


# The l1 ball


vectors = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=12)


@given(vectors, st.floats(0, 200))
@settings(max_examples=60, deadline=None)
def test_projection_onto_the_l1_ball(values: list[float], radius: float) -> None:
    point = torch.tensor(values, dtype=torch.float64)
    found = project_onto_l1_ball(point, radius)
    assert float(found.abs().sum()) <= radius + 1e-9 * (1 + radius)
    torch.testing.assert_close(project_onto_l1_ball(found, radius + 1e-9), found, rtol=0, atol=1e-7)
    if float(point.abs().sum()) <= radius:
        assert torch.equal(found, point)
        return

    # The threshold is the root of a falling function, and no vertex of the ball is on the point's side of the plane
    # through the projection.
    def excess(threshold: float) -> float:
        return float((point.abs() - threshold).clamp(min=0).sum()) - radius

    threshold = brentq(excess, 0, float(point.abs().max()), xtol=1e-14)
    expected = point.sign() * (point.abs() - threshold).clamp(min=0)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    away = point - found
    assert radius * float(away.abs().max()) <= float(away @ found) + 1e-6 * (1 + radius) * (1 + float(away.norm()))


def test_projection_of_any_shape_keeps_signs_and_dtype() -> None:
    point = torch.randn(2, 3, 4, generator=stream(0, "point"))
    found = project_onto_l1_ball(point, 2.0)
    assert found.shape == point.shape and found.dtype == point.dtype
    assert float(found.abs().sum()) == pytest.approx(2, rel=1e-5)
    assert bool((found * point >= 0).all())
    assert not project_onto_l1_ball(point, 0.0).any()


# Sparse deviations


def test_deviations_from_black_are_the_lasso() -> None:
    truth = shaded(in_range()[1])
    operator = gaussian()
    y = measured(operator, truth)
    lasso = recover(operator, y, solver=Lasso(transform="dct", final_iterations=400), noise=NOISE)
    found = deviate(task_of(pose(operator, y, noise=NOISE)), torch.zeros_like(truth), "dct")
    torch.testing.assert_close(found.images, lasso.images)
    assert found.notes[0]["lambda"] == pytest.approx(lasso.notes[0]["lambda"])


def test_deviations_find_the_spots_on_any_images() -> None:
    _, images = in_range(2)
    operator = gaussian()
    problem = pose(operator, measured(operator, spotted(images)), noise=NOISE)
    found = deviate(task_of(problem), images, "pixel")
    assert float((found.images - spotted(images)).square().mean()) < 1e-3
    assert not found.exhausted.any()
    with pytest.raises(ValueError, match="expected") as caught:
        deviate(task_of(problem), images[:1], "pixel")
    assert_one_sentence(caught.value)


def test_nothing_is_added_where_nothing_is_left() -> None:
    _, images = in_range()
    operator = gaussian()
    problem = pose(operator, operator(images))
    torch.testing.assert_close(deviate(task_of(problem), images, "dct").images, images, atol=1e-5, rtol=0)


def test_sparse_deviations_are_for_least_squares() -> None:
    generator, images = in_range()
    operator = gaussian()
    with pytest.raises(ValueError, match="least squares") as caught:
        recover(operator, operator(images), generator, solver=SparseDeviation(SEARCH), fidelity=L1())
    assert_one_sentence(caught.value)


# What a search hands on, and what is held out


@pytest.mark.parametrize("kind", [ImageAdaptive, IntermediateLayers, SparseDeviation])
def test_a_search_without_latents_is_refused(kind: Callable[..., Solver]) -> None:
    generator, images = in_range()
    operator = gaussian()
    with pytest.raises(ValueError, match="latents") as caught:
        recover(operator, operator(images), generator, solver=kind(Lasso()))
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("kind", [ImageAdaptive, IntermediateLayers])
@pytest.mark.parametrize(("fraction", "m"), [(0.01, M), (0.99, M), (1.0, M), (None, 18)])
def test_too_few_held_out_measurements_are_refused(kind: Callable[..., Solver], fraction: float | None, m: int) -> None:
    generator, images = in_range()
    operator = Gaussian(SHAPE, m, seed=0)
    tuning = replace(TUNING, held_out=fraction)
    with pytest.raises(ValueError, match="held-out fraction") as caught:
        recover(operator, measured(operator, shaded(images)), generator, solver=kind(SEARCH, tuning=tuning))
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("measure", [gaussian, fourier])
@given(fraction=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_a_split_is_disjoint_complete_and_keeps_complex_samples_whole(
    measure: Callable[[], LinearOperator], fraction: float, seed: int
) -> None:
    operator = measure()
    images = torch.rand(2, *SHAPE, generator=stream(0, "images"))
    problem = pose(operator, operator(images))
    kept, out = problem.split(fraction, stream(seed, "split"))
    assert kept.rows is not None and out.rows is not None
    assert sorted([*kept.rows.tolist(), *out.rows.tolist()]) == list(range(M))
    assert out.m == pytest.approx(fraction * M, abs=2)
    assert kept.gain + out.gain == pytest.approx(problem.gain)
    if operator.out_is_complex:
        for part in (kept, out):
            assert {int(row) ^ 1 for row in part.rows} == set(part.rows.tolist())  # type: ignore[union-attr]
    every = torch.arange(2)
    whole = problem.residual(images.flip(0), every)
    for part in (kept, out):
        torch.testing.assert_close(part.residual(images.flip(0), every), whole[:, part.rows])
        vector = torch.randn(2, part.m, generator=stream(0, "vector"))
        measured_part, back = part.measure(images), part.adjoint(vector)
        torch.testing.assert_close((measured_part * vector).sum(), (images * back).sum(), rtol=1e-4, atol=1e-4)


# Back-projection


def dense(problem: Problem) -> Tensor:
    """A as a matrix ``(m, n)`` of doubles."""
    units = torch.eye(problem.operator.n).reshape(-1, *problem.operator.in_shape)
    return problem.measure(units).T.double()


@pytest.mark.parametrize("measure", [lambda: Gaussian((1, 8, 8), 20, seed=0), None], ids=["gaussian", "fourier"])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_back_projection_against_the_closed_form(measure: Callable[[], LinearOperator] | None, noise: float) -> None:
    operator = SubsampledFourier((1, 8, 8), 20, seed=0) if measure is None else measure()
    truth = torch.rand(3, 1, 8, 8, generator=stream(0, "truth"))
    images = (truth + 0.1 * torch.randn(truth.shape, generator=stream(1, "off"))).clone()
    problem = pose(operator, measured(operator, truth, noise), noise=noise)
    variance = torch.tensor([0.01, 0.03, 0.1])
    found = back_project(problem, images, variance)
    matrix, y = dense(problem), problem.measurements.double()
    for image, moved, size, right in zip(images, found, variance.double(), y, strict=True):
        inner = size * matrix @ matrix.T + noise**2 * torch.eye(len(matrix), dtype=torch.float64)
        left = right - matrix @ image.flatten().double()
        expected = image.flatten().double() + size * matrix.T @ torch.linalg.pinv(inner, rtol=1e-10) @ left
        torch.testing.assert_close(moved.flatten().double(), expected, rtol=0, atol=2e-3)
    if noise == 0:
        assert float(problem.residual(found, torch.arange(3)).abs().max()) < 1e-3
        errors = [(some - truth).square().sum((1, 2, 3)) for some in (found, images)]
        assert bool((errors[0] <= errors[1] + 1e-6).all())


def test_back_projection_leaves_alone_what_it_knows_nothing_about() -> None:
    operator = Gaussian((1, 8, 8), 20, seed=0)
    images = torch.rand(3, 1, 8, 8, generator=stream(0, "images"))
    problem = pose(operator, torch.randn(3, 20, generator=stream(0, "y")))
    assert torch.equal(back_project(problem, images, torch.tensor([0.0, math.nan, -1.0])), images)
    some = back_project(problem, images, torch.tensor([0.0, math.inf, 0.1]))
    assert torch.equal(some[:2], images[:2]) and not torch.equal(some[2], images[2])
    assert torch.equal(back_project(replace(problem, fidelity=L1()), images, torch.ones(3)), images)


def test_the_error_variance_estimates_the_squared_error() -> None:
    operator, noise = Gaussian(SHAPE, 400, seed=0), 0.05
    images = torch.rand(4, *SHAPE, generator=stream(0, "images"))
    off = images + 0.2 * torch.randn(images.shape, generator=stream(1, "off"))
    problem = pose(operator, measured(operator, images, noise), noise=noise)
    misfit = problem.residual(off, torch.arange(4)).square().mean(1)
    torch.testing.assert_close(error_variance(problem, misfit), torch.full((4,), 0.04), rtol=0.25, atol=0)
    assert not error_variance(problem, torch.full((4,), noise**2 / 2)).any()


# Total variation


def test_total_variation_in_closed_form() -> None:
    height, width = 5, 7
    pixels = (height - 1) * (width - 1)
    ramp = torch.arange(width).float().expand(height, width)
    flat, slanted = torch.full((1, 3, height, width), 0.3), (0.1 * ramp).expand(1, 3, height, width)
    torch.testing.assert_close(total_variation(flat), torch.tensor([SMOOTHING * pixels / (3 * height * width)]))
    length = math.sqrt(9 * 0.1**2 + SMOOTHING**2)
    torch.testing.assert_close(total_variation(slanted), torch.tensor([length * pixels / (3 * height * width)]))


def test_total_variation_of_equal_channels_is_that_of_one() -> None:
    grey = torch.rand(2, 1, 8, 8, generator=stream(0, "grey"), dtype=torch.float64)
    torch.testing.assert_close(total_variation(grey.expand(-1, 3, -1, -1)), total_variation(grey), rtol=1e-3, atol=0)
    assert torch.autograd.gradcheck(total_variation, (grey.expand(-1, 3, -1, -1).clone().requires_grad_(),))
    assert float(total_variation(grey[:1] + 0.5)) == pytest.approx(float(total_variation(grey[:1])))


# Shifts


@pytest.mark.parametrize("shift", [*SHIFTS, (0, 0), (0, 2), (-3, 1)])
def test_a_shifted_image_lies_on_another(shift: tuple[int, int]) -> None:
    images, onto = torch.rand(2, 2, 3, 5, 6, generator=stream(0, "shifted"))
    found = shifted(images, shift, onto)
    for row, column in itertools.product(range(5), range(6)):
        source = (row - shift[0], column - shift[1])
        inside = 0 <= source[0] < 5 and 0 <= source[1] < 6
        expected = images[..., *source] if inside else onto[..., row, column]
        assert torch.equal(found[..., row, column], expected)


def test_several_shifts_are_fitted_to_all_measurements_and_averaged() -> None:
    A, (generator, images) = gaussian(), in_range()
    values = measured(A, spotted(images))
    recoveries = {
        count: recover(A, values, generator, solver=ImageAdaptive(SEARCH, TUNING, shifts=count), noise=NOISE)
        for count in (1, 2)
    }
    steps = {
        count: sum(record.phase == "image-adaptive-again" for record in recovery.history)
        for count, recovery in recoveries.items()
    }
    assert not torch.equal(recoveries[1].images, recoveries[2].images)
    assert steps[1] < steps[2] <= 3 * steps[1]  # the shifted one takes at most twice as long to fit as well


@pytest.mark.parametrize("count", [0, 6])
def test_there_are_one_to_five_shifts(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 5") as error:
        ImageAdaptive(shifts=count)
    assert_one_sentence(error.value)


# Tuning


def test_where_tuning_only_harms_the_search_stands() -> None:
    """An image in range with more noise than was stated is not explained, and every step leads away from it."""
    generator, images = in_range()
    y, operator = measured(gaussian(), images, noise=0.02), gaussian()
    solver = ImageAdaptive(SEARCH, Tuning(iterations=20, learning_rate=0.3, folds=1))
    tuned = recover(operator, y, generator, solver=solver, noise=0.015)
    assert tuned.notes[0]["iteration"] == 0 and tuned.notes[0]["iterations"] > 0
    assert mse(tuned, images) < 0.02**2 * M / 768  # as much as back-projection onto all measurements would leave


def test_blind_searches_have_a_phase_of_their_own_and_stop_with_the_rest() -> None:
    generator, images = in_range()
    operator, seen = gaussian(), []
    y = measured(operator, shaded(images))
    solver = ImageAdaptive(SEARCH, replace(TUNING, folds=5), shifts=1)

    def cancel() -> bool:
        return "blind-search" in seen

    stopped = recover(
        operator, y, generator, solver=solver, cancel=cancel, progress=lambda record: seen.append(record.phase)
    )
    assert stopped.status == (Status.INTERRUPTED,)
    assert 1 <= seen.count("blind-search") <= 4  # what is left of the first of five
    assert set(seen) == {"levenberg-marquardt", "blind-search"}
    assert "blind-search" in stopped.timings and "adam" not in stopped.timings
    torch.testing.assert_close(stopped.images, recover(operator, y, generator, solver=SEARCH).images)


@pytest.mark.parametrize("name", ["image-adaptive", "intermediate-layers", "auto"])
@pytest.mark.parametrize("fidelity", [None, MedianOfMeans(0.02, block_size=20)])
def test_what_cannot_be_held_out_is_refused_before_the_search(name: str, fidelity: Fidelity | None) -> None:
    generator, images = in_range()
    m = 15 if fidelity is None else 60
    solver: Solver = BEYOND[name] if name in BEYOND else Auto(unaided=SEARCH)
    if name == "auto" and fidelity is None:
        m, solver = 60, Auto(unaided=SEARCH, beyond=ImageAdaptive(tuning=Tuning(held_out=0.9)))
    operator, seen = Gaussian(SHAPE, m, seed=0), []
    with pytest.raises(ValueError, match="try") as caught:
        recover(operator, operator(images), generator, solver=solver, fidelity=fidelity, progress=seen.append)
    assert_one_sentence(caught.value)
    assert not seen


def test_what_is_held_out_is_unknown_to_where_the_fits_start() -> None:
    """With half as many latents as measurements, latents that all of these found miss the held-out ones by less than a
    third of the image's error.
    """
    latents, m, gain = 40, 80, 1 / 80
    weight = 0.02 * torch.randn(768, latents, generator=stream(0, "weight"))
    generator = LinearGenerator(weight, SHAPE)
    truth = (0.5 + 0.1 * torch.randn(12, *SHAPE, generator=stream(1, "truth"))).clamp(0, 1)
    operator = Gaussian(SHAPE, m, seed=0)
    still = Tuning(iterations=10, learning_rate=1e-12, total_variation=0.0, folds=1)
    first: dict[int, Tensor] = {}

    def watch(images: Tensor, which: Tensor) -> None:
        first.update(zip(which.tolist(), images.clone(), strict=True))

    solver = ImageAdaptive(SEARCH, still, shifts=1, blind=SEARCH)
    found = recover(operator, operator(truth), generator, solver=solver, observe=watch)
    told = sum(note["held_out_misfit"] for note in found.notes) / (12 * gain * 768)
    true = sum(float((first[index] - image).square().mean()) for index, image in enumerate(truth)) / 12
    assert told == pytest.approx(true, rel=0.3)
    alone = recover(operator, operator(truth), generator, solver=SEARCH)
    assert mse(found, truth) < 1.05 * mse(alone, truth)  # the result itself starts from what all measurements found


def test_the_weights_of_the_tuning_follow_the_problem() -> None:
    operator = gaussian()
    quiet = pose(operator, torch.ones(1, M))
    loud = replace(quiet, noise=10.0)
    assert Tuning().weight(quiet) == pytest.approx(TV_BY_COUNT / math.sqrt(M))
    assert Tuning().weight(loud) == pytest.approx(10 * TV_BY_NOISE / math.sqrt(quiet.gain))
    assert Tuning(total_variation=0.0).weight(loud) == 0
    assert Tuning().rate(quiet) == RATE and Tuning(learning_rate=0.5).rate(quiet) == 0.5


def test_without_total_variation_a_linear_generator_tunes_to_the_measurements() -> None:
    """With every measurement in the range of the weights, tuning explains what no latent does."""
    weight = 0.02 * torch.randn(768, 3, generator=stream(0, "weight"))
    generator = LinearGenerator(weight, SHAPE)
    truth = (0.5 + 0.1 * torch.randn(1, *SHAPE, generator=stream(1, "truth"))).clamp(0, 1)
    operator = gaussian()
    solver = ImageAdaptive(SEARCH, replace(TUNING, total_variation=0.0), shifts=1)
    tuned = recover(operator, operator(truth), generator, solver=solver)
    alone = recover(operator, operator(truth), generator, solver=SEARCH)
    assert tuned.relative_residual[0] < 1e-3 < alone.relative_residual[0]
    assert torch.equal(generator.weight, weight)
    assert tuned.latents is not None and "solver_settings" in tuned.configuration
    assert asdict(solver)["tuning"]["patience"] == TUNING.patience
