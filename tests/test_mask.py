"""Masks and controls: density is measured, what is held stays zero, and each control changes what it says."""

import math

import pytest
import torch
from helpers import assert_one_sentence, tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st

from cs_lip.priors import DCGAN, DeepDecoder, UntrainedNetwork, untrained_network
from cs_lip.priors.prunable import Prunable
from cs_lip.seeding import stream
from cs_lip.tickets.controls import (
    SPREAD,
    dcgan_weights,
    deep_decoder_settings,
    narrow_dcgan_settings,
    random_mask,
    reinitialised,
    shuffled,
)
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.selection import kept_fraction

ROLES = ("input", "hidden", "output")
SHAPE = (3, 16, 16)


def tiny_skip(seed: int = 0) -> UntrainedNetwork:
    return untrained_network("skip", SHAPE, seed, input_channels=4, widths=(8, 8), skips=(4, 4))


def networks() -> list[Prunable]:
    return [tiny_generator(), tiny_generator().fold(), tiny_skip()]


# Masks


@pytest.mark.parametrize("network", networks(), ids=lambda network: type(network).__name__)
def test_density_is_measured_on_the_network_that_the_mask_was_applied_to(network: Prunable) -> None:
    dense = Mask.dense(network, ROLES)
    assert dense.density == 1
    assert {name for group in network.weight_groups().values() for name in group} == dense.kept.keys()
    mask = random_mask(dense, 0.3, seed=1)
    mask.apply_(network)
    measured = Mask.measured(network)
    assert measured.sha256 == mask.sha256
    assert measured.counts.kept == round(0.3 * dense.counts.total)
    assert measured.counts.total == sum(layer.total for layer in mask.layers().values())


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.SGD])
def test_what_a_mask_holds_stays_exactly_zero_while_an_optimiser_has_momentum(make: type) -> None:
    network = tiny_skip()
    inputs = network.sample_input(generator=stream(0, "inputs"))
    options = {"lr": 0.1} | ({"momentum": 0.9} if make is torch.optim.SGD else {})
    optimiser = make(network.parameters(), **options)
    mask = random_mask(Mask.dense(network, ROLES), 0.5)
    for step in range(4):
        if step == 1:  # the optimiser remembers gradients of weights that are pruned only now
            mask.apply_(network)
        optimiser.zero_grad()
        network(inputs).square().mean().backward()
        optimiser.step()
        network.project_()
    for name, kept in mask.kept.items():
        assert (network.get_parameter(name)[~kept] == 0).all()
    assert Mask.measured(network).is_inside(mask)


def test_masks_know_parents_networks_and_themselves() -> None:
    generator = tiny_generator()
    dense = Mask.dense(generator, ROLES)
    half = random_mask(dense, 0.5)
    other = random_mask(dense, 0.5, seed=1)
    assert half.is_inside(dense) and not dense.is_inside(half)
    assert not half.is_inside(other)
    assert not Mask({"main.0.weight": half.kept["main.0.weight"]}).is_inside(dense)
    assert half.sha256 == Mask(dict(reversed(half.kept.items()))).sha256
    assert len({dense.sha256, half.sha256, other.sha256}) == 3
    assert half.mismatches(generator) == []
    wrong = half.mismatches(tiny_generator((8, 16, 4, 3)))
    assert len(wrong) == 2 and "main.3.weight" in wrong[0]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Mask({}), "at least one layer"),
        (lambda: Mask({"w": torch.ones(2)}), "bools"),
        (lambda: Mask({"w": torch.zeros(2, dtype=torch.bool)}), "empties"),
        (lambda: Mask.dense(tiny_generator(), ["middle"]), "role"),
        (lambda: Mask.dense(tiny_generator()).apply_(tiny_skip()), "does not fit"),
    ],
)
def test_what_is_no_mask_is_refused_in_a_sentence(make: object, said: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=said) as refused:
        make()
    assert_one_sentence(refused.value)


# Controls


def test_a_shuffled_mask_keeps_as_many_weights_of_each_layer_but_others() -> None:
    mask = random_mask(Mask.dense(tiny_generator(), ROLES), 0.3)
    control = shuffled(mask, seed=2)
    assert control.layers() == mask.layers()
    assert control.sha256 != mask.sha256
    assert control.sha256 == shuffled(mask, seed=2).sha256 != shuffled(mask, seed=3).sha256


def test_controls_of_kernels_keep_and_lose_whole_kernels() -> None:
    dense = Mask.dense(tiny_generator(), ROLES)
    mask = random_mask(dense, 0.3, seed=1, granularity="kernel")
    control = shuffled(mask, seed=2, granularity="kernel")
    for one in (mask, control):
        for kept in one.kept.values():
            kernels = kept.flatten(2)
            assert torch.equal(kernels.any(-1), kernels.all(-1))
    assert kept_fraction(mask, "kernel") == pytest.approx(0.3, abs=0.01)
    assert control.sha256 != mask.sha256
    assert [int(kept.sum()) for kept in control.kept.values()] == [int(kept.sum()) for kept in mask.kept.values()]


