"""The fit of untrained networks: what it minimises, what it averages, and where it stops."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence, tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs_lip.evaluation.metrics import psnr
from cs_lip.evaluation.oracle import OraclePeak
from cs_lip.operators import Gaussian, Identity, LinearOperator, Mask, SubsampledFourier, bernoulli_mask
from cs_lip.priors import UntrainedNetwork, untrained_network
from cs_lip.priors.untrained.memory import fit_bytes
from cs_lip.recovery import Recovery, Status, pose, recover
from cs_lip.recovery.early_stopping import Discrepancy, HeldOut, LastIterate, StopRule, WindowedVariance
from cs_lip.recovery.total_variation import SMOOTHING
from cs_lip.recovery.untrained_fit import UntrainedFit
from cs_lip.seeding import stream

SHAPE = (1, 12, 10)
QUICK = UntrainedFit(iterations=12, stop="last", coarse=False)
NOISE = 0.1


def network(seed: int = 0, jitter: float = 0.0, shape: tuple[int, int, int] = SHAPE) -> UntrainedNetwork:
    return untrained_network("deep_decoder", shape, seed, channels=8, depth=2, jitter=jitter)


def picture(shape: tuple[int, int, int] = SHAPE) -> Tensor:
    """A smooth image with an edge, ``(1, *shape)``."""
    y, x = (torch.linspace(0, 1, side) for side in shape[1:])
    image = 0.5 + 0.3 * torch.sin(5 * x) * torch.cos(4 * y)[:, None] + 0.2 * (x + y[:, None] > 1)
    return image.clamp(0, 1).expand(1, *shape)


def noisy(image: Tensor, noise: float = NOISE) -> Tensor:
    return image + noise * torch.randn(image.shape, generator=stream(0, "noise"))


def denoised(solver: UntrainedFit, prior: UntrainedNetwork | None = None, **arguments: Any) -> Recovery:
    return recover(Identity(SHAPE), noisy(picture()), network() if prior is None else prior, solver=solver, **arguments)


def by_hand(
    A: LinearOperator, y: Tensor, prior: UntrainedNetwork, steps: int, weight: float, image: int = 0
) -> list[Tensor]:
    """The images of a fit, written down once more."""
    prior = untrained_network("deep_decoder", prior.image_shape, 0, channels=8, depth=2, jitter=prior.jitter)
    u, noise = prior.sample_input(generator=stream(0, f"input/{image}")), stream(0, f"jitter/{image}")
    optimiser = torch.optim.Adam(prior.parameters(), lr=0.01)
    images = []
    for _ in range(steps):
        drawn = prior(u + prior.jitter * torch.randn(u.shape, generator=noise) if prior.jitter else u)
        x = drawn[0]
        across, down = x[:, :-1, 1:] - x[:, :-1, :-1], x[:, 1:, :-1] - x[:, :-1, :-1]
        roughness = (len(x) * (across**2 + down**2).sum(0) + SMOOTHING**2).sqrt().sum()
        loss = (A(drawn) - y).abs().square().sum() / A.m + weight * roughness / x.numel()
        images.append(drawn.detach())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return images


@pytest.mark.parametrize("weight", [0.0, 0.05])
@pytest.mark.parametrize("jitter", [0.0, 0.03])
def test_the_fit_is_adam_on_the_stated_objective(weight: float, jitter: float) -> None:
    A, solver = Identity(SHAPE), replace(QUICK, averaging=0.0, total_variation=weight)
    expected = by_hand(A, noisy(picture()), network(jitter=jitter), QUICK.iterations, weight)
    found = denoised(solver, network(jitter=jitter))
    torch.testing.assert_close(found.images, expected[-1], rtol=0, atol=1e-5)
    assert [record.iteration for record in found.history] == list(range(1, QUICK.iterations + 1))
    residual = (expected[4] - noisy(picture())).norm() / noisy(picture()).norm()
    assert found.history[4].relative_residual[0] == pytest.approx(float(residual), rel=1e-4)


def test_images_are_averaged_evenly_and_then_exponentially() -> None:
    singles = by_hand(Identity(SHAPE), noisy(picture()), network(), QUICK.iterations, 0.0)
    shown: list[Tensor] = []
    found = denoised(replace(QUICK, averaging=0.75), observe=lambda images, which: shown.append(images))
    average = singles[0]
    for count, single in enumerate(singles, start=1):
        weight = max(0.25, 1 / count)
        average = (1 - weight) * average + weight * single
        torch.testing.assert_close(shown[count - 1], average, rtol=0, atol=1e-5)
    assert torch.equal(found.images, shown[-1])


@pytest.mark.parametrize("scale", [0.01, 20.0])
def test_settings_mean_the_same_for_every_operator(scale: float) -> None:
    A, solver = Mask(bernoulli_mask(SHAPE, keep=0.7, seed=0)), replace(QUICK, total_variation=0.02)
    one = recover(A, A(picture()), network(), solver=solver)
    other = recover(scale * A, scale * A(picture()), network(), solver=solver)
    torch.testing.assert_close(other.images, one.images, rtol=0, atol=2e-3)


@pytest.mark.parametrize("stop", ["held-out", "discrepancy", "windowed-variance", "last"])
def test_a_seed_decides_and_the_callers_network_and_the_global_generator_stay(stop: Any) -> None:
    prior, before = network(jitter=0.03), torch.get_rng_state()
    kept = {name: values.clone() for name, values in prior.state_dict().items()}
    solver = replace(QUICK, stop=stop, held_out=0.2)
    one, same, other = (denoised(solver, prior, noise=NOISE, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.images, same.images) and one.notes == same.notes
    assert not torch.equal(one.images, other.images)
    assert torch.equal(torch.get_rng_state(), before)
    for name, values in prior.state_dict().items():
        assert torch.equal(values, kept[name])


def test_images_do_not_depend_on_their_neighbours() -> None:
    A = Gaussian(SHAPE, 60, seed=0)
    y = A(torch.cat([picture(), 1 - picture()]))
    solver = replace(QUICK, stop="held-out", held_out=0.2)
    both, first = (recover(A, values, network(jitter=0.1), solver=solver) for values in (y, y[:1]))
    torch.testing.assert_close(both.images[:1], first.images)
    assert both.notes[0] == first.notes[0]
    swapped = recover(A, y.flip(0), network(jitter=0.1), solver=solver)
    assert not torch.equal(swapped.images[1], both.images[0])  # a stream of its own for every place


@pytest.mark.parametrize(
    "make",
    [
        lambda: Identity(SHAPE),
        lambda: Mask(bernoulli_mask(SHAPE, keep=0.5, seed=1)),
        lambda: Gaussian(SHAPE, 60, seed=0),
        lambda: SubsampledFourier(SHAPE, 60, seed=0),
    ],
    ids=["denoising", "inpainting", "sensing", "complex"],
)
def test_every_task_is_an_operator(make: Callable[[], LinearOperator]) -> None:
    A = make()
    peak = OraclePeak(picture())
    found = recover(
        A, A(picture()), network(), solver=UntrainedFit(iterations=200, held_out=0.2, averaging=0.9), observe=peak
    )
    assert peak.peaks[0].psnr_db >= psnr(found.images[0], picture()[0]) - 1e-4
    assert psnr(found.images[0], picture()[0]) > 13
    assert found.history[-1].relative_residual[0] < 0.5 * found.history[0].relative_residual[0]


# --- stops ------------------------------------------------------------------------------------------------------------


def test_the_held_out_stop_is_the_least_misfit_on_what_the_fit_does_not_see() -> None:
    A, y = Gaussian(SHAPE, 100, seed=0), noisy(Gaussian(SHAPE, 100, seed=0)(picture()))
    shown: list[Tensor] = []
    solver = UntrainedFit(iterations=150, stop="held-out", held_out=0.3, averaging=0.5)
    found = recover(A, y, network(), solver=solver, observe=lambda images, which: shown.append(images))
    _, held = pose(A, y).split(0.3, stream(0, "held-out/0"))
    misfits = [float((A(image)[0, held.rows] - y[0, held.rows]).square().mean()) for image in shown]
    note = found.notes[0]
    assert note["stop"] == "held-out" and note["iterations"] == 150
    assert note["iteration"] == 1 + int(np.argmin(misfits))
    assert note["value"] == pytest.approx(min(misfits), rel=1e-4)
    assert torch.equal(found.images, shown[note["iteration"] - 1])


def test_a_fit_of_noise_stops_near_the_oracle_peak() -> None:
    shape = (1, 33, 33)
    truth = picture(shape)
    prior = untrained_network("skip", shape, 0, input_channels=8, widths=(24,) * 3, skips=(4,) * 3)
    peak = OraclePeak(truth)
    solver = UntrainedFit(iterations=250, averaging=0.9, held_out=0.2, patience=100, coarse=False)
    found = recover(Identity(shape), noisy(truth, 0.15), prior, solver=solver, observe=peak)
    last = recover(Identity(shape), noisy(truth, 0.15), prior, solver=replace(solver, stop="last")).images
    level, best = psnr(found.images[0], truth[0]), peak.peaks[0].psnr_db
    assert level > best - 0.8 > psnr(last[0], truth[0])  # 218 numbers are held out: few enough that chance has a say
    assert found.notes[0]["stop"] == "held-out"


def test_the_discrepancy_stops_at_the_first_that_explains() -> None:
    shown: list[Tensor] = []
    found = denoised(
        UntrainedFit(stop="discrepancy", averaging=0.8), noise=NOISE, observe=lambda images, _: shown.append(images)
    )
    m = math.prod(SHAPE)
    bound = NOISE**2 * (m + 2 * math.sqrt(2 * m))
    *before, last = [float((image - noisy(picture())).square().sum()) for image in shown]
    assert last <= bound < min(before)
    assert found.status == (Status.CONVERGED,)
    assert found.notes[0]["iteration"] == found.notes[0]["iterations"] == len(shown) < 1500
    assert found.notes[0]["value"] == pytest.approx(last / m / NOISE**2, rel=1e-4)


class Scripted(StopRule):
    """Values from a list."""

    def __init__(self, patience: int, values: list[float]) -> None:
        super().__init__(patience)
        self.values = values

    def judge(self, image: Tensor, average: Tensor) -> float:
        return self.values[self.seen - 1]


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=40), st.integers(1, 10))
def test_patience(values: list[int], patience: int) -> None:
    rule, average = Scripted(patience, [float(value) for value in values]), torch.zeros(1)
    for count in range(1, len(values) + 1):
        average += 1
        done = rule.watch(average, average)
        first = values.index(min(values[:count])) + 1
        assert (rule.iteration, rule.value) == (first, values[first - 1])
        assert rule.best is not None and float(rule.best) == first
        assert done == (count - first >= patience)


def test_a_value_that_is_no_number_is_below_nothing() -> None:
    rule = Scripted(5, [math.nan, 3.0, math.nan, 2.0])
    for count in range(1, 5):
        rule.watch(torch.full((1,), count), torch.full((1,), count))
    assert (rule.iteration, rule.value) == (4, 2.0)


def test_few_measurements_are_held_out_by_tens() -> None:
    operator, network = Gaussian(SHAPE, 60, seed=0), untrained_network("deep_decoder", SHAPE, 0, channels=4, depth=2)
    found = recover(operator, operator(torch.rand(1, *SHAPE)), network, solver=UntrainedFit(iterations=3))
    assert found.notes[0]["stop"] == "held-out" and found.notes[0]["value"] is not None


@given(st.integers(0, 1000), st.integers(2, 8), st.integers(1, 25))
@settings(deadline=None, max_examples=25)
def test_the_windowed_variance_is_numpys(seed: int, window: int, count: int) -> None:
    iterates = torch.rand(count, 1, 3, 4, 5, generator=stream(seed, "test"))
    rule, values = WindowedVariance(1000, window), []
    for place, image in enumerate(iterates):
        rule.watch(image, 2 * image)
        if place + 1 >= window:
            values.append(float(iterates[place + 1 - window : place + 1].double().numpy().var(0).mean()))
    if not values:
        assert rule.value == math.inf and rule.iteration == count
    else:
        assert rule.value == pytest.approx(min(values), rel=1e-6)
        assert rule.iteration == window + int(np.argmin(values))
        assert torch.equal(rule.best, 2 * iterates[rule.iteration - 1])


def test_the_last_iterate_never_stops() -> None:
    rule = LastIterate(1)
    for place in range(5):
        assert not rule.watch(torch.full((1,), place), torch.full((1,), place))
    assert rule.iteration == 5 and float(rule.best) == 4


def test_rules_of_measurements_judge_the_average_and_not_the_single_image() -> None:
    problem = pose(Identity(SHAPE), picture(), noise=0.1)
    for rule in (HeldOut(1, problem), Discrepancy(1, problem)):
        rule.watch(torch.full_like(picture(), 9.0), picture())
        assert rule.value == 0


def test_cancelling_returns_the_best_so_far_and_says_so() -> None:
    asked = iter([False] * 5 + [True] * 100)
    found = denoised(UntrainedFit(stop="held-out", held_out=0.2), cancel=lambda: next(asked))
    assert found.status == (Status.INTERRUPTED,)
    assert found.notes[0]["iterations"] == 5
    at_once = denoised(QUICK, cancel=lambda: True)
    assert at_once.images.shape == (1, *SHAPE) and at_once.notes[0]["iterations"] == 0


def test_a_fit_that_leaves_the_numbers_keeps_the_best_before() -> None:
    found = denoised(replace(QUICK, learning_rate=1e38, iterations=30))
    assert found.images.isfinite().all()
    assert found.notes[0]["iterations"] < 30


def test_statuses() -> None:
    assert denoised(replace(QUICK, iterations=3), noise=1e-3).status == (Status.MAX_ITERATIONS,)
    assert denoised(QUICK, noise=1.0).status == (Status.CONVERGED,)
    early = UntrainedFit(iterations=1500, stop="held-out", held_out=0.5, patience=20, averaging=0.5)
    assert denoised(early, noise=1e-3).status == (Status.STOPPED,)


def test_the_oracle_peak_is_the_best_of_each_image() -> None:
    truth = torch.zeros(2, 1, 2, 2)
    peak = OraclePeak(truth)
    for level in (0.5, 0.1, 0.3):
        peak(torch.full((1, 1, 2, 2), level), torch.tensor([1]))
    assert peak.peaks[0].iteration == 0
    assert peak.peaks[1].iteration == 2 and peak.peaks[1].psnr_db == pytest.approx(20)


def test_memory_grows_with_the_pixels() -> None:
    small, large = (fit_bytes("skip", (3, side, side)) for side in (128, 256))
    weights = 5 * 4 * untrained_network("skip", (3, 64, 64)).parameter_count
    assert (large - weights) / (small - weights) == pytest.approx(4, rel=0.02)
    assert 150e6 < small < 400e6  # 239 MB as measured
    with torch.no_grad():
        assert fit_bytes("skip", (3, 128, 128)) == small
    with pytest.raises(ValueError, match="no untrained network"):
        fit_bytes("resnet", (3, 64, 64))


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: denoised(UntrainedFit(stop="discrepancy")), "needs the noise"),
        (lambda: denoised(UntrainedFit(held_out=0.95)), "splits 120 measurements into 6 and 114"),
        (lambda: denoised(UntrainedFit(held_out=1.5)), "held-out fraction must be between 0 and 1"),
        (lambda: denoised(QUICK, tiny_generator()), "needs an untrained network, got a DCGAN"),
        (lambda: recover(Identity(SHAPE), picture(), None, solver=QUICK), "needs an untrained network, got none"),
        (lambda: denoised(QUICK, network(shape=(1, 10, 12))), r"draws images of shape \(1, 10, 12\)"),
        (lambda: UntrainedFit(iterations=0), "iterations must be a whole number from 1"),
        (lambda: UntrainedFit(patience=2.5), "patience must be a whole number"),
        (lambda: UntrainedFit(learning_rate=0), "learning rate must be a number above 0"),
        (lambda: UntrainedFit(averaging=1.0), "averaging must be"),
        (lambda: UntrainedFit(total_variation=-1), "weight of TV"),
        (lambda: UntrainedFit(stop="never"), "no stop 'never'"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(act: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        act()
    assert_one_sentence(caught.value)


def test_bfloat16_fits_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits part ways in time, whatever the rounding, so that what they reach is compared."""
    monkeypatch.setattr("cs_lip.priors.untrained.network.convolves_in_bfloat16", lambda device: True)
    solver = UntrainedFit(iterations=200, stop="last")
    coarse, exact = (denoised(replace(solver, coarse=coarse)).images for coarse in (True, False))
    assert not torch.equal(coarse, exact)
    assert psnr(coarse[0], picture()[0]) > psnr(exact[0], picture()[0]) - 1 > 20
