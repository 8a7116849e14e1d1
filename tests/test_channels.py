"""Channel masks: the best channels, at a measured density at or just below the one asked for."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import assert_one_sentence, tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs_lip.priors import PGGAN, DeepDecoder, untrained_network
from cs_lip.seeding import stream
from cs_lip.tickets.channels import channel_mask, dense_channels
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.selection import select
from cs_lip.tickets.timing import Timing, time_prior

GENERATOR = tiny_generator((8, 16, 8, 3))
WEIGHTS = ("main.0.weight", "main.3.weight", "main.6.weight")
"""Of 8 -> 16 -> 8 -> 3 channels, 4x4 kernels; the channels between are hidden."""
SEEDS = st.integers(0, 1000)
ALLOCATIONS = st.sampled_from(["global", "uniform"])
LEAST = (8 + 1 + 3) / (8 * 16 + 16 * 8 + 8 * 3)


def scores_of(seed: int) -> dict[str, Tensor]:
    random = stream(seed, "scores")
    return {name: torch.rand(GENERATOR.get_parameter(name).shape, generator=random) for name in WEIGHTS}


def constant_scores(value: float = 1.0) -> dict[str, Tensor]:
    return {name: torch.full(GENERATOR.get_parameter(name).shape, value) for name in WEIGHTS}


def channels_of(mask: Mask) -> tuple[Tensor, Tensor]:
    """The kept channels of both hidden maps, read off one side of each."""
    return mask.kept["main.3.weight"].flatten(1).any(1), mask.kept["main.6.weight"].flatten(1).any(1)


def density_of(first: int, second: int) -> float:
    return (8 * first + first * second + second * 3) / (8 * 16 + 16 * 8 + 8 * 3)


@given(density=st.floats(LEAST, 1), seed=SEEDS, allocation=ALLOCATIONS)
@settings(deadline=None, max_examples=40)
def test_no_channel_could_come_back(density: float, seed: int, allocation: str) -> None:
    scores = scores_of(seed)
    mask = channel_mask(GENERATOR, scores, density, allocation=allocation)
    first, second = channels_of(mask)
    counts = int(first.sum()), int(second.sum())
    expected = {
        WEIGHTS[0]: first[None, :].expand(8, -1),
        WEIGHTS[1]: first[:, None] & second[None, :],
        WEIGHTS[2]: second[:, None].expand(-1, 3),
    }
    for name, kept in mask.kept.items():
        assert torch.equal(kept, expected[name][:, :, None, None].expand(-1, -1, 4, 4))
    assert mask.density == density_of(*counts) <= density
    assert counts[0] == 16 or density_of(counts[0] + 1, counts[1]) > density
    assert counts[1] == 8 or density_of(counts[0], counts[1] + 1) > density
    assert channel_mask(GENERATOR, scores, density, allocation=allocation).sha256 == mask.sha256


@given(densities=st.tuples(st.floats(0.4, 1), st.floats(LEAST, 0.4)), seed=SEEDS, allocation=ALLOCATIONS)
@settings(deadline=None, max_examples=20)
def test_a_mask_is_inside_its_parent(densities: tuple[float, float], seed: int, allocation: str) -> None:
    parent = channel_mask(GENERATOR, scores_of(seed), densities[0], allocation=allocation)
    density = min(densities[1], parent.density)
    mask = channel_mask(GENERATOR, scores_of(seed + 1), density, parent=parent, allocation=allocation)
    assert mask.is_inside(parent)
    assert mask.density <= density
    assert channel_mask(GENERATOR, scores_of(seed), parent.density, parent=parent).sha256 == parent.sha256


@given(density=st.floats(0.2, 0.6), seed=SEEDS)
@settings(deadline=None, max_examples=20)
def test_a_parent_that_lacks_single_weights_is_counted_as_it_is(density: float, seed: int) -> None:
    parent = select(scores_of(seed), 0.7, parent=dense_channels(GENERATOR))
    mask = channel_mask(GENERATOR, scores_of(seed), density, parent=parent)
    assert mask.is_inside(parent)
    assert mask.density <= density
    first, second = channels_of(mask)
    crossing = parent.kept["main.3.weight"] & (first[:, None] & second[None, :])[:, :, None, None]
    assert torch.equal(mask.kept["main.3.weight"], crossing)


@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_the_channel_of_the_lowest_scores_goes_first(allocation: str) -> None:
    scores = constant_scores()
    for name, axis in (("main.0.weight", 1), ("main.3.weight", 0)):
        scores[name].select(axis, 5).fill_(0)
    scores["main.6.weight"][6] = 0.5
    first, second = channels_of(channel_mask(GENERATOR, scores, density_of(15, 8), allocation="global"))
    assert (~first).nonzero().flatten().tolist() == [5]
    assert second.all()
    first, second = channels_of(channel_mask(GENERATOR, scores, density_of(14, 7), allocation=allocation))
    assert not first[5]
    assert not second[6]


def test_a_score_is_a_mean_over_the_weights_that_are_kept() -> None:
    """Each channel of the first map has 16 * 16 weights, each of the second 19 * 16, of which the parent lacks most."""
    scores = constant_scores()
    scores["main.3.weight"][:, 7] = 0.9  # the mean of the channel's own weights is 0.92, those of the first map 0.99
    parent = dense_channels(GENERATOR)
    # A sum would find the first map's channels the weaker ones.
    first, second = channels_of(channel_mask(GENERATOR, scores, density_of(16, 7)))
    assert first.all()
    assert (~second).nonzero().flatten().tolist() == [7]
    kept = {name: mask.clone() for name, mask in parent.kept.items()}
    kept["main.3.weight"][1:, 7] = False  # what the parent lacks has no say, so the mean is 0.975
    kept["main.3.weight"][:, 3] = False
    scores["main.6.weight"][3] = 0.95
    parent = Mask(kept)
    cost = 3 * 16 / parent.counts.total
    _, second = channels_of(channel_mask(GENERATOR, scores, parent.density - cost, parent=parent))
    assert (~second).nonzero().flatten().tolist() == [3]


@given(density=st.floats(0.1, 1))
@settings(deadline=None, max_examples=20)
def test_equal_scores_keep_the_first_and_uniform_keeps_the_same_fraction(density: float) -> None:
    counts = []
    for kept in channels_of(channel_mask(GENERATOR, constant_scores(), density, allocation="uniform")):
        count = int(kept.sum())
        assert kept[:count].all()
        counts.append(count)
    # The next channel of the one group may be too large where one of the other's is not.
    assert abs(counts[0] / 16 - counts[1] / 8) <= 1 / 8 + 1 / 16


@given(floor=st.floats(0, 1), seed=SEEDS)
@settings(deadline=None, max_examples=20)
def test_the_floor_is_kept_in_every_group(floor: float, seed: int) -> None:
    least = [max(1, int(torch.tensor(floor * total - 1e-9, dtype=torch.float64).ceil())) for total in (16, 8)]
    mask = channel_mask(GENERATOR, scores_of(seed), density_of(*least), floor=floor)
    assert [int(kept.sum()) for kept in channels_of(mask)] == least


def test_what_is_named_depends_on_the_architecture() -> None:
    assert tuple(dense_channels(GENERATOR).kept) == WEIGHTS
    assert dense_channels(GENERATOR).density == 1
    pggan = PGGAN(3, (4, 4))
    assert dense_channels(pggan).kept.keys() == dict(pggan.named_parameters()).keys() - {"rgb.bias"}
    decoder = untrained_network("deep_decoder", (3, 8, 8), channels=4, depth=1)
    assert tuple(dense_channels(decoder).kept) == ("convs.0.weight", "convs.1.weight", "output.weight")


BAD: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "density 0": (lambda: {"density": 0.0}, "density"),
    "density above 1": (lambda: {"density": 1.5}, "density"),
    "density NaN": (lambda: {"density": float("nan")}, "density"),
    "density of nothing": (lambda: {"density": LEAST / 2}, "which the floor of 2 channels in 2 groups leaves"),
    "density below the floor": (lambda: {"density": 0.4, "floor": 0.9}, "smaller floor"),
    "no fraction": (lambda: {"floor": 2.0}, "the floor must be a fraction"),
    "allocation": (lambda: {"allocation": "erk"}, "no allocation 'erk' of channels"),
    "above the parent's": (lambda: {"density": 0.9, "parent": half()}, "above the parent's"),
    "parent of some layers": (lambda: {"parent": Mask.dense(GENERATOR)}, "main.0.weight is not named"),
    "parent of another network": (
        lambda: {"parent": dense_channels(tiny_generator((8, 16, 4, 3)))},
        r"main.3.weight \(16, 4, 4, 4\) is \(16, 8, 4, 4\) in the network",
    ),
    "no scores": (lambda: {"scores": {}}, "have shape none"),
    "scores of another shape": (lambda: {"scores": scores_of(0) | {WEIGHTS[1]: torch.ones(2)}}, r"shape \(2,\)"),
    "NaN scores": (lambda: {"scores": constant_scores(float("nan"))}, "not all finite"),
}


def half() -> Mask:
    return channel_mask(GENERATOR, scores_of(0), 0.5)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_in_one_sentence(case: str) -> None:
    arguments, expected = BAD[case]
    with pytest.raises(ValueError, match=expected) as caught:
        channel_mask(GENERATOR, **({"scores": scores_of(0), "density": 0.5} | arguments()))
    assert_one_sentence(caught.value)


# Deep decoders with maps of different widths


def test_a_deep_decoder_may_have_a_width_for_each_map() -> None:
    tied = untrained_network("deep_decoder", (3, 8, 8), channels=4, depth=1)
    listed = untrained_network("deep_decoder", (3, 8, 8), channels=[4, 4, 4], depth=1)
    assert all(torch.equal(*pair) for pair in zip(tied.parameters(), listed.parameters(), strict=True))
    other = untrained_network("deep_decoder", (3, 8, 8), channels=[4, 2, 5], depth=1)
    assert [tuple(conv.weight.shape[:2]) for conv in (*other.convs, other.output)] == [(2, 4), (5, 2), (3, 5)]
    with pytest.raises(ValueError, match="2 numbers of channels, expected one or 3") as caught:
        DeepDecoder((3, 8, 8), channels=[4, 4], depth=1)
    assert_one_sentence(caught.value)


# Timing


def test_the_operators_share_is_of_the_whole_step() -> None:
    assert Timing(10, forward_ms=1, backward_ms=2, operator_ms=1).operator_share == 0.25
    assert Timing(10, forward_ms=1, backward_ms=2).operator_share == 0


@pytest.mark.parametrize("batch", [None, 3])
def test_a_prior_is_timed_as_often_as_asked_on_batches_as_large(batch: int | None) -> None:
    seen: list[tuple[int, ...]] = []

    def operator(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape))
        return images.flatten(1)[:, :5]

    timing = time_prior(tiny_generator(), batch, repeats=2, operator=operator)
    assert timing.batch == (batch or 10)
    assert seen == [(timing.batch, 3, 16, 16)] * 3  # the first does not count
    assert 0 < timing.operator_share < 1
    network = untrained_network("deep_decoder", (3, 8, 8), channels=4, depth=1)
    timing = time_prior(network, batch, repeats=1)
    assert timing.batch == (batch or 1)
    assert timing.operator_ms == 0
    assert all(weight.grad is None for weight in network.parameters())


@pytest.mark.parametrize("sizes", [{"batch": 0}, {"repeats": 0}])
def test_nothing_is_not_timed(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="batch and repeats must be positive") as caught:
        time_prior(tiny_generator(), **sizes)
    assert_one_sentence(caught.value)