def test_a_random_mask_is_spread_evenly_over_all_that_the_parent_keeps() -> None:
    parent = random_mask(Mask.dense(tiny_generator((8, 32, 32, 3)), ROLES), 0.5)
    mask = random_mask(parent, 0.1, seed=5)
    assert mask.is_inside(parent)
    for name, layer in mask.layers().items():
        held = parent.layers()[name].kept
        assert abs(layer.kept / held - 0.2) < 5 * math.sqrt(0.2 * 0.8 / held)


def test_a_reinitialised_dcgan_has_new_normal_weights_and_norms_that_saw_nothing() -> None:
    generator = tiny_generator((8, 64, 32, 3))
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    mask = random_mask(Mask.dense(generator), 0.4)
    fresh = reinitialised(generator, mask, seed=3)
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    assert Mask.measured(fresh, mask.kept).sha256 == mask.sha256
    first = fresh.get_parameter("main.0.weight").detach()
    assert abs(float(first.std()) / SPREAD - 1) < 0.05
    assert abs(float(first.mean())) < 0.001
    state = fresh.state_dict()
    assert (state["main.1.weight"] == 1).all() and (state["main.1.running_var"] == 1).all()
    assert (state["main.1.bias"] == 0).all() and (state["main.1.running_mean"] == 0).all()
    assert int(state["main.1.num_batches_tracked"]) == 0
    assert torch.equal(reinitialised(generator, mask, seed=3).get_parameter("main.0.weight"), first)
    assert not torch.equal(reinitialised(generator, mask, seed=4).get_parameter("main.0.weight"), first)


def test_a_reinitialised_untrained_network_starts_as_the_registry_starts_it() -> None:
    network = tiny_skip(seed=0)
    mask, other = (random_mask(Mask.dense(network), 0.4, seed) for seed in (0, 1))
    other.apply_(network)
    fresh, expected = reinitialised(network, mask, seed=7), tiny_skip(seed=7)
    mask.apply_(expected)
    for name, value in expected.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value)
    with pytest.raises(ValueError, match="initial weights") as refused:
        reinitialised(tiny_generator().fold(), Mask.dense(tiny_generator().fold()))
    assert_one_sentence(refused.value)


@settings(deadline=None, max_examples=25)
@given(
    widths=st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 12), st.integers(1, 3)),
    labels=st.integers(0, 2),
    kernel=st.sampled_from([4, 5]),
    part=st.floats(0, 1.5),
)
def test_a_narrow_dcgan_has_the_nearest_number_of_weights(
    widths: tuple[int, ...], labels: int, kernel: int, part: float
) -> None:
    whole = {"widths": widths, "labels": labels, "kernel": kernel, "first": 2}
    wanted = max(1, round(part * dcgan_weights(whole)))
    narrow = narrow_dcgan_settings(whole, wanted)
    network = DCGAN(**narrow)
    assert Mask.dense(network, ROLES).counts.total == dcgan_weights(narrow)
    assert network.latent_shape == (widths[0],) and network.image_shape == DCGAN(**whole).image_shape
    assert all(new <= old for new, old in zip(narrow["widths"], widths, strict=True))
    if wanted >= dcgan_weights(whole):
        assert narrow["widths"] == widths
    widest = max(widths[1:-1])
    for kept in range(1, widest + 1):  # no uniform scaling of the maps is nearer
        maps = [max(1, round(width * kept / widest)) for width in widths[1:-1]]
        other = {**whole, "widths": (widths[0], *maps, widths[-1])}
        assert abs(dcgan_weights(narrow) - wanted) <= abs(dcgan_weights(other) - wanted)


@settings(deadline=None, max_examples=25)
@given(parameters=st.integers(1, 20_000), colours=st.sampled_from([1, 3]), depth=st.integers(1, 3))
def test_a_deep_decoder_has_the_nearest_number_of_parameters(parameters: int, colours: int, depth: int) -> None:
    shape = (colours, 16, 16)
    found = deep_decoder_settings(shape, parameters, depth)
    off = abs(DeepDecoder(shape, **found).parameter_count - parameters)
    for channels in (found["channels"] - 1, found["channels"] + 1):
        if channels:
            assert off <= abs(DeepDecoder(shape, channels=channels, depth=depth).parameter_count - parameters)


@pytest.mark.parametrize(("side", "depth"), [(3, 1), (16, 3), (17, 4), (48, 5), (64, 5), (200, 5)])
def test_a_deep_decoder_is_as_deep_as_the_image_allows(side: int, depth: int) -> None:
    found = deep_decoder_settings((3, side, 2 * side), 500)
    assert found["depth"] == depth
    assert DeepDecoder((3, side, 2 * side), **found).image_shape == (3, side, 2 * side)


def test_networks_of_no_size_are_refused() -> None:
    for refusing in (
        lambda: narrow_dcgan_settings({"widths": (4, 4, 3)}, 0),
        lambda: deep_decoder_settings(SHAPE, 0),
    ):
        with pytest.raises(ValueError, match="1 or more") as refused:
            refusing()
        assert_one_sentence(refused.value)
