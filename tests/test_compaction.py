"""Compaction: a smaller network of the same class that draws the same images, from every architecture's channels."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from helpers import assert_one_sentence, tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs_lip.cli.main import main
from cs_lip.priors import DCGAN, PGGAN, Decoder, Generator, StyleGAN2, UntrainedNetwork, untrained_network
from cs_lip.priors.prunable import Prunable
from cs_lip.seeding import stream
from cs_lip.tickets.channels import channel_mask, dense_channels
from cs_lip.tickets.compaction import compact
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.selection import select
from cs_lip.tickets.settings import settings_of
from cs_lip.tickets.ticket import Ticket, write_ticket
from cs_lip.tickets.transfer import about_untrained

GENERATORS: dict[str, Callable[[], Generator]] = {
    "dcgan": lambda: DCGAN((5, 6, 7, 4, 3)),
    "dcgan of CSGM": lambda: DCGAN((5, 6, 4, 1), first=7, kernel=5, output_bias=True, labels=3, label=1),
    "pggan": lambda: PGGAN(5, (8, 7, 6)),
    "pggan of one side": lambda: PGGAN(3, (6,), channels=1),
    "stylegan2": lambda: StyleGAN2((5, 6, 4), (6, 5, 4), rate=0.5, clamp=40.0),
    "stylegan2 in w+": lambda: StyleGAN2((5, 6, 4), (5, 4), space="w+", rate=0.5, labels=3, label=2, embedding=2),
    "decoder": lambda: Decoder((4, 7, 6, 12), (3, 2, 2), "softplus"),
}
UNTRAINED: dict[str, tuple[str, dict[str, Any]]] = {
    "skip": ("skip", {"input_channels": 3, "widths": (5, 6, 4), "skips": (2, 0, 3)}),
    "skip without mixing": ("skip", {"widths": (4, 5), "skips": (0, 4), "mixing": False, "pooling": True}),
    "skip of one scale": ("skip", {"widths": (5,), "skips": (3,), "down_kernel": 5, "upsampling": "nearest"}),
    "hourglass": ("hourglass", {"widths": (4, 6), "skips": (0, 0)}),
    "deep decoder": ("deep_decoder", {"channels": 6, "depth": 2}),
    "conv decoder": ("conv_decoder", {"channels": (3, 5, 6, 4), "layers": 3, "input_size": (3, 2)}),
    "unet": ("unet", {"widths": (4, 3, 5)}),
}
NAMES = [*GENERATORS, *UNTRAINED]
DOUBLE, SINGLE = torch.float64, torch.float32


def make(name: str, seed: int = 0, dtype: torch.dtype = DOUBLE) -> Any:
    """A network none of whose numbers is zero or one, where that would hide something."""
    if name in GENERATORS:
        network: Prunable = GENERATORS[name]()
    else:
        kind, recipe = UNTRAINED[name]
        network = untrained_network(kind, (3, 11, 14), **recipe)
    random = stream(seed, "weights")
    for key, value in network.state_dict().items():
        drawn = torch.randn(value.shape, generator=random)
        if key.endswith(("running_var", "w_spread")):
            drawn = drawn.abs() + 0.5
        elif value.dim() > 1 and not isinstance(network, PGGAN | StyleGAN2):  # which have equalised learning rates
            drawn *= value[0].numel() ** -0.5
        value.copy_(drawn)
    return network.to(dtype).eval()


def point_for(network: Any) -> Tensor:
    """Where the network is looked at: latents, or its input."""
    if isinstance(network, Generator):
        return torch.randn(3, *network.latent_shape, generator=stream(1, "test")).to(network.dtype)
    return network.sample_input(generator=stream(1, "test"))


def random_scores(network: Prunable, seed: int) -> dict[str, Tensor]:
    random = stream(seed, "scores")
    return {name: torch.rand(kept.shape, generator=random) for name, kept in dense_channels(network).kept.items()}


def looked_at(network: Any) -> tuple[Tensor, Tensor]:
    """The images, and the gradient of a random combination of their pixels by the latents or the input."""
    point = point_for(network).requires_grad_()
    images = network(point)
    probe = torch.randn(images.shape, generator=stream(2, "test")).to(images.dtype)
    return images.detach(), torch.autograd.grad((images * probe).sum(), point)[0]


def assert_same(one: Any, other: Any, tolerance: float) -> None:
    for ours, theirs in zip(looked_at(one), looked_at(other), strict=True):
        assert (ours - theirs).norm() <= tolerance * max(1.0, float(theirs.norm()))


def weights_of(network: Prunable) -> int:
    return dense_channels(network).counts.total


# The same images from fewer channels


@pytest.mark.parametrize("name", NAMES)
@given(density=st.floats(0.2, 1), seed=st.integers(0, 1000), allocation=st.sampled_from(["global", "uniform"]))
@settings(deadline=None, max_examples=8)
def test_a_compacted_network_draws_the_same_images(name: str, density: float, seed: int, allocation: str) -> None:
    network = make(name, seed)
    # With one or two channels pixel norm jumps where they cross zero, and magnifies rounding without bound.
    floor = 0.5 if isinstance(network, PGGAN) else 0.0
    scores = random_scores(network, seed)
    mask = channel_mask(network, scores, max(density, least(network, floor)), allocation=allocation, floor=floor)
    mask.apply_(network)
    smaller = compact(network)
    assert type(smaller) is type(network)
    assert weights_of(smaller) == mask.counts.kept
    assert not smaller.kept
    assert_same(smaller, network, 1e-10)
    if isinstance(network, Generator):
        assert_same(smaller.fold(), network.fold(), 1e-10)
        assert_same(smaller.fold(), network, 1e-10)


def least(network: Prunable, floor: float) -> float:
    """The density of the floor, the same for all scores since all channels of a group have as many weights."""
    with pytest.raises(ValueError, match="or more, or a smaller floor") as caught:
        channel_mask(network, random_scores(network, 0), 1e-9, floor=floor)
    return float(str(caught.value).split("try ")[1].split(" ")[0])


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_errs_by_rounding_alone(name: str) -> None:
    network = make(name, dtype=SINGLE)
    channel_mask(network, random_scores(network, 3), 0.5).apply_(network)
    smaller = compact(network)
    images, gradient = looked_at(network)
    assert images.std() > 1e-3
    assert gradient.norm() > 1e-6
    assert weights_of(smaller) <= 0.5 * weights_of(network)
    assert smaller.dtype == SINGLE
    if isinstance(network, Generator):
        assert_same(smaller, network, 1e-5)
        assert_same(smaller.fold(), network.fold(), 1e-5)
    assert (looked_at(smaller)[0] - images).norm() <= 1e-5 * images.norm()


@pytest.mark.parametrize("name", UNTRAINED)
def test_the_weights_that_remain_have_the_same_gradients(name: str) -> None:
    network = make(name, 5)
    mask = channel_mask(network, random_scores(network, 5), 0.6)
    mask.apply_(network)
    smaller = compact(network)
    gradients = []
    for prior in (network, smaller):
        images = prior(point_for(prior))
        probe = torch.randn(images.shape, generator=stream(2, "test")).to(images.dtype)
        values = torch.autograd.grad((images * probe).sum(), [prior.get_parameter(key) for key in mask.kept])
        gradients.append(dict(zip(mask.kept, values, strict=True)))
    before, after = gradients
    for key, kept in mask.kept.items():
        torch.testing.assert_close(after[key].flatten(), before[key][kept], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_without_silent_channels_comes_back_equal(name: str) -> None:
    network = make(name)
    again = compact(network)
    before, after = network.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert torch.equal(value, after[key])
        assert value.data_ptr() != after[key].data_ptr()


@pytest.mark.parametrize("name", NAMES)
def test_settings_make_the_same_network_again(name: str) -> None:
    network = make(name)
    channel_mask(network, random_scores(network, 1), 0.6).apply_(network)
    smaller = compact(network)
    recipe = json.loads(json.dumps(settings_of(smaller)))
    image = [smaller.image_shape] if isinstance(smaller, UntrainedNetwork) else []
    again = type(smaller)(*image, **recipe).to(smaller.dtype).eval()
    again.load_state_dict(smaller.state_dict())
    assert torch.equal(again(point_for(again)), smaller(point_for(smaller)))
    assert settings_of(again) == settings_of(smaller)


# What is removed, and what is held


@pytest.mark.parametrize("name", ["dcgan", "pggan", "stylegan2", "skip", "deep decoder"])
def test_single_weights_stay_zero_and_held(name: str) -> None:
    network = make(name)
    scores = random_scores(network, 4)
    parent = select(scores, 0.7, parent=dense_channels(network), floor=0.2)
    mask = channel_mask(network, scores, 0.4, parent=parent)
    mask.apply_(network)
    smaller = compact(network)
    assert_same(smaller, network, 1e-10)
    zeros = {key: smaller.get_parameter(key) == 0 for key in mask.kept}
    assert sum(int((~zero).sum()) for zero in zeros.values()) == mask.counts.kept
    assert sum(int(zero.sum()) for zero in zeros.values()) > 0
    optimiser = torch.optim.Adam(smaller.parameters())
    smaller(point_for(smaller)).square().sum().backward()
    optimiser.step()
    smaller.project_()
    for key, zero in zeros.items():
        assert torch.equal(smaller.get_parameter(key) == 0, zero)


def test_what_only_removed_channels_read_is_removed_too() -> None:
    network = tiny_generator().double()
    with torch.no_grad():
        network.main[6].weight[1:] = 0  # of 8 channels the image reads the first,
        network.main[3].weight[2:, 0] = 0  # which reads two of 16; what the others read, nobody sees
    smaller = compact(network)
    assert smaller.widths == (8, 2, 1, 3)
    assert_same(smaller, network, 1e-10)


def test_of_channels_that_nobody_reads_one_remains() -> None:
    network = tiny_generator().double()
    with torch.no_grad():
        network.main[6].weight.zero_()
    smaller = compact(network)
    assert smaller.widths == (8, 16, 1, 3)
    assert torch.equal(smaller(point_for(smaller)), network(point_for(network)))


def test_a_constant_of_a_removed_channel_is_not_seen() -> None:
    network = tiny_generator().double()
    mask = channel_mask(network, random_scores(network, 0), 0.5)
    mask.apply_(network)
    expected = network(point_for(network))
    removed = ~mask.kept["main.3.weight"].flatten(1).any(1)
    assert removed.any()
    with torch.no_grad():
        network.main[1].bias[removed] = 100.0
    assert torch.equal(network(point_for(network)), expected)
    assert_same(compact(network), network, 1e-10)


def test_a_channel_that_dims_the_others_is_not_removed() -> None:
    network = make("pggan")
    mask = channel_mask(network, random_scores(network, 0), 0.5)
    mask.apply_(network)
    assert weights_of(compact(network)) == mask.counts.kept
    removed = int((~mask.kept["start.weight"].flatten(1).any(1)).nonzero()[0])
    expected = network(point_for(network))
    network.start.bias.data[removed] = 3.0  # pixel norm sums over it, though nobody reads it
    assert (network(point_for(network)) - expected).abs().max() > 1e-3
    network.project_()
    assert torch.equal(network(point_for(network)), expected)
    network.keep_({})  # from here on nothing holds it
    network.start.bias.data[removed] = 3.0
    assert weights_of(compact(network)) > mask.counts.kept
    assert_same(compact(network), network, 1e-10)


def test_the_source_is_left_alone_and_modes_are_kept() -> None:
    network = tiny_generator()
    channel_mask(network, random_scores(network, 0), 0.5).apply_(network)
    network.train().main[0].weight.requires_grad_(False)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    drawn = torch.get_rng_state()
    smaller = compact(network)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert smaller.training
    assert [key for key, value in smaller.named_parameters() if not value.requires_grad] == ["main.0.weight"]
    for value in smaller.state_dict().values():
        value.zero_()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("work", [compact, settings_of, dense_channels])
def test_folded_networks_are_refused(work: Callable[[Prunable], object]) -> None:
    with pytest.raises(ValueError, match="of a FoldedDCGAN are not known") as caught:
        work(tiny_generator().fold())
    assert_one_sentence(caught.value)


# Folded copies keep zeros


@pytest.mark.parametrize("name", ["dcgan", "pggan", "stylegan2", "stylegan2 in w+"])
@pytest.mark.parametrize("granularity", ["weight", "kernel", "channel"])
def test_folded_copies_hold_the_same_zeros(name: str, granularity: str) -> None:
    network = make(name)
    scores, parent = random_scores(network, 2), dense_channels(network)
    if granularity == "channel":
        mask = channel_mask(network, scores, 0.5)
    else:
        mask = select(scores, 0.5, parent=parent, granularity=granularity)
    dense = copy.deepcopy(network).fold()
    assert not dense.kept
    mask.apply_(network)
    folded = network.fold()
    expected = folded(point_for(folded))
    assert not all(kept.all() for kept in folded.kept.values())
    with torch.no_grad():
        for key, kept in folded.kept.items():
            assert torch.equal(folded.get_parameter(key) != 0, kept)
            folded.get_parameter(key)[~kept] = 1.0
    assert not torch.equal(folded(point_for(folded)), expected)
    folded.project_()
    assert torch.equal(folded(point_for(folded)), expected)


def test_a_folded_stylegan2_knows_its_weights() -> None:
    network = make("stylegan2 in w+")
    roles, folded = network.weight_groups(), network.fold().weight_groups()
    assert {role: len(names) for role, names in roles.items()} == {role: len(names) for role, names in folded.items()}
    assert folded["hidden"] == roles["hidden"]
    assert Mask.dense(network.fold()).counts == Mask.dense(network).counts


# On the command line


def test_inspecting_times_a_ticket_and_what_is_left_of_it(tmp_path: Path) -> None:
    recipe: dict[str, Any] = {"channels": 4, "depth": 1}
    network = untrained_network("deep_decoder", (3, 8, 8), **recipe)
    about = about_untrained("deep_decoder", (3, 8, 8), **recipe)
    for name, density in (("dense", 1.0), ("sparse", 0.5)):
        mask = channel_mask(network, random_scores(network, 0), density)
        write_ticket(tmp_path / f"{name}.safetensors", Ticket(mask, None, about))
        arguments = ["tickets", "inspect", str(tmp_path / f"{name}.safetensors"), "--time"]
        told = CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False)
        timings = json.loads(told.stdout)["timings"]
        assert list(timings) == ["ticket", *(["compacted"] if density < 1 else [])]
        for timing in timings.values():
            assert timing["batch"] == 1
            assert 0 < timing["operator_share"] < 1
    assert "compacted:" in CliRunner().invoke(main, arguments).stdout
