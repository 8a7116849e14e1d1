"""The default solver's choices, learned starts in its search, and projected gradients by the same encoder."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from helpers import LinearGenerator, assert_one_sentence, tiny_generator
from hypothesis import given
from hypothesis import strategies as st
from test_learned_start import SMALL, linear_encoder, trained
from torch import Tensor

from cs_lip.operators import Gaussian, Mask, SubsampledFourier
from cs_lip.priors import Encoder, untrained_network
from cs_lip.recovery import (
    Adam,
    Auto,
    Found,
    ImageAdaptive,
    Lasso,
    LatentSearch,
    LevenbergMarquardt,
    Record,
    Recovery,
    Round,
    Solver,
    Status,
    Task,
    TotalVariation,
    Trimmed,
    Tuning,
    UntrainedFit,
    pose,
    pose_latents,
    recover,
)
from cs_lip.recovery.back_projection import back_project, error_variance
from cs_lip.recovery.latent_search import _place_in_image
from cs_lip.recovery.latent_solver import Candidates
from cs_lip.recovery.learned_start import learned_starts
from cs_lip.recovery.npgd import ProjectedGradient
from cs_lip.recovery.trace import Trace
from cs_lip.recovery.tuning import EVERY
from cs_lip.seeding import stream

SHAPE = (3, 16, 16)
M = 200
A = Gaussian(SHAPE, M, seed=0)

SEARCH = LatentSearch((Round(Adam(steps=60), keep=0.3),), last=None, refine=LevenbergMarquardt(10), restarts=10)
QUICK = Auto(
    search=SEARCH,
    unaided=SEARCH,
    beyond=ImageAdaptive(tuning=Tuning(iterations=30, folds=1, learning_rate=2e-3)),
    rivals=(TotalVariation(6, 6, 10), Lasso(6, 6, 10, transform="wavelet")),
    untrained=UntrainedFit(iterations=12, stop="last"),
)
"""The default with fewer iterations."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return trained(tiny_generator(), SMALL)


def drawn(count: int = 1) -> Tensor:
    """Images in the tiny generator's range."""
    generator = tiny_generator()
    with torch.no_grad():
        images: Tensor = generator(generator.sample_latents(count, generator=stream(3, "images")))
    return images


def picture() -> Tensor:
    """A disc on a ramp: beyond the tiny generator's range, ``(1, 3, 16, 16)``."""
    x, y = torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16)[:, None]
    disc = torch.where(x.square() + y.square() < 0.4, 0.9, 0.2) + 0.1 * x
    return torch.stack([disc, 0.8 * disc, 1 - disc]).clamp(0, 1)[None]


def by(solver: Solver, images: Tensor, **arguments: Any) -> Recovery:
    return recover(A, A(images), tiny_generator(), solver=solver, **arguments)


def mse(recovery: Recovery, images: Tensor) -> list[float]:
    return [float(error) for error in (recovery.images - images).square().mean((1, 2, 3))]


def chosen(recovery: Recovery) -> list[str]:
    return [note["chosen"] for note in recovery.notes]


@pytest.fixture(scope="module")
def beyond() -> Recovery:
    """The default on an image beyond the range."""
    return by(QUICK, picture())


# What the default chooses


def test_an_image_in_range_is_left_to_its_search() -> None:
    images = drawn(2)
    found, search = by(QUICK, images), by(QUICK.search, images)
    assert chosen(found) == ["latent-search"] * 2
    assert torch.equal(found.images, search.images)
    assert found.latents is not None
    assert torch.equal(found.latents, search.latents)
    assert found.status == (Status.CONVERGED,) * 2
    assert {record.phase for record in found.history} == {record.phase for record in search.history}


def test_beyond_the_range_the_choice_is_closer_than_the_search_and_says_why(beyond: Recovery) -> None:
    found, search = beyond, by(QUICK.search, picture())
    assert chosen(found)[0] in ("image-adaptive", "tv")
    assert "image-adaptive" in found.notes[0]["reason"]
    assert "tv" in found.notes[0]["reason"]
    assert mse(found, picture())[0] < 0.7 * mse(search, picture())[0]
    assert found.status[0] in (Status.STOPPED, Status.MAX_ITERATIONS, Status.CONVERGED)
    json.dumps([found.notes, found.configuration])


