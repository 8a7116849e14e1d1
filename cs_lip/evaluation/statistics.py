"""Means, differences and rates with their confidence intervals."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import torch
from torch import Tensor

from cs_lip.seeding import stream

CONFIDENCE = 0.95
RESAMPLES = 2000
CHUNK_VALUES = 2**22
"""Weights that are held at a time, so that many rows cost time and not memory."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: of the whole sample.
        low, high: the ends of the interval; NaN where there is nothing to tell the spread from.
        count: the values that it is made from.
    """

    estimate: float
    low: float
    high: float
    count: int


def bootstrap_interval(
    values: Sequence[float],
    *,
    images: Sequence[Hashable] | None = None,
    seeds: Sequence[Hashable] | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean with a percentile bootstrap interval, by images and seeds where they are given.

    A sweep measures every image with every seed, and a seed stands for one operator that all images share, so its rows
    are not independent. Images and seeds are therefore resampled each on their own, and a row weighs the product of how
    often its image and its seed were drawn (the pigeonhole bootstrap: Owen, Annals of Applied Statistics 1, 2007,
    section 3), which is never less wide in the mean than it should be. Without images and seeds the values themselves
    are resampled (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3).

    Args:
        values: one a row, finite.
        images, seeds: of every row; None where rows do not share one.
        confidence: of the interval, in (0, 1).
        resamples: how many samples are drawn.
        seed: of the drawing; same seed, same interval.

    Raises:
        ValueError: no values, values that are not finite, as many images or seeds as there are not values, a confidence
            out of (0, 1), or fewer than one resample.
    """
    sample = _checked(values)
    if resamples < 1:
        raise ValueError(f"a bootstrap needs at least 1 resample, got {resamples}; try {RESAMPLES}")
    labels = [_indices(each, len(sample)) for each in (images, seeds) if each is not None]
    means = _resampled_means(sample, labels or [torch.arange(len(sample))], resamples, seed)
    tail = (1 - _checked_confidence(confidence)) / 2
    if len(means) == 0:
        return Interval(float(sample.mean()), math.nan, math.nan, len(sample))
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(float(sample.mean()), low, high, len(sample))


def paired_difference(
    ours: Mapping[tuple[str, int], float],
    rival: Mapping[tuple[str, int], float],
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean of ``ours - rival`` over the images and seeds that both have, with its `bootstrap_interval`.

    What makes an image or an operator hard is common to both and cancels, so that a difference shows long before the
    intervals of the two means part.

    Args:
        ours, rival: (image, seed) -> value.

    Raises:
        ValueError: they have no image and seed in common, or as `bootstrap_interval`.
    """
    shared = [key for key in ours if key in rival]
    if not shared:
        raise ValueError("the two have no image and seed in common; try rows of one plan")
    images, seeds = zip(*shared, strict=True)
    values = [ours[key] - rival[key] for key in shared]
    return bootstrap_interval(values, images=images, seeds=seeds, confidence=confidence, resamples=resamples, seed=seed)


def wilson_interval(successes: int, trials: int, *, confidence: float = CONFIDENCE) -> Interval:
    """A success rate with Wilson's score interval, which stays in [0, 1] and is of use at 0 and at all successes.

    With p = successes / trials and the normal quantile z the ends are
    ``(p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)``. Source: Wilson, Journal of the American
    Statistical Association 22, 1927, page 210.

    Raises:
        ValueError: no trials, successes out of [0, trials], or a confidence out of (0, 1).
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"a rate needs 0 to n successes of n trials, got {successes} of {trials}; try at least 1 trial"
        )
    z = NormalDist().inv_cdf((1 + _checked_confidence(confidence)) / 2)
    rate = successes / trials
    middle = rate + z**2 / (2 * trials)
    reach = z * math.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    low, high = max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)
    return Interval(rate, 0.0 if successes == 0 else low, 1.0 if successes == trials else high, trials)


def rate_interval(successes: Sequence[bool], *, images: Sequence[Hashable], seeds: Sequence[Hashable]) -> Interval:
    """A success rate with its 95 % interval, where rows may share images and seeds.

    An easy image succeeds with all its seeds, and a good operator with all its images, so such rows are fewer
    independent trials than they count. The interval is then the `bootstrap_interval` of 1 for a success and 0 for a
    failure, which resamples images and seeds (the pigeonhole bootstrap: Owen, Annals of Applied Statistics 1, 2007,
    section 3). Where all rows succeed, or all fail, every resample says the same, and that interval would have no
    width: it is `wilson_interval` of as many trials as there are images, because the seeds of an image may all have
    ended alike for the one reason that it is what it is. Where no image comes twice, and all rows are of one seed or
    each of its own, rows are the trials that Wilson reckons with.

    Args:
        successes: whether each row is one.
        images, seeds: of every row.

    Raises:
        ValueError: no rows, or more or fewer images or seeds than rows.
    """
    count, won = len(successes), sum(successes)
    trials, drawn = (len(set(_indices(labels, count).tolist())) for labels in (images, seeds))
    if won in (0, count):
        return replace(wilson_interval(trials if won else 0, trials), count=count)
    if trials == count and drawn in (1, count):
        return wilson_interval(won, count)
    return bootstrap_interval([float(each) for each in successes], images=images, seeds=seeds)


def _resampled_means(sample: Tensor, labels: Sequence[Tensor], resamples: int, seed: int) -> Tensor:
    """Weighted means ``(resamples,)``, fewer where a sample came out empty, none where no label has two values."""
    spread = [label for label in labels if int(label.max()) > 0]
    if not spread:
        return torch.empty(0, dtype=torch.float64)
    generator = stream(seed, "bootstrap")
    rows = max(1, CHUNK_VALUES // len(sample))
    found = []
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        weights = torch.ones(count, len(sample), dtype=torch.float64)
        for label in spread:
            kinds = int(label.max()) + 1
            drawn = torch.randint(kinds, (count, kinds), generator=generator)
            times = torch.zeros(count, kinds, dtype=torch.float64).scatter_add_(
                1, drawn, torch.ones(count, kinds, dtype=torch.float64)
            )
            weights *= times[:, label]
        total = weights.sum(1)
        found.append((weights @ sample / total)[total > 0])
    return torch.cat(found)


def _indices(labels: Sequence[Hashable], count: int) -> Tensor:
    if len(labels) != count:
        raise ValueError(f"got {len(labels)} images or seeds for {count} values; try one for each value")
    places = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    return torch.tensor([places[label] for label in labels])


def _checked(values: Sequence[float]) -> Tensor:
    sample = torch.tensor(list(values), dtype=torch.float64)
    if len(sample) == 0 or not torch.isfinite(sample).all():
        what = "none" if len(sample) == 0 else "some that are not finite"
        raise ValueError(f"a mean needs finite values, got {what}; try to leave out rows without a number")
    return sample


def _checked_confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"the confidence must lie between 0 and 1, got {confidence}; try {CONFIDENCE}")
    return confidence
