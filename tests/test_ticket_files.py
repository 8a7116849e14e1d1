"""Tickets on disk and between networks: what is written is read, damage is refused, foreign masks are found."""

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Trap, assert_one_sentence, tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import prune

from cs_lip.priors import DCGAN, Skip, UntrainedNetwork, add_generator, load_generator, untrained_network
from cs_lip.priors.pggan import PGGAN
from cs_lip.priors.prunable import Prunable
from cs_lip.priors.reading.weights import sha256_of
from cs_lip.seeding import stream
from cs_lip.tickets.fit import compared
from cs_lip.tickets.importing import imported
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.packing import pack, unpack
from cs_lip.tickets.store import bundled_tickets, find_ticket, load_ticket, own_tickets
from cs_lip.tickets.ticket import METADATA, About, Ticket, read_ticket, write_ticket
from cs_lip.tickets.transfer import (
    about_generator,
    about_untrained,
    mask_onto,
    mask_report,
    state_sha256,
    ticketed,
    ticketed_for,
    values_onto,
    values_report,
)

SHAPE = (3, 16, 16)
SMALL = {"widths": (8, 8), "skips": (4, 4)}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("CS_LIP_HOME", str(tmp_path / "home"))


def random_mask(network: Prunable, density: float = 0.4, roles: tuple[str, ...] = ("hidden",), seed: int = 0) -> Mask:
    names = [name for role in roles for name in network.weight_groups()[role]]
    masks = {}
    for name in names:
        scores = torch.rand(network.get_parameter(name).shape, generator=stream(seed, name))
        masks[name] = scores >= scores.flatten().kthvalue(max(1, int((1 - density) * scores.numel())))[0]
    return Mask(masks)


def about_tiny() -> About:
    return About("tiny", "generator", "dcgan", {"widths": [8, 16, 8, 3]}, "0" * 64)


def tiny_ticket(values: bool = True) -> Ticket:
    """Of a tiny generator, with odd batch norm statistics where it has values."""
    network = tiny_generator()
    mask = random_mask(network)
    mask.apply_(network)
    return Ticket(mask, network.state_dict() if values else None, about_tiny())


def skip_ticket(values: bool = False, seed: int = 3) -> Ticket:
    about = about_untrained("skip", SHAPE, seed, **SMALL)
    network = untrained_network("skip", SHAPE, seed, **SMALL)
    mask = random_mask(network)
    mask.apply_(network)
    return Ticket(mask, network.state_dict() if values else None, about)


def rewritten(path: Path, change: Callable[[dict[str, Tensor], dict[str, Any]], None]) -> Path:
    """The file with its tensors and what it says of itself changed."""
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        own = json.loads(file.metadata()[METADATA])
    change(tensors, own)
    save_file(tensors, path, metadata={METADATA: json.dumps(own)})
    return path


def written(folder: Path, ticket: Ticket) -> Path:
    path = folder / "a.safetensors"
    write_ticket(path, ticket)
    return path


# The file


@settings(deadline=None, max_examples=20)
@given(
    shapes=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=3),
    seed=st.integers(0, 10**6),
)
def test_packing_keeps_every_bit_in_an_eighth_of_the_bytes(shapes: list[list[int]], seed: int) -> None:
    rng = stream(seed, "bits")
    masks = {f"layer.{i}": torch.rand(shape, generator=rng) < 0.5 for i, shape in enumerate(shapes)}
    for kept in masks.values():
        kept.view(-1)[0] = True
    weights = {name: torch.randn(kept.shape, generator=rng) * kept for name, kept in masks.items()}
    state = weights | {"bias": torch.randn(3, generator=rng)}
    tensors = pack(Mask(masks), state)
    assert all(tensors[f"mask/{name}"].numel() == math.ceil(kept.numel() / 8) for name, kept in masks.items())
    assert all(len(tensors[f"kept/{name}"]) == int(kept.sum()) for name, kept in masks.items())
    mask, values = unpack(tensors, {name: tuple(kept.shape) for name, kept in masks.items()})
    assert values is not None and values.keys() == state.keys()
    for name, kept in masks.items():
        assert torch.equal(mask.kept[name], kept)
        assert torch.equal(values[name], weights[name].half().float())
    assert torch.equal(values["bias"], state["bias"])