def test_images_of_a_batch_are_chosen_for_one_by_one(beyond: Recovery) -> None:
    images = torch.cat([picture(), drawn(), picture().flip(3)])
    batch = by(QUICK, images)
    assert chosen(batch)[1] == "latent-search"
    assert "latent-search" not in (chosen(batch)[0], chosen(batch)[2])
    assert mse(batch, images)[1] < 1e-7
    assert {len(record.relative_residual) for record in batch.history} == {3}
    beyond_the_range = [record for record in batch.history if record.phase in ("image-adaptive", "path")]
    assert beyond_the_range
    assert all(math.isnan(record.relative_residual[1]) for record in beyond_the_range)
    torch.testing.assert_close(batch.images[:1], beyond.images, rtol=0, atol=1e-4)
    assert chosen(batch)[0] == chosen(beyond)[0]


def test_the_same_seed_gives_the_same_result_and_touches_nothing_global(beyond: Recovery) -> None:
    generator, y = tiny_generator(), A(picture())
    before, weights = torch.get_rng_state(), {name: value.clone() for name, value in generator.state_dict().items()}
    again = recover(A, y, generator, solver=QUICK)
    assert torch.equal(again.images, beyond.images)
    assert again.notes == beyond.notes
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, weights[name]) for name, value in generator.state_dict().items())


@pytest.mark.parametrize("m", [7, 39])
def test_with_few_measurements_none_are_held_out(m: int, encoder: Encoder) -> None:
    operator = Gaussian(SHAPE, m, seed=0)
    searched = recover(operator, operator(picture()), tiny_generator(), solver=QUICK)
    assert chosen(searched) == ["latent-search"]
    assert "fewer than 40" in searched.notes[0]["reason"]
    told = recover(operator, operator(picture()), tiny_generator(), solver=QUICK, encoder=encoder)
    assert chosen(told) == ["linear-estimate"]


def test_fewer_measurements_than_latents_do_not_place_an_image_in_range() -> None:
    """Any of them can be explained, so that they are explained says nothing."""
    weight = torch.randn(3 * 8 * 8, 60, generator=stream(0, "weight")) / 60
    generator, operator = LinearGenerator(weight, (3, 8, 8)), Gaussian((3, 8, 8), 50, seed=0)
    image = picture()[..., ::2, ::2]
    found = recover(operator, operator(image), generator, solver=QUICK, latent_penalty=0.0)
    assert chosen(found)[0] in ("image-adaptive", "tv")


def test_without_a_prior_the_classical_solvers_compete() -> None:
    found = recover(A, A(picture()), solver=QUICK)
    assert chosen(found)[0] in ("tv", "lasso-wavelet")
    assert all(name in found.notes[0]["reason"] for name in ("tv", "lasso-wavelet"))
    assert found.latents is None


def test_an_untrained_network_is_fitted() -> None:
    network = untrained_network("deep_decoder", SHAPE, 0, channels=8, depth=2)
    found = recover(A, A(picture()), network, solver=QUICK)
    assert chosen(found) == ["untrained"]
    assert torch.equal(found.images, recover(A, A(picture()), network, solver=QUICK.untrained).images)


def test_a_robust_fidelity_has_no_rival() -> None:
    found = by(QUICK, picture(), fidelity=Trimmed(0.05))
    assert chosen(found) == ["image-adaptive"]
    assert "tv" not in found.notes[0]["reason"]


@pytest.mark.parametrize("after", [0, 1, "image-adaptive", "path"])
def test_an_interrupted_recovery_brings_the_best_so_far(after: int | str) -> None:
    seen: list[Record] = []
    phases = {"image-adaptive": 15, "path": 12}

    def cancel() -> bool:
        if isinstance(after, int):
            return len(seen) >= after
        return sum(record.phase == after for record in seen) >= phases[after]

    found = by(QUICK, picture(), progress=seen.append, cancel=cancel)
    assert found.status == (Status.INTERRUPTED,)
    assert torch.isfinite(found.images).all()
    assert chosen(found)[0] in (["latent-search"] if isinstance(after, int) else ["image-adaptive", "tv"])
    assert len(seen) < 600


