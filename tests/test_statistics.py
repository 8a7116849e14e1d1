"""Intervals: against closed forms, other implementations, and how often they cover the truth."""

import math

import numpy as np
import pytest
from helpers import assert_one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cs_lip.evaluation.statistics import bootstrap_interval, paired_difference, rate_interval, wilson_interval

finite = st.floats(-1e3, 1e3)


@given(st.integers(0, 40), st.integers(1, 40), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_is_scipys(successes: int, more: int, confidence: float) -> None:
    trials = successes + more - 1 or 1
    successes = min(successes, trials)
    ours = wilson_interval(successes, trials, confidence=confidence)
    theirs = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert ours.estimate == successes / trials
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_wilson_by_hand() -> None:
    # n = 10, p = 0 and z = 1.959964: the upper end is z^2 / (n + z^2).
    found = wilson_interval(0, 10)
    z = 1.959963984540054
    assert found.low == 0
    assert found.high == pytest.approx(z**2 / (10 + z**2))


@given(st.lists(finite, min_size=1, max_size=12), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_the_mean_lies_in_its_interval_and_the_interval_among_the_values(values: list[float], seed: int) -> None:
    found = bootstrap_interval(values, resamples=200, seed=seed)
    assert found.estimate == pytest.approx(np.mean(values), abs=1e-9)
    assert found.count == len(values)
    if len(values) == 1:
        assert math.isnan(found.low)
        assert math.isnan(found.high)
    else:
        assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


@given(st.lists(finite, min_size=2, max_size=8), st.floats(-5, 5), st.floats(0.1, 5))
@settings(max_examples=30, deadline=None)
def test_shift_and_scale_go_through(values: list[float], shift: float, scale: float) -> None:
    plain = bootstrap_interval(values, resamples=100)
    moved = bootstrap_interval([scale * value + shift for value in values], resamples=100)
    assert moved.low == pytest.approx(scale * plain.low + shift, abs=1e-6)
    assert moved.high == pytest.approx(scale * plain.high + shift, abs=1e-6)


def test_two_values_by_hand() -> None:
    # Of the four equally likely samples of {0, 1} the means are 0, 1/2, 1/2 and 1: the quartiles are the middle one.
    found = bootstrap_interval([0.0, 1.0], confidence=0.4, resamples=4000)
    assert (found.low, found.high) == (0.5, 0.5)
    wide = bootstrap_interval([0.0, 1.0], confidence=0.6, resamples=4000)
    assert (wide.low, wide.high) == (0.0, 1.0)


def test_as_wide_as_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(1).normal(size=40)
    ours = bootstrap_interval(values.tolist(), resamples=8000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=8000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)


def test_same_seed_same_interval_other_seed_another() -> None:
    values = [1.0, 4.0, 2.0, 8.0]
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values, resamples=50) != bootstrap_interval(values, resamples=50, seed=1)


def crossed(rng: np.random.Generator, images: int, seeds: int) -> tuple[list[float], list[str], list[int]]:
    """Rows with an effect of the image, one of the seed that all images share, and noise; the truth is 0."""
    by_image, by_seed = rng.normal(size=images), rng.normal(size=seeds)
    cells = [(i, s) for i in range(images) for s in range(seeds)]
    values = [float(by_image[i] + by_seed[s] + 0.3 * rng.normal()) for i, s in cells]
    return values, [f"image-{i}" for i, _ in cells], [s for _, s in cells]


def test_images_and_seeds_cover_the_truth_where_rows_alone_do_not() -> None:
    rng = np.random.default_rng(0)
    right = naive = 0
    trials = 150
    for _ in range(trials):
        values, images, seeds = crossed(rng, 10, 10)
        wise = bootstrap_interval(values, images=images, seeds=seeds, resamples=200)
        bare = bootstrap_interval(values, resamples=200)
        right += wise.low <= 0 <= wise.high
        naive += bare.low <= 0 <= bare.high
    assert right / trials > 0.85
    assert naive / trials < 0.65


def test_one_image_leaves_the_seeds_to_tell_the_spread() -> None:
    values, seeds = [1.0, 2.0, 4.0], [0, 1, 2]
    found = bootstrap_interval(values, images=["a"] * 3, seeds=seeds)
    assert found == bootstrap_interval(values, seeds=seeds)
    assert found.low < found.high


def test_a_paired_difference_takes_what_both_have_and_is_narrower_than_the_means() -> None:
    rng = np.random.default_rng(3)
    hard = {f"image-{i}": 10 * rng.normal() for i in range(8)}
    ours = {(name, seed): level + 1 + 0.1 * rng.normal() for name, level in hard.items() for seed in range(2)}
    rival = {(name, seed): level + 0.1 * rng.normal() for name, level in hard.items() for seed in range(3)}
    found = paired_difference(ours, rival)
    assert found.count == 16
    assert found.low < 1 < found.high
    assert found.high - found.low < 0.4
    whole = bootstrap_interval(list(ours.values()))
    assert whole.high - whole.low > 4


def test_rates_by_images_and_seeds_cover_the_truth_where_wilson_of_all_rows_does_not() -> None:
    rng = np.random.default_rng(0)
    right = naive = 0
    trials = 100
    for _ in range(trials):
        values, images, seeds = crossed(rng, 10, 10)
        successes = [value > 0 for value in values]  # the effects are symmetric: one in two
        wise = rate_interval(successes, images=images, seeds=seeds)
        bare = wilson_interval(sum(successes), len(successes))
        right += wise.low <= 0.5 <= wise.high
        naive += bare.low <= 0.5 <= bare.high
    assert right / trials > 0.85
    assert naive / trials < 0.65


def test_a_rate_of_none_or_all_has_the_images_for_its_trials() -> None:
    images, seeds = ["a", "b", "c"] * 4, [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    for successes, alike in (([True] * 12, wilson_interval(3, 3)), ([False] * 12, wilson_interval(0, 3))):
        found = rate_interval(successes, images=images, seeds=seeds)
        assert (found.estimate, found.low, found.high) == (alike.estimate, alike.low, alike.high)
        assert found.count == 12


def test_images_that_come_once_are_trials_of_their_own() -> None:
    successes, images = [True, True, False, True], list("abcd")
    for seeds in ([0] * 4, [0, 1, 2, 3]):
        assert rate_interval(successes, images=images, seeds=seeds) == wilson_interval(3, 4)
    shared = rate_interval(successes, images=images, seeds=[0, 0, 1, 1])
    assert shared == bootstrap_interval([1.0, 1.0, 0.0, 1.0], images=images, seeds=[0, 0, 1, 1])


@pytest.mark.parametrize(
    "act",
    [
        lambda: bootstrap_interval([]),
        lambda: bootstrap_interval([1.0, math.nan]),
        lambda: bootstrap_interval([1.0, math.inf]),
        lambda: bootstrap_interval([1.0, 2.0], images=["a"]),
        lambda: bootstrap_interval([1.0, 2.0], confidence=1.0),
        lambda: bootstrap_interval([1.0, 2.0], resamples=0),
        lambda: paired_difference({("a", 0): 1.0}, {("a", 1): 1.0}),
        lambda: rate_interval([], images=[], seeds=[]),
        lambda: rate_interval([True], images=["a", "b"], seeds=[0]),
        lambda: wilson_interval(0, 0),
        lambda: wilson_interval(3, 2),
        lambda: wilson_interval(-1, 2),
        lambda: wilson_interval(1, 2, confidence=0.0),
    ],
)
def test_what_is_refused(act) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="try ") as caught:
        act()
    assert_one_sentence(caught.value)