def test_bits_stand_in_the_order_of_the_weights() -> None:
    mask = Mask({"w": torch.tensor([[1, 0, 0, 0, 0], [0, 0, 1, 1, 0]], dtype=torch.bool)})
    assert pack(mask, None)["mask/w"].tolist() == [0b10000001, 0b10000000]


@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("make", [tiny_ticket, skip_ticket])
def test_what_is_written_is_read_and_the_bytes_are_the_same_every_time(
    make: Callable[[bool], Ticket], values: bool, tmp_path: Path
) -> None:
    ticket = make(values)
    path = written(tmp_path, ticket)
    content = path.read_bytes()
    read = read_ticket(path)
    assert read.about == ticket.about and read.sha256 == ticket.sha256
    assert (read.values is None) is (not values)
    for name, value in (read.values or {}).items():
        assert ticket.values is not None
        rounding = 2**-11 * value.abs() + 1e-7 if name in ticket.mask.kept else torch.zeros(())
        assert ((value - ticket.values[name]).abs() <= rounding).all(), name
    write_ticket(path, read)
    assert path.read_bytes() == content


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = written(tmp_path, tiny_ticket(False))
    before = path.read_bytes()
    loud = tiny_ticket()
    assert loud.values is not None
    loud.values["main.3.weight"].mul_(1e6)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="half precision") as refused:
        write_ticket(path, loud)
    assert_one_sentence(refused.value)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_values_must_be_finite_zero_where_pruned_and_whole() -> None:
    ticket = tiny_ticket()
    assert ticket.values is not None
    dense, lame, short = (dict(ticket.values) for _ in range(3))
    dense["main.3.weight"] = torch.ones_like(dense["main.3.weight"])
    lame["main.4.running_var"] = lame["main.4.running_var"] * torch.nan
    del short["main.4.bias"]
    for values, says in ((dense, "not zero"), (lame, "not finite"), (short, "lacks 1, first main.4.bias")):
        with pytest.raises(ValueError, match=says) as refused:
            Ticket(ticket.mask, values, ticket.about)
        assert_one_sentence(refused.value)


def future(tensors: dict[str, Tensor], own: dict[str, Any]) -> None:
    own["format"] = 2


def another_kind(tensors: dict[str, Tensor], own: dict[str, Any]) -> None:
    own["kind"] = "cs-lip hat"


def another_architecture(tensors: dict[str, Tensor], own: dict[str, Any]) -> None:
    own["about"]["settings"]["widths"] = [8, 16, 4, 3]


def no_architecture(tensors: dict[str, Tensor], own: dict[str, Any]) -> None:
    own["about"]["architecture"] = "os.system"


def emptied(tensors: dict[str, Tensor], own: dict[str, Any]) -> None:
    tensors["mask/main.3.weight"].zero_()


def one_bit_more(tensors: dict[str, Tensor], own: dict[str, Any]) -> None:
    packed = tensors["mask/main.3.weight"]
    packed[(packed != 255).nonzero()[0]] = 255


def one_value_less(tensors: dict[str, Tensor], own: dict[str, Any]) -> None:
    tensors["kept/main.3.weight"] = tensors["kept/main.3.weight"][1:].clone()


def not_a_number(tensors: dict[str, Tensor], own: dict[str, Any]) -> None:
    tensors["kept/main.3.weight"][0] = torch.nan


def infinite(tensors: dict[str, Tensor], own: dict[str, Any]) -> None:
    tensors["state/main.4.bias"][0] = torch.inf


def too_few_bits(tensors: dict[str, Tensor], own: dict[str, Any]) -> None:
    tensors["mask/main.3.weight"] = tensors["mask/main.3.weight"][:-1].clone()


def absurd_shape(tensors: dict[str, Tensor], own: dict[str, Any]) -> None:
    own["shapes"]["main.3.weight"] = [2**40, 2**40]