@pytest.mark.parametrize(
    ("phase", "after", "brings"),
    [
        ("image-adaptive", 1, "what the search found"),
        ("image-adaptive", 38, "what the first pass chose"),
        ("image-adaptive-again", 3, "what the first pass chose"),
        ("image-adaptive-again", 45, "the first of the shifts"),
    ],
)
def test_tuning_that_is_interrupted_is_no_worse_than_what_it_began_with(phase: str, after: int, brings: str) -> None:
    seen: list[Record] = []
    looks: list[Tensor] = []
    solver = ImageAdaptive(SEARCH, Tuning(iterations=40, folds=1, learning_rate=2e-3))
    found = by(
        solver,
        picture(),
        progress=seen.append,
        observe=lambda images, which: looks.append(images),
        cancel=lambda: sum(record.phase == phase for record in seen) >= after,
    )
    assert found.status == (Status.INTERRUPTED,)
    assert sum(record.phase == phase for record in seen) == after
    searched = by(SEARCH, picture())
    if brings == "what the search found":
        torch.testing.assert_close(found.images, searched.images)
        return
    chosen = looks[found.notes[0]["iteration"] // EVERY].clamp(0, 1)
    assert mse(found, picture())[0] < mse(searched, picture())[0]
    if brings == "what the first pass chose":
        torch.testing.assert_close(found.images, chosen)
    else:
        assert mse(found, picture())[0] < float((chosen - picture()).square().mean())


def test_interrupted_tuning_whose_blind_start_was_bad_brings_what_the_search_found() -> None:
    seen: list[Record] = []
    solver = ImageAdaptive(SEARCH, Tuning(iterations=40, folds=1, learning_rate=1e-6), blind=Adam(steps=1, restarts=1))
    found = by(
        solver,
        picture(),
        progress=seen.append,
        cancel=lambda: sum(record.phase == "image-adaptive" for record in seen) >= 25,
    )
    assert found.notes[0]["iteration"] > 0
    torch.testing.assert_close(found.images, by(SEARCH, picture()).images)


def test_tuning_that_diverges_brings_what_the_search_found() -> None:
    solver = ImageAdaptive(SEARCH, Tuning(iterations=20, folds=1, learning_rate=1e30), shifts=3)
    found, searched = by(solver, picture()), by(SEARCH, picture())
    assert found.notes[0]["iteration"] == 0
    problem = pose(A, A(picture()))
    misfit = torch.tensor([found.notes[0]["held_out_misfit"]])
    expected = back_project(problem, searched.images, error_variance(problem, misfit))
    torch.testing.assert_close(found.images, expected.clamp(0, 1))


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_under_heavy_noise_what_explains_an_image_is_refined(noise: float) -> None:
    images = drawn(4)
    y = A(images) + noise * torch.randn(4, M, generator=stream(0, "noise"))
    problem = pose_latents(pose(A, y, noise=noise), tiny_generator())
    found = recover(A, y, tiny_generator(), solver=SEARCH, noise=noise)
    which = torch.arange(4)
    further = LevenbergMarquardt(30).solve(problem, found.latents, which, Trace(problem.problem))
    levels = [problem.objective(problem.residual(z, which), z) for z in (found.latents, further.latents)]
    assert (levels[0] <= 1.02 * levels[1]).all()


def test_complex_measurements_of_double_precision_are_taken() -> None:
    F = SubsampledFourier((3, 16, 16), 200, seed=0)
    y = F(drawn())
    one, other = (
        recover(F, values, tiny_generator(), solver=LevenbergMarquardt(restarts=1))
        for values in (y, y.to(torch.complex128))
    )
    torch.testing.assert_close(one.images, other.images)


@given(which=st.lists(st.integers(0, 4), max_size=30))
def test_the_place_of_a_row_is_how_many_of_its_image_come_before_it(which: list[int]) -> None:
    rows = torch.tensor(which, dtype=torch.long)
    candidates = Candidates(rows[:, None], rows, rows[:, None], torch.ones_like(rows, dtype=torch.bool))
    assert _place_in_image(candidates).tolist() == [which[:place].count(one) for place, one in enumerate(which)]


def test_an_image_that_overflows_spoils_no_other() -> None:
    images = torch.cat([picture(), drawn()])
    found = recover(A, A(images) * torch.tensor([[1e25], [1.0]]), tiny_generator(), solver=QUICK)
    assert found.status[0] != Status.CONVERGED
    assert found.status[1] == Status.CONVERGED
    assert mse(found, images)[1] < 1e-7


@dataclass(frozen=True)
class Claims:
    """A rival, known as ``tv``, that claims a misfit on 50 held-out measurements."""

    misfit: float | None

    def recover(self, task: Task) -> Found:
        images = torch.zeros(task.problem.images, *SHAPE)
        residual = task.problem.residual(images, torch.arange(len(images)))
        notes = tuple({"held_out": 50, "held_out_misfit": self.misfit} for _ in images)
        return Found(images, residual, (Status.STOPPED,) * len(images), notes=notes)


@dataclass(frozen=True)
class LassoClaims(Lasso):
    """Another, known as ``lasso-dct``."""

    misfit: float | None = None

    def recover(self, task: Task) -> Found:
        return Claims(self.misfit).recover(task)


@pytest.mark.parametrize(
    ("first", "second", "best"),
    [
        (1.0, 0.7, "lasso-dct"),
        (1.0, 0.9, "tv"),  # within the error of a mean of 50 squares, a fifth
        (1.0, None, "tv"),
        (None, 5.0, "lasso-dct"),
        (None, None, "tv"),
        (1.0, math.nan, "tv"),
        (math.nan, 1.0, "lasso-dct"),
    ],
)
def test_held_out_measurements_decide_beyond_chance(first: float | None, second: float | None, best: str) -> None:
    solver = Auto(rivals=(Claims(first), LassoClaims(misfit=second)))
    assert chosen(recover(A, A(picture()), solver=solver)) == [best]


# The log of some of the images


def test_a_part_of_the_log_counts_images_from_zero() -> None:
    seen: list[Record] = []
    shown: list[tuple[Tensor, Tensor]] = []
    stop = [False]
    problem = pose(A, A(torch.cat([drawn(3), picture()])))
    trace = Trace(problem, seen.append, lambda: stop[0], lambda images, which: shown.append((images, which)))
    task = Task(problem, tiny_generator(), seed=0, trace=trace)
    inner = task.only(torch.tensor([3, 1, 0])).only(torch.tensor([2, 0]))
    assert torch.equal(inner.problem.measurements, problem.measurements[[0, 3]])

    residual = torch.tensor([[1.0], [2.0], [3.0]]) * torch.ones(M)
    which = torch.tensor([1, 0, 1])
    with inner.trace.timed("inner"):
        inner.trace.log("inner", residual, which)
        trace.log("inner", residual[:1], torch.tensor([2]))
    size = problem.measurements.norm(dim=1)
    record, next_record = trace.history
    assert record.relative_residual[0] == pytest.approx(float(2 * M**0.5 / size[0]))
    assert record.relative_residual[3] == pytest.approx(float(1 * M**0.5 / size[3]))
    assert all(math.isnan(record.relative_residual[image]) for image in (1, 2))
    assert (record.iteration, next_record.iteration) == (1, 2)
    assert inner.trace.history is trace.history
    assert seen == trace.history
    assert trace.timings["inner"] > 0
    inner.trace.observe(picture(), torch.tensor([1]))
    assert torch.equal(shown[0][1], torch.tensor([3]))
    assert not inner.trace.cancelled
    stop[0] = True
    assert inner.trace.cancelled
    assert inner.trace.seconds() > 0


# Learned starts


def test_the_search_finds_images_in_range_from_learned_starts_alone(encoder: Encoder) -> None:
    images = drawn(4)
    found = by(LatentSearch(), images, encoder=encoder)
    assert found.status == (Status.CONVERGED,) * 4
    assert max(mse(found, images)) < 1e-7
    assert found.configuration["learned_starts"] == 3
    assert {record.phase for record in found.history} == {"levenberg-marquardt"}
    without = by(LatentSearch(), images)
    assert without.configuration["learned_starts"] == 0
    assert len(found.history) < len(without.history)


def test_waves_follow_where_learned_starts_do_not_explain(encoder: Encoder) -> None:
    images = torch.cat([picture(), drawn()])
    search = LatentSearch(restarts=10, last=None)
    found, without = by(search, images, encoder=encoder), by(search, images)
    waves = [record for record in found.history if record.phase == "adam"]
    assert waves
    assert all(math.isnan(record.relative_residual[1]) for record in waves)
    assert found.relative_residual[0] <= 1.01 * without.relative_residual[0]


@pytest.mark.parametrize(
    "solver", [LatentSearch(), ProjectedGradient(), QUICK], ids=lambda solver: type(solver).__name__
)
def test_an_encoder_of_another_generator_is_refused(solver: Solver, encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="another generator") as refused:
        recover(A, A(drawn()), tiny_generator(seed=1), solver=solver, encoder=encoder)
    assert_one_sentence(refused.value)


def test_the_starts_of_an_image_do_not_depend_on_the_others(encoder: Encoder) -> None:
    images = drawn(3)
    batch = pose_latents(pose(A, A(images)), tiny_generator())
    latents, which = learned_starts(batch, encoder, 3, seed=7)
    assert which.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    alone = pose_latents(pose(A, A(images[:1])), tiny_generator())
    torch.testing.assert_close(learned_starts(alone, encoder, 3, seed=7)[0], latents[:3])
    torch.testing.assert_close(learned_starts(batch, encoder, 1, seed=8)[0], latents[::3])
    assert torch.pdist(latents.flatten(1)).min() > 1e-3


@pytest.mark.parametrize("kind", ["fourier", "mask"])
def test_learned_starts_serve_every_operator(kind: str, encoder: Encoder) -> None:
    kept = torch.rand(SHAPE, generator=stream(0, "mask")) < 0.1
    operator = {"fourier": SubsampledFourier(SHAPE, 80, seed=0, pattern="centre"), "mask": Mask(kept)}[kind]
    images = drawn(2)
    found = recover(operator, operator(images), tiny_generator(), solver="latent-search", encoder=encoder)
    assert found.status == (Status.CONVERGED,) * 2
    assert max(mse(found, images)) < 1e-6


def spoilt(measurements: Tensor, share: float = 0.05) -> Tensor:
    """With gross errors in a random part of them."""
    where = torch.rand(measurements.shape, generator=stream(1, "outliers")) < share
    return torch.where(where, measurements + 50, measurements)


def test_a_robust_fidelity_keeps_outliers_out_of_the_start(encoder: Encoder) -> None:
    y, generator = A(drawn(4)), tiny_generator()

    def starts(measurements: Tensor, **fidelity: Trimmed) -> Tensor:
        problem = pose_latents(pose(A, measurements, **fidelity), generator)
        return learned_starts(problem, encoder, 1, seed=0)[0]

    clean, robust, misled = starts(y), starts(spoilt(y), fidelity=Trimmed(0.1)), starts(spoilt(y))
    assert (robust - clean).square().mean() < 0.1 * (misled - clean).square().mean()
    found = recover(A, spoilt(y), generator, solver="latent-search", fidelity=Trimmed(0.1), encoder=encoder)
    assert max(mse(found, drawn(4))) < 1e-6


# Projected gradients


def exact_pair(components: int = 4) -> tuple[LinearGenerator, Encoder]:
    """A linear generator and the encoder that projects on its range, but for the shrinkage by what it is told."""
    encoder = linear_encoder(components)
    encoder.mean.fill_(0.5)
    generator = LinearGenerator(encoder.basis.T * encoder.variances.sqrt(), encoder.image_shape)
    encoder.probe.normal_(generator=stream(0, "probe"))
    encoder.probe_coefficients.copy_(encoder.variances.sqrt() * encoder.probe)
    return generator, encoder


def test_projected_gradients_are_those_of_the_formula() -> None:
    generator, encoder = exact_pair()
    operator = 3.0 * Gaussian(encoder.image_shape, 20, seed=2)
    problem = pose(operator, operator(torch.rand(1, *encoder.image_shape, generator=stream(2, "x"))))
    solver = ProjectedGradient(step=0.7, iterations=4, patience=9)
    found = recover(operator, problem.measurements, generator, solver=solver, encoder=encoder)

    matrix = operator.to_matrix().double()
    basis, variances, y = encoder.basis.T.double(), encoder.variances.double(), problem.measurements[0].double()
    x = generator(learned_starts(pose_latents(problem, generator), encoder, 1, 0)[0])[0].flatten().double()
    for record in found.history:
        residual = y - matrix @ x
        assert record.relative_residual[0] == pytest.approx(float(residual.norm() / y.norm()), rel=1e-4)
        moved = x + 0.7 / problem.gain * matrix.T @ residual
        level = residual.square().sum() / (problem.gain * problem.m)
        x = 0.5 + basis @ (variances / (variances + level) * (basis.T @ (moved - 0.5)))
    assert len(found.history) == 4


@pytest.mark.parametrize("kind", [Gaussian, SubsampledFourier])
def test_with_an_exact_projection_images_in_range_are_found(kind: type[Gaussian | SubsampledFourier]) -> None:
    generator, encoder = exact_pair()
    operator = kind(encoder.image_shape, 30, seed=2)
    images = generator(generator.sample_latents(3, generator=stream(4, "z")))
    found = recover(operator, operator(images), generator, solver=ProjectedGradient(), encoder=encoder)
    assert found.status == (Status.CONVERGED,) * 3
    torch.testing.assert_close(found.images, images, rtol=0, atol=1e-3)
    assert found.latents is not None
    torch.testing.assert_close(generator(found.latents), found.images)
    assert found.configuration["latent_penalty"] == 0
    wild = operator(images) * torch.tensor([[1.0], [1e25], [1.0]])
    others = recover(operator, wild, generator, solver=ProjectedGradient(), encoder=encoder)
    assert others.status == (Status.CONVERGED, Status.DIVERGED, Status.CONVERGED)


def test_the_iterate_of_least_misfit_comes_back(encoder: Encoder) -> None:
    images = torch.cat([drawn(2), picture()])
    found = by(ProjectedGradient(iterations=30, patience=5), images, encoder=encoder)
    values = torch.tensor([record.relative_residual for record in found.history])
    least = torch.where(values.isnan(), math.inf, values).min(0).values.tolist()
    assert found.relative_residual == pytest.approx(least, rel=1e-4)
    again = by(ProjectedGradient(iterations=30, patience=5), images[:1], encoder=encoder)
    torch.testing.assert_close(again.images, found.images[:1], rtol=0, atol=1e-5)
    more = by(ProjectedGradient(restarts=4), images, encoder=encoder)
    assert all(new <= 1.0001 * old for new, old in zip(more.relative_residual, found.relative_residual, strict=True))


def test_projected_gradients_leave_out_what_a_robust_fidelity_leaves_out() -> None:
    generator, encoder = exact_pair()
    operator = Gaussian(encoder.image_shape, 30, seed=2)
    images = generator(generator.sample_latents(1, generator=stream(4, "z")))
    y = operator(images)
    y[0, 5] += 50
    robust, misled = (
        recover(operator, y, generator, solver=ProjectedGradient(), encoder=encoder, **fidelity)
        for fidelity in ({"fidelity": Trimmed(0.1)}, {})
    )
    assert mse(robust, images)[0] < 0.01 * mse(misled, images)[0]


def test_projected_gradients_can_be_stopped(encoder: Encoder) -> None:
    seen: list[Record] = []
    found = by(ProjectedGradient(), picture(), encoder=encoder, progress=seen.append, cancel=lambda: len(seen) >= 2)
    assert found.status == (Status.INTERRUPTED,)
    assert len(seen) == 2


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "no encoder": (lambda: by(ProjectedGradient(), drawn()), "learned start"),
    "no step": (lambda: ProjectedGradient(step=0), "step must be a number above 0"),
    "step that is none": (lambda: ProjectedGradient(step=math.nan), "step must be a number above 0"),
    "no iteration": (lambda: ProjectedGradient(iterations=0), "iterations must be at least 1"),
    "no patience": (lambda: ProjectedGradient(patience=0), "patience must be at least 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_projected_gradients_are_refused_in_a_sentence(case: str) -> None:
    attempt, expected = BAD[case]
    with pytest.raises(ValueError, match=expected) as refused:
        attempt()
    assert_one_sentence(refused.value)
