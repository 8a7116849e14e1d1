"""Tuned generators only some of whose weights may move."""

import copy
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from helpers import assert_one_sentence, tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs_lip.operators import Gaussian
from cs_lip.priors import Generator
from cs_lip.recovery import LevenbergMarquardt, recover
from cs_lip.recovery.image_adaptive import ImageAdaptive, Weights, _rate
from cs_lip.recovery.tuning import Tuning
from cs_lip.seeding import stream

SHAPE, M, NOISE = (3, 16, 16), 300, 0.003
SOLVER = ImageAdaptive(LevenbergMarquardt(restarts=2), Tuning(iterations=20, learning_rate=1e-3, folds=1), shifts=1)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small lose more to handing work between threads than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def every(generator: Generator) -> dict[str, Tensor]:
    return {name: torch.ones_like(weights, dtype=torch.bool) for name, weights in generator.named_parameters()}


def some(generator: Generator, name: str, density: float) -> dict[str, Tensor]:
    shape = generator.get_parameter(name).shape
    return {name: torch.rand(shape, generator=stream(0, "moving")) < density}


def descended(drawing: Weights, steps: int) -> Weights:
    optimiser = torch.optim.Adam([{**group, "lr": 0.01 * group["lr"]} for group in drawing.groups()], fused=True)
    for _ in range(steps):
        optimiser.zero_grad()
        drawing.image().square().sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        drawing.project_()
    return drawing


@given(st.sampled_from(["first.weight", "rest.1.weight", "rest.3.bias"]), st.floats(0.1, 0.9))
@settings(max_examples=12, deadline=None)
def test_the_others_stay_exactly_where_they_are_under_adam(name: str, density: float) -> None:
    generator = tiny_generator().fold()
    before, latent = copy.deepcopy(generator.state_dict()), generator.sample_latents(1, generator=stream(0, "latent"))
    moving = some(generator, name, density)
    drawing = descended(Weights(generator, latent, moving=moving), 4)
    for other, weights in drawing.generator.named_parameters():
        same = weights == before[other]
        moves = moving.get(other, torch.zeros_like(same))
        assert bool(same[~moves].all())
        assert not moves.any() or bool((~same[moves]).any())
    assert bool((drawing.latent != latent).any())
    assert all(torch.equal(weights, before[other]) for other, weights in generator.state_dict().items())


def test_zeros_of_a_ticket_stay_zero_whatever_may_move() -> None:
    sparse = tiny_generator()
    kept = some(sparse, "main.3.weight", 0.5)["main.3.weight"]
    sparse.keep_({"main.3.weight": kept})
    folded = sparse.fold()
    latent = folded.sample_latents(1, generator=stream(0, "latent"))
    drawing = descended(Weights(folded, latent, moving=every(folded)), 3)
    weights = drawing.generator.get_parameter("rest.1.weight")
    assert not weights[folded.get_parameter("rest.1.weight") == 0].any()
    assert bool((weights != folded.get_parameter("rest.1.weight")).any())


def test_recovery_where_all_weights_may_move_is_that_without_a_choice_and_where_few_may_is_not() -> None:
    generator, operator = tiny_generator(), Gaussian(SHAPE, M, seed=0)
    with torch.no_grad():
        drawn = generator(generator.sample_latents(1, generator=stream(0, "data")))
    truth = (drawn + 0.3 * torch.linspace(0, 1, 16)).clamp(0, 1)
    y = operator(truth) + NOISE * torch.randn(1, M, generator=stream(0, "noise"))
    folded = generator.fold()
    alone, whole, few, none = (
        recover(operator, y, generator, solver=replace(SOLVER, moving=moving), noise=NOISE)
        for moving in (None, every(folded), some(folded, "rest.1.weight", 0.2), {})
    )
    assert torch.equal(whole.images, alone.images)
    for other in (few, none):
        assert not torch.equal(other.images, alone.images)
    assert not torch.equal(few.images, none.images)