def absurd_settings(tensors: dict[str, Tensor], own: dict[str, Any]) -> None:
    own["about"]["settings"]["widths"] = [8, 2**40, 8, 3]


def absurd_network(tensors: dict[str, Tensor], own: dict[str, Any]) -> None:
    own["about"]["settings"]["widths"] = [8, 2**14, 2**14, 3]


def another_tensor(tensors: dict[str, Tensor], own: dict[str, Any]) -> None:
    tensors["hat"] = torch.zeros(1)


def missing_state(tensors: dict[str, Tensor], own: dict[str, Any]) -> None:
    del tensors["state/main.4.bias"]


def no_about(tensors: dict[str, Tensor], own: dict[str, Any]) -> None:
    del own["about"]["criterion"]


def bell(tensors: dict[str, Tensor], own: dict[str, Any]) -> None:
    own["about"]["prior"] = "\x1b[2J"


DAMAGE = {
    future: "has format 2, this version reads 1",
    another_kind: "of kind 'cs-lip hat'",
    another_architecture: "have another shape there",
    no_architecture: "there is no 'os.system'",
    emptied: "empties the layer 'main.3.weight'",
    one_bit_more: "one half-precision value for each kept weight",
    one_value_less: "one half-precision value for each kept weight",
    not_a_number: "not finite",
    infinite: "not finite",
    too_few_bits: "one bit for each",
    absurd_shape: "one bit for each",
    absurd_settings: "numbers above 16384",
    absurd_network: "values, it may have",
    another_tensor: "holds 'hat'",
    missing_state: "lacks 1, first main.4.bias",
    no_about: "does not say where it came from",
    bell: "letters that cannot be shown",
}


@pytest.mark.parametrize("change", DAMAGE, ids=lambda change: change.__name__)
def test_a_damaged_ticket_is_refused(change: Callable[..., None], tmp_path: Path) -> None:
    path = rewritten(written(tmp_path, tiny_ticket()), change)
    with pytest.raises(ValueError, match=DAMAGE[change]) as refused:
        read_ticket(path)
    assert_one_sentence(refused.value)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_a_truncated_ticket_is_refused(share: float, tmp_path: Path) -> None:
    path = written(tmp_path, tiny_ticket())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"a\.safetensors") as refused:
        read_ticket(path)
    assert_one_sentence(refused.value)


@settings(deadline=None, max_examples=15)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_flipped_byte_is_refused_in_a_sentence_or_gives_a_whole_ticket(
    tmp_path_factory: pytest.TempPathFactory, place: float, flip: int
) -> None:
    path = written(tmp_path_factory.mktemp("flip"), skip_ticket())
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= flip
    path.write_bytes(content)
    try:
        read = read_ticket(path)
    except ValueError as error:
        assert_one_sentence(error)
    else:
        assert read.mask.kept.keys() == skip_ticket().mask.kept.keys()


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_is_never_unpickled(kind: str, tmp_path: Path) -> None:
    path, marker = tmp_path / "ticket.pt", tmp_path / "opened"
    if kind == "torch":
        torch.save({"mask": Trap(marker)}, path)
    else:
        path.write_bytes(pickle.dumps(Trap(marker)))
    with pytest.raises(ValueError, match="a ticket is safetensors, so nothing in it was loaded") as refused:
        read_ticket(path)
    assert_one_sentence(refused.value)
    with pytest.raises(ValueError, match=r"ticket\.pt") as refused:
        imported(path, about_tiny())
    assert_one_sentence(refused.value)
    assert not marker.exists()


def test_weights_and_missing_files_are_no_tickets(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"w": torch.zeros(2)}, path)
    for wrong, says in ((path, "no ticket"), (tmp_path / "none", "there is no ticket"), (tmp_path, "there is no")):
        with pytest.raises(ValueError, match=says) as refused:
            read_ticket(wrong)
        assert_one_sentence(refused.value)


# From tickets to networks


@pytest.fixture
def added(tmp_path: Path) -> About:
    """A tiny generator of the user's own."""
    weights = tmp_path / "tiny.safetensors"
    save_file({name: value for name, value in tiny_generator().state_dict().items() if "num_b" not in name}, weights)
    add_generator(weights, "tiny")
    return about_generator("tiny")


def test_a_mask_alone_takes_the_weights_of_the_generator_by_name(added: About) -> None:
    base, mask = load_generator("tiny"), random_mask(tiny_generator())
    network = ticketed(Ticket(mask, None, added))
    assert Mask.measured(network, mask.kept).sha256 == mask.sha256
    for name, value in base.state_dict().items():
        kept = mask.kept.get(name, torch.ones((), dtype=torch.bool))
        assert torch.equal(network.state_dict()[name], value * kept), name
    other = Ticket(mask, None, replace(added, base_sha256="1" * 64))
    with pytest.raises(ValueError, match=r"SHA-256 111111111111\.\.\., those here have") as refused:
        ticketed(other)
    assert_one_sentence(refused.value)


def test_values_need_no_base_and_draw_as_the_network_did(tmp_path: Path) -> None:
    ticket = read_ticket(written(tmp_path, tiny_ticket()))
    original = tiny_generator()
    ticket.mask.apply_(original)
    latents = original.sample_latents(4, generator=stream(0, "latents"))
    network = ticketed(ticket)
    assert isinstance(network, DCGAN) and network.kept.keys() == ticket.mask.kept.keys()
    with torch.no_grad():
        torch.testing.assert_close(network(latents), original(latents), rtol=0, atol=2e-3)
        torch.testing.assert_close(network.fold()(latents), network(latents), rtol=0, atol=1e-5)


def test_masked_weights_stay_zero_under_momentum(tmp_path: Path) -> None:
    network = ticketed(read_ticket(written(tmp_path, skip_ticket())))
    assert isinstance(network, UntrainedNetwork)
    inputs = network.sample_input(generator=stream(0, "input"))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        network(inputs).sum().backward()
        optimiser.step()
        network.project_()
    for name, kept in network.kept.items():
        assert not network.get_parameter(name)[~kept].any()


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 24, 20), (1, 40, 17)])
def test_an_untrained_ticket_serves_other_image_sizes(shape: tuple[int, int, int]) -> None:
    ticket = skip_ticket(seed=3)
    network = ticketed_for(ticket, shape)
    assert network.image_shape == shape
    dense = untrained_network("skip", shape, 3, **SMALL)
    for name, kept in ticket.mask.kept.items():
        assert torch.equal(network.get_parameter(name), dense.get_parameter(name) * kept)


def test_initial_weights_of_another_seed_are_refused() -> None:
    ticket = skip_ticket(seed=3)
    other = Ticket(ticket.mask, None, replace(ticket.about, seeds={"weights": 4}))
    with pytest.raises(ValueError, match="those here have") as refused:
        ticketed(other)
    assert_one_sentence(refused.value)


def test_mask_transfer_keeps_the_networks_weights_and_ticket_transfer_the_tickets() -> None:
    ticket = skip_ticket(values=True, seed=3)
    other = untrained_network("skip", (3, 32, 24), 9, **SMALL)
    before = state_sha256(other)
    masked, moved = mask_onto(ticket, other), values_onto(ticket, other)
    assert state_sha256(other) == before and not other.kept
    assert ticket.values is not None
    for name, kept in ticket.mask.kept.items():
        assert torch.equal(masked.get_parameter(name), other.get_parameter(name) * kept)
        assert torch.equal(moved.get_parameter(name), ticket.values[name])
    assert torch.equal(masked.output.bias, other.output.bias) and torch.equal(
        moved.output.bias, ticket.values["output.bias"]
    )


def test_a_mask_moves_between_generators_of_one_architecture() -> None:
    ticket, other = tiny_ticket(), tiny_generator(seed=1)
    assert ticket.values is not None
    masked, moved = mask_onto(ticket, other), values_onto(ticket, other)
    kept = ticket.mask.kept["main.3.weight"]
    assert torch.equal(masked.get_parameter("main.3.weight"), other.get_parameter("main.3.weight") * kept)
    assert torch.equal(masked.get_buffer("main.1.running_var"), other.get_buffer("main.1.running_var"))
    assert torch.equal(moved.get_buffer("main.1.running_var"), ticket.values["main.1.running_var"])
    assert not mask_report(ticket, other.fold()).fits