def _first_fall(generator: Generator, latent: Tensor, moving: dict[str, Tensor] | None, rate: float) -> float:
    """How much a short first step of Adam on the weights alone lowers `_distance`."""
    drawing = Weights(generator, latent, moving, rate)
    (weights, _), before = drawing.groups(), _distance(drawing.image())
    before.backward()  # type: ignore[no-untyped-call]
    torch.optim.Adam([{**weights, "lr": 1e-6 * weights["lr"]}]).step()
    drawing.project_()
    return float((before - _distance(drawing.image())).detach())


def _distance(images: Tensor) -> Tensor:
    return (images - 0.5).square().sum()


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("name", ["first.weight", "rest.1.weight", "rest.3.weight"])
def test_few_weights_move_so_much_faster_that_the_misfit_falls_as_with_all(name: str, held: bool) -> None:
    generator = tiny_generator().double().fold()
    latent = generator.sample_latents(1, generator=stream(0, "latent"))
    if held:  # a ticket's zeros do not move, whatever may
        generator.keep_(some(generator, name, 0.3))
    free = copy.deepcopy(generator)
    free.keep_({})
    whole = _first_fall(free, latent, None, 1.0)
    moving = some(generator, name, 0.5)
    rate = _rate(generator, latent, moving, _distance)
    assert rate > 2
    assert _first_fall(generator, latent, moving, rate) == pytest.approx(whole, rel=1e-2)


@pytest.mark.parametrize("held", [False, True])
def test_a_recovery_moves_few_weights_at_their_rate(held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a dense generator some of whose weights may move, and of a ticket, all of whose own may."""
    generator, operator = tiny_generator(), Gaussian(SHAPE, M, seed=0)
    if held:
        generator.keep_(some(generator, "main.3.weight", 0.5))
    moving = None if held else some(generator.fold(), "rest.1.weight", 0.2)
    y = operator(torch.rand(1, *SHAPE, generator=stream(0, "data")))

    def images() -> Tensor:
        return recover(operator, y, generator, solver=replace(SOLVER, moving=moving), noise=NOISE).images

    faster = images()
    monkeypatch.setattr("cs_lip.recovery.image_adaptive._rate", lambda *_: 1.0)
    assert not torch.equal(faster, images())


def test_weights_that_may_not_move_or_do_nothing_need_no_rate() -> None:
    generator = tiny_generator().fold()
    latent = generator.sample_latents(1, generator=stream(0, "latent"))
    assert _rate(generator, latent, {}, _distance) == _rate(generator, latent, None, _distance) == 1
    assert _rate(generator, latent, every(generator), _distance) == 1
    assert _rate(generator, latent, some(generator, "first.weight", 0.5), lambda images: 0 * images.sum()) == 1
    assert _rate(generator, latent, some(generator, "first.weight", 0.5), lambda images: images.sum() * 1e39) == 1


@pytest.mark.parametrize(
    "moving",
    [
        {"main.3.weight": torch.ones(16, 8, 4, 4, dtype=torch.bool)},
        {"rest.1.weight": torch.ones(8, 16, 4, 4, dtype=torch.bool)},
        {"rest.1.weight": torch.ones(16, 8, 4, 4)},
    ],
)
def test_weights_that_are_not_the_folded_generators_are_refused(moving: dict[str, Tensor]) -> None:
    operator = Gaussian(SHAPE, M, seed=0)
    with pytest.raises(ValueError, match=next(iter(moving))) as refused:
        recover(operator, torch.ones(1, M), tiny_generator(), solver=replace(SOLVER, moving=moving))
    assert_one_sentence(refused.value)


def test_what_made_a_recovery_can_be_written_down() -> None:
    generator = tiny_generator()
    moving = some(generator.fold(), "rest.1.weight", 0.5)
    A = Gaussian(SHAPE, M, seed=0)
    recovery = recover(A, torch.rand(M), generator, solver=replace(SOLVER, moving=moving), noise=NOISE)
    told = json.loads(json.dumps(recovery.configuration))["solver_settings"]["moving"]["rest.1.weight"]
    assert told["shape"] == list(moving["rest.1.weight"].shape)
    assert told["sha256"] == hashlib.sha256(moving["rest.1.weight"].numpy().tobytes()).hexdigest()