def test_the_report_names_what_does_not_fit() -> None:
    ticket = skip_ticket(values=True)
    deeper = untrained_network("skip", (3, 32, 32), 0, widths=(8, 8, 8), skips=(4, 4, 4))
    report = mask_report(ticket, deeper)
    assert report.missing == tuple(
        sorted(
            name
            for name in dict(deeper.named_parameters())
            if name.startswith("scales.2") and name.endswith("conv.weight")
        )
    )
    assert not report.unexpected and not report.reshaped
    wider = untrained_network("skip", SHAPE, 0, widths=(8, 16), skips=(4, 4))
    assert ("scales.1.halve.conv.weight", (8, 8, 3, 3), (16, 8, 3, 3)) in mask_report(ticket, wider).reshaped
    gray = untrained_network("skip", (1, 16, 16), 0, **SMALL)
    assert mask_report(ticket, gray).fits
    assert [name for name, _, _ in values_report(ticket, gray).reshaped] == ["output.bias", "output.weight"]
    for network, move in ((deeper, mask_onto), (wider, mask_onto), (gray, values_onto), (tiny_generator(), mask_onto)):
        with pytest.raises(ValueError, match=r"does not fit the network: of its \d+ tensors") as refused:
            move(ticket, network)  # type: ignore[operator]
        assert_one_sentence(refused.value)
    with pytest.raises(ValueError, match="a mask alone") as refused:
        values_onto(skip_ticket(), gray)
    assert_one_sentence(refused.value)


@settings(deadline=None, max_examples=40)
@given(
    brought=st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(1, 2)), max_size=4),
    there=st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(1, 2)), max_size=4),
)
def test_a_report_fits_exactly_where_names_and_shapes_are_equal(
    brought: dict[str, tuple[int]], there: dict[str, tuple[int]]
) -> None:
    report = compared(brought, there)
    assert report.fits is (brought == there)
    if not report.fits:
        with pytest.raises(ValueError, match="the mask does not fit") as refused:
            report.check("the mask")
        assert_one_sentence(refused.value)


# Foreign masks


def listed(*modules: nn.Module) -> nn.Sequential:
    """A list that counts from 1, as the published skip network's do."""
    holder = nn.Sequential()
    for number, module in enumerate(modules, 1):
        holder.add_module(str(number), module)
    return holder


class SideBySide(nn.Module):
    def __init__(self, *paths: nn.Module) -> None:
        super().__init__()
        for number, path in enumerate(paths):
            self.add_module(str(number), path)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([path(x) for path in self.children()], 1)


def step(fan_in: int, fan_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Sequential(nn.ReflectionPad2d(kernel // 2), nn.Conv2d(fan_in, fan_out, kernel, stride))
    return [conv, nn.BatchNorm2d(fan_out), nn.LeakyReLU(0.2)]


def published_skip(
    widths: tuple[int, ...], skips: tuple[int, ...], fan_in: int = 32, mixing: bool = True
) -> nn.Sequential:
    """The published skip network with its names, the outermost scale first; without the last layer."""
    width, skip = widths[0], skips[0]
    inner = [published_skip(widths[1:], skips[1:], width, mixing)] if widths[1:] else []
    up = nn.Upsample(scale_factor=2, mode="bilinear")
    deeper = listed(*step(fan_in, width, 3, 2), *step(width, width, 3), *inner, up)
    below = widths[1] if widths[1:] else width
    first = SideBySide(listed(*step(fan_in, skip, 1)), deeper) if skip else deeper
    mix = step(width, width, 1) if mixing else []
    return listed(first, nn.BatchNorm2d(skip + below), *step(skip + below, width, 3), *mix)


def published(widths: tuple[int, ...], skips: tuple[int, ...], mixing: bool = True) -> nn.Sequential:
    network = published_skip(widths, skips, mixing=mixing)
    network.add_module(str(len(network) + 1), nn.Sequential(nn.ReflectionPad2d(0), nn.Conv2d(widths[0], 3, 1)))
    network.add_module(str(len(network) + 1), nn.Sigmoid())
    rng = torch.Generator().manual_seed(0)
    for values in network.parameters():
        values.data = 0.3 * torch.randn(values.shape, generator=rng) + (1 if values.dim() == 1 else 0)
    return network


def pruned(network: nn.Module, seed: int = 0) -> nn.Module:
    """By PyTorch's own pruning, every convolution at its own random mask."""
    rng = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            mask = torch.rand(module.weight.shape, generator=rng) < 0.5
            mask.view(-1)[0] = True
            prune.custom_from_mask(module, "weight", mask)
    return network


@pytest.mark.parametrize(
    ("skips", "mixing"), [((4, 4, 4), True), ((0, 4, 0), True), ((0, 0, 0), False)], ids=["skips", "one", "none"]
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_pruned_published_skip_network_draws_the_same_as_its_ticket(
    skips: tuple[int, ...], mixing: bool, prefix: str, tmp_path: Path
) -> None:
    theirs = pruned(published((8, 12, 8), skips, mixing))
    torch.save({prefix + name: value for name, value in theirs.state_dict().items()}, tmp_path / "m.pt")
    about = about_untrained("skip", (3, 32, 24), widths=(8, 12, 8), skips=skips, mixing=mixing)
    ticket = imported(tmp_path / "m.pt", about)
    ours = ticketed(ticket)
    assert isinstance(ours, Skip)
    inputs = ours.sample_input(generator=stream(0, "input"))
    with torch.no_grad():
        torch.testing.assert_close(ours(inputs), theirs(inputs), rtol=0, atol=2e-5)
    assert len(ticket.mask.kept) == sum(name.endswith("_mask") for name in theirs.state_dict())


def test_masks_of_the_lip_code_leave_the_input_dense_and_take_the_weights_of_the_seed(tmp_path: Path) -> None:
    state = pruned(published((8, 8), (4, 4))).state_dict()
    masks = {name: value for name, value in state.items() if "mask" in name}
    torch.save(masks, tmp_path / "mask_prune_state_6.pt")
    ticket = imported(tmp_path / "mask_prune_state_6.pt", about_untrained("skip", SHAPE, 5, **SMALL))
    assert ticket.values is None
    dense = untrained_network("skip", SHAPE, 5, **SMALL)
    groups = dense.weight_groups()
    assert ticket.mask.kept.keys() == {*groups["hidden"], *groups["output"]}
    assert torch.equal(ticket.mask.kept["scales.1.halve.conv.weight"], masks["1.1.7.1.1.1.1.weight_mask"].bool())
    network = ticketed(ticket)
    for name in groups["input"]:
        assert torch.equal(network.get_parameter(name), dense.get_parameter(name))


def test_a_pruned_generator_of_our_names(tmp_path: Path) -> None:
    theirs = pruned(tiny_generator()).eval()
    save_file({n: v.contiguous() for n, v in theirs.state_dict().items()}, tmp_path / "m.safetensors")
    network = ticketed(imported(tmp_path / "m.safetensors", about_tiny()))
    latents = torch.randn(3, 8, generator=stream(0, "z"))
    with torch.no_grad():
        torch.testing.assert_close(network(latents), theirs(latents), rtol=0, atol=1e-6)


def test_masks_of_the_zoos_pggan_and_of_its_smaller_sides(tmp_path: Path) -> None:
    network = PGGAN(4, (6, 6, 4))
    mask = random_mask(network)
    theirs = {"doublings.0.0": "scaleLayers.0.0", "doublings.0.1": "scaleLayers.0.1", "start": "groupScale0.0"}
    theirs |= {"doublings.1.0": "scaleLayers.1.0", "doublings.1.1": "scaleLayers.1.1"}
    masks = {
        f"{theirs[name.removesuffix('.weight')]}.module.weight_mask": kept.float() for name, kept in mask.kept.items()
    }
    masks |= {"toRGBLayers.0.module.weight_mask": torch.ones(3, 6, 1, 1)}
    torch.save({f"module.{name}": value for name, value in masks.items()}, tmp_path / "m.pth")
    about = About("faces", "generator", "pggan", {"latents": 4, "depths": [6, 6, 4]}, "0" * 64)
    assert imported(tmp_path / "m.pth", about).sha256 == mask.sha256


def foreign(**changes: Any) -> dict[str, Tensor]:
    state = dict(pruned(tiny_generator()).state_dict()) | changes
    return {name: value.contiguous() for name, value in state.items() if value is not None}


FOREIGN = {
    "no mask": (lambda: tiny_generator().state_dict(), "it holds no mask"),
    "half a mask": (lambda: foreign(**{"main.3.weight_mask": torch.full((16, 8, 4, 4), 0.5)}), "other values than 0"),
    "empty": (lambda: foreign(**{"main.3.weight_mask": torch.zeros(16, 8, 4, 4)}), "empties the layer"),
    "another shape": (lambda: foreign(**{"main.3.weight_mask": torch.ones(16, 8, 2, 2)}), "have another shape there"),
    "another name": (lambda: foreign(**{"conv9.weight_mask": torch.ones(2)}), "1 are not in the network"),
    "part of the weights": (lambda: foreign(**{"main.4.bias": None}), "lacks 1, first main.4.bias"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_masks_that_do_not_fit_are_refused(case: str, tmp_path: Path) -> None:
    make, says = FOREIGN[case]
    save_file({name: value.contiguous() for name, value in make().items()}, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=says) as refused:
        imported(tmp_path / "m.safetensors", about_tiny())
    assert_one_sentence(refused.value)
    assert "m.safetensors" in str(refused.value)


# By name


def catalogued(folder: Path, **changes: Any) -> Path:
    path = written(folder, skip_ticket())
    row = {"file": path.name, "sha256": sha256_of(path), "bytes": path.stat().st_size, "description": "small"}
    row |= changes
    lines = [f"{key} = {json.dumps(value)}" for key, value in row.items() if value is not None]
    text = "\n".join(["[small]", *lines, "[small.recovery]", '"500" = 21.5'])
    (folder / "catalogue.toml").write_text(text)
    return path


def test_bundled_tickets_come_with_what_was_measured(tmp_path: Path) -> None:
    assert bundled_tickets(tmp_path) == {}
    path = catalogued(tmp_path)
    (ticket,) = bundled_tickets(tmp_path).values()
    assert ticket.path == path and ticket.sha256 == sha256_of(path) and ticket.recovery == {"500": 21.5}


@pytest.mark.parametrize("field", ["file", "sha256", "bytes", "description"])
def test_a_row_without_a_field_is_refused(field: str, tmp_path: Path) -> None:
    catalogued(tmp_path, **{field: None})
    with pytest.raises(ValueError, match=f"lacks the field '{field}'") as refused:
        bundled_tickets(tmp_path)
    assert_one_sentence(refused.value)


def test_a_swapped_bundled_ticket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tickets").mkdir()
    path = catalogued(tmp_path / "tickets")
    monkeypatch.setattr("cs_lip.tickets.store.pretrained_folder", lambda: tmp_path)
    assert load_ticket("small").sha256 == skip_ticket().sha256
    write_ticket(path, skip_ticket(seed=8))
    with pytest.raises(ValueError, match="damaged or was swapped") as refused:
        load_ticket("small")
    assert_one_sentence(refused.value)


def test_own_tickets_by_name_and_by_file(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "tickets"
    folder.mkdir(parents=True)
    write_ticket(folder / "mine.safetensors", skip_ticket())
    assert list(own_tickets()) == ["mine"]
    by_name, by_file = find_ticket("mine"), find_ticket(folder / "mine.safetensors")
    assert by_name.path == by_file.path and by_name.sha256 == sha256_of(by_file.path)
    with pytest.raises(ValueError, match="there is no ticket 'yours'") as refused:
        find_ticket("yours")
    assert_one_sentence(refused.value)
