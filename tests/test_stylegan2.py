"""StyleGAN2: the published equations, two foreign layouts, three spaces of latents, and folding."""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from helpers import assert_one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from cs_lip.priors import Options, build, load_generator, recognise
from cs_lip.priors.blueprint import Blueprint
from cs_lip.priors.layouts.stylegan2 import from_nvlabs
from cs_lip.priors.stylegan2 import StyleGAN2
from cs_lip.priors.stylegan2_mapping import spread_of
from cs_lip.seeding import stream

State = dict[str, Tensor]
TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
WIDTHS, DEPTHS = (8, 10, 12), (6, 5, 4)
SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def nvlabs_state(
    widths: Sequence[int] = WIDTHS, depths: Sequence[int] = DEPTHS, channels: int = 3, labels: int = 0, seed: int = 0
) -> State:
    """Random weights under the keys of training/networks.py, loud enough to draw more than grey."""
    random = stream(seed, "weights")

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    def layer(prefix: str, fan_in: int, fan_out: int, side: int) -> State:
        return {
            f"{prefix}.affine.weight": draw(fan_in, widths[-1]),
            f"{prefix}.affine.bias": 1 + draw(fan_in),
            f"{prefix}.weight": draw(fan_out, fan_in, 3, 3) if side else draw(fan_out, fan_in, 1, 1),
            f"{prefix}.bias": draw(fan_out),
        } | (
            {
                f"{prefix}.noise_const": draw(side, side),
                f"{prefix}.noise_strength": draw(),
                f"{prefix}.resample_filter": torch.outer(TAPS, TAPS).float() / 64,
            }
            if side
            else {}
        )

    embedding = 5 if labels else 0
    state = {"mapping.w_avg": draw(widths[-1]), "synthesis.b4.const": draw(depths[0], 4, 4)}
    if labels:
        state |= {"mapping.embed.weight": draw(embedding, labels), "mapping.embed.bias": draw(embedding)}
    for index, (before, after) in enumerate(pairwise([widths[0] + embedding, *widths[1:]])):
        state |= {f"mapping.fc{index}.weight": 100 * draw(after, before), f"mapping.fc{index}.bias": 100 * draw(after)}
    for index, depth in enumerate(depths):
        side = 4 * 2**index
        block = f"synthesis.b{side}"
        state[f"{block}.resample_filter"] = torch.outer(TAPS, TAPS).float() / 64
        if index:
            state |= layer(f"{block}.conv0", depths[index - 1], depth, side)
        state |= layer(f"{block}.conv1", depth, depth, side) | layer(f"{block}.torgb", depth, channels, 0)
    return state


def make(state: State, **options: object) -> StyleGAN2:
    generator = build(recognise(state, Options(**options)))  # type: ignore[arg-type]
    assert isinstance(generator, StyleGAN2)
    return generator


def latents_for(generator: StyleGAN2, count: int = 3) -> Tensor:
    return generator.sample_latents(count, generator=stream(1, "test"))


# The published equations, literally, one sample at a time and in double precision


def filtered(image: Tensor, taps: Tensor, up: int, before: int, after: int) -> Tensor:
    """Zeros between the pixels, padding, and convolution with a filter, for each channel of (n, c, h, w)."""
    count, channels, height, width = image.shape
    spread = image.new_zeros(count, channels, height * up, width * up)
    spread[:, :, ::up, ::up] = image
    padded = functional.pad(spread, (before, after, before, after))
    kernel = taps.flip(0, 1).expand(channels, 1, *taps.shape).to(image)
    return functional.conv2d(padded, kernel, groups=channels)


def linear(state: State, name: str, vector: Tensor, rate: float = 1.0) -> Tensor:
    weight = state[f"{name}.weight"]
    return weight @ vector * rate / math.sqrt(weight.shape[1]) + rate * state[f"{name}.bias"]


def activated(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 0.2 * values) * math.sqrt(2)


def published_w(state: State, z: Tensor, label: int | None = None) -> Tensor:
    def normalise(vector: Tensor) -> Tensor:
        return vector / torch.sqrt((vector**2).mean() + 1e-8)

    vector = normalise(z)
    if label is not None:
        one_hot = torch.zeros(state["mapping.embed.weight"].shape[1], dtype=z.dtype)
        one_hot[label] = 1
        vector = torch.cat([vector, normalise(linear(state, "mapping.embed", one_hot))])
    for index in range(100):
        if f"mapping.fc{index}.weight" not in state:
            break
        vector = activated(linear(state, f"mapping.fc{index}", vector, 0.01))
    return vector


def published_image(state: State, ws: Tensor, clamp: float = math.inf) -> Tensor:
    """The image of one sample, (channels, side, side), before it is clipped; ws has one row for each layer."""
    double = 4 * torch.outer(TAPS, TAPS) / 64

    def conv(name: str, features: Tensor, w: Tensor, up: bool) -> Tensor:
        weight = state[f"{name}.weight"] * linear(state, f"{name}.affine", w)[None, :, None, None]
        weight = weight / torch.sqrt((weight**2).sum((1, 2, 3), keepdim=True) + 1e-8)
        if up:
            # The stored kernel is that of a transposed convolution: a correlation with the flipped one.
            features = filtered(features, torch.ones(1, 1), 2, 2, 1)
            features = functional.conv2d(features, weight.flip(2, 3))
            features = filtered(features, double, 1, 1, 1)
        else:
            features = functional.conv2d(functional.pad(features, (1, 1, 1, 1)), weight)
        features = features + state[f"{name}.noise_const"] * state[f"{name}.noise_strength"]
        return activated(features + state[f"{name}.bias"][:, None, None]).clamp(-clamp, clamp)

    features, image = state["synthesis.b4.const"][None], None
    for index in range(len(ws) // 2):
        block = f"synthesis.b{4 * 2**index}"
        if index:
            features = conv(f"{block}.conv0", features, ws[2 * index - 1], True)
        features = conv(f"{block}.conv1", features, ws[2 * index], False)
        weight = (
            state[f"{block}.torgb.weight"] * linear(state, f"{block}.torgb.affine", ws[2 * index + 1])[:, None, None]
        )
        colours = functional.conv2d(features, weight / math.sqrt(weight.shape[1]))
        colours = (colours + state[f"{block}.torgb.bias"][:, None, None]).clamp(-clamp, clamp)
        image = colours if image is None else filtered(image, double, 2, 2, 1) + colours
    assert image is not None
    return image[0]


def in_unit_range(image: Tensor) -> Tensor:
    return ((image + 1) / 2).clamp(0, 1)


@given(depths=SIZES, widths=st.lists(st.integers(1, 6), min_size=2, max_size=4), labels=st.sampled_from([0, 1, 3]))
@settings(deadline=None, max_examples=15)
def test_images_are_those_of_the_published_equations(depths: list[int], widths: list[int], labels: int) -> None:
    state = nvlabs_state(widths, depths, labels=labels, seed=len(depths))
    label = labels - 1 if labels else None
    generator = make(state, label=label).double()
    doubles = {name: value.double() for name, value in state.items()}
    latents = latents_for(generator)
    expected = [
        in_unit_range(published_image(doubles, published_w(doubles, z, label).expand(2 * len(depths), -1)))
        for z in latents
    ]
    side = 4 * 2 ** (len(depths) - 1)
    for draw in (generator, generator.fold()):
        images = draw(latents)
        assert images.shape == (3, 3, side, side)
        torch.testing.assert_close(images, torch.stack(expected), rtol=0, atol=1e-9)


def test_every_layer_has_its_own_row_of_ws() -> None:
    state = nvlabs_state()
    generator = make(state, space="w+").double()
    doubles = {name: value.double() for name, value in state.items()}
    latents = torch.randn(2, 6, 12, generator=stream(3, "rows"), dtype=torch.float64)
    ws = generator.w_mean + generator.w_spread * latents
    expected = torch.stack([in_unit_range(published_image(doubles, rows)) for rows in ws])
    torch.testing.assert_close(generator(latents), expected, rtol=0, atol=1e-9)
    for row in range(6):  # the oracle's image depends on every row, so the comparison above says something
        moved = ws[0].clone()
        moved[row] += 1
        assert (published_image(doubles, moved) - published_image(doubles, ws[0])).abs().max() > 1e-3


def test_clamped_layers_are_clamped() -> None:
    state = nvlabs_state()
    generator = build(from_nvlabs(state, clamp=0.5)).double()
    doubles = {name: value.double() for name, value in state.items()}
    latents = torch.randn(2, 8, generator=stream(3, "z"), dtype=torch.float64)
    ws = [published_w(doubles, z).expand(6, -1) for z in latents]
    expected = torch.stack([in_unit_range(published_image(doubles, rows, clamp=0.5)) for rows in ws])
    free = torch.stack([in_unit_range(published_image(doubles, rows)) for rows in ws])
    assert (expected - free).abs().max() > 0.1
    for draw in (generator, generator.fold()):
        torch.testing.assert_close(draw(latents), expected, rtol=0, atol=1e-9)


# The layout of rosinality's stylegan2-pytorch, against another implementation


@pytest.fixture(scope="module")
def oracle() -> Iterator[ModuleType]:
    """The package stylegan2-torch, a descendant of rosinality's code that draws one channel. It compiles two operators
    for CUDA when it is imported; on the CPU it needs but one of them, which is written out above.
    """

    def upfirdn2d(image: Tensor, taps: Tensor, up: int, _up: int, down: int, _down: int, *padding: int) -> Tensor:
        assert down == _down == 1 and up == _up and padding[:2] == padding[2:]
        return filtered(image, taps, up, *padding[:2])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.utils.cpp_extension.load", lambda *_, **__: SimpleNamespace(upfirdn2d=upfirdn2d))
        reason = "no numerical oracle; try pip install --no-deps stylegan2-torch==1.3.0 torch-conv-gradfix==0.1.0"
        yield pytest.importorskip("stylegan2_torch", reason=reason, exc_type=ImportError)


def rosinality_state(oracle_state: State) -> State:
    """The oracle's weights under rosinality's keys."""
    state = {}
    for name, value in oracle_state.items():
        kind, _, rest = name.partition(".")
        number, _, tail = rest.partition(".")
        for theirs, ours in (
            ("affine", "conv.modulation"),
            ("add_noise", "noise"),
            ("leaky_relu", "activate"),
            ("blur", "conv.blur"),
        ):
            tail = tail.replace(theirs, ours)
        tail = "conv.weight" if tail == "weight" and kind != "mapping" else tail
        match kind:
            case "mapping":
                key = f"style.{rest}"
            case "input":
                key = name
            case "to_rgbs":
                key = f"to_rgb1.{tail}" if number == "0" else f"to_rgbs.{int(number) - 1}.{tail}"
            case "up_convs":
                key = f"convs.{2 * int(number)}.{tail}"
            case _:
                key = f"conv1.{tail}" if number == "0" else f"convs.{2 * int(number) - 1}.{tail}"
        state[key] = value
    return state


@pytest.mark.parametrize(
    ("side", "depths"), [(8, (3, 5)), (32, (7, 6, 5, 4)), (256, (64, 64, 64, 64, 32, 16, 8))], ids=str
)
def test_images_are_those_of_another_implementation(oracle: ModuleType, side: int, depths: tuple[int, ...]) -> None:
    random = stream(side, "oracle")
    with torch.random.fork_rng():
        reference = oracle.Generator(
            side, latent_dim=16, n_mlp=3, channels={4 * 2**index: depth for index, depth in enumerate(depths)}
        )
    for name, value in reference.named_parameters():
        loudness = 100 if name.startswith("mapping") else 0.2 if name.startswith("to_rgbs") else 1  # images in range
        value.data = loudness * torch.randn(value.shape, generator=random)
    sides = [4, *(4 * 2 ** ((index + 1) // 2) for index in range(1, 2 * len(depths) - 1))]
    noises = [torch.randn(1, 1, length, length, generator=random) for length in sides]
    state = rosinality_state(reference.state_dict()) | {f"noises.noise_{i}": n for i, n in enumerate(noises)}
    generator = make(state)
    latents = latents_for(generator, 2)
    with torch.no_grad():
        expected = in_unit_range(reference([latents], noises=noises))
        assert expected.std() > 0.02
        for draw in (generator, generator.fold()):
            torch.testing.assert_close(draw(latents), expected, rtol=0, atol=1e-5)


def as_rosinality(state: State) -> State:
    """Weights in NVlabs' layout under rosinality's keys, in the shapes of model.py."""
    renamed: State = {"latent_avg": state["mapping.w_avg"], "input.input": state["synthesis.b4.const"][None]}
    for name, value in state.items():
        parts = name.split(".")
        if parts[0] == "mapping" and parts[1].startswith("fc"):
            renamed[f"style.{int(parts[1][2:]) + 1}.{parts[2]}"] = value
        if parts[0] == "mapping" or len(parts) < 4:
            continue
        level = int(math.log2(int(parts[1][1:]))) - 3
        if parts[2] == "torgb":
            place = f"to_rgbs.{level}" if level >= 0 else "to_rgb1"
        else:
            place = f"convs.{2 * level + int(parts[2][4:])}" if level >= 0 else "conv1"
        match parts[3]:
            case "affine":
                renamed[f"{place}.conv.modulation.{parts[4]}"] = value
            case "weight":
                renamed[f"{place}.conv.weight"] = value[None]
            case "bias":
                key, shape = (
                    (f"{place}.bias", (1, -1, 1, 1)) if parts[2] == "torgb" else (f"{place}.activate.bias", (-1,))
                )
                renamed[key] = value.reshape(shape)
            case "noise_strength":
                renamed[f"{place}.noise.weight"] = value[None]
            case "noise_const":
                number = 2 * level + int(parts[2][4:]) + 1 if level >= 0 else 0
                renamed[f"noises.noise_{number}"] = value[None, None]
            case "resample_filter" if parts[2] == "conv0":
                renamed[f"{place}.conv.blur.kernel"] = 4 * value
                renamed[f"to_rgbs.{level}.upsample.kernel"] = 4 * value
    return renamed


@pytest.mark.parametrize("space", ["z", "w", "w+"])
def test_both_layouts_make_the_same_generator(space: str) -> None:
    state = nvlabs_state()
    one, other = make(state, space=space), make(as_rosinality(state), space=space)
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert torch.equal(one(latents_for(one)), other(latents_for(one)))


def test_a_checkpoint_of_rosinality_brings_its_mean_along(tmp_path: Path) -> None:
    state = as_rosinality(nvlabs_state())
    mean = state.pop("latent_avg")
    checkpoint = {"g": state, "g_ema": state, "latent_avg": mean, "args": argparse.Namespace(size=16), "ada_aug_p": 0}
    torch.save(checkpoint, tmp_path / "model.pt")
    generator = load_generator(str(tmp_path / "model.pt"), options=Options(space="w"))
    assert torch.equal(generator.state_dict()["w_mean"], mean)


def test_noise_that_is_not_in_the_file_is_drawn_once_and_for_all() -> None:
    state = {name: value for name, value in as_rosinality(nvlabs_state()).items() if not name.startswith("noises.")}
    generator, again = make(state), make(state)
    latents = latents_for(generator)
    assert torch.equal(generator(latents), again(latents))
    noise = torch.cat([v.flatten() for n, v in generator.state_dict().items() if n.endswith("noise_const")])
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
    assert len(noise.unique()) == len(noise) == 16 + 2 * 64 + 2 * 256
    silent = make({n: torch.zeros_like(v) if n.endswith("noise.weight") else v for n, v in state.items()})
    assert not torch.equal(generator(latents), silent(latents))


# The spaces of latents


def test_length_of_z_plays_no_part() -> None:
    generator = make(nvlabs_state())
    assert generator.geometry == "sphere" and generator.latent_shape == (8,)
    latents = latents_for(generator)
    torch.testing.assert_close(generator(3 * latents), generator(latents), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("space", "shape"), [("w", (12,)), ("w+", (6, 12))])
def test_sampled_latents_draw_the_images_of_the_same_z(space: str, shape: tuple[int, ...]) -> None:
    state = nvlabs_state()
    behind, before = make(state, space=space), make(state)
    assert behind.geometry == "gaussian" and behind.latent_shape == shape
    for draw in (behind, behind.fold()):
        latents = draw.sample_latents(3, generator=stream(1, "test"))
        assert latents.shape == (3, *shape) and not latents.requires_grad
        torch.testing.assert_close(draw(latents), before(latents_for(before)), rtol=0, atol=1e-5)


def test_latents_in_w_are_offsets_from_the_mean_in_units_of_the_spread() -> None:
    state = {name: value for name, value in nvlabs_state().items() if name != "mapping.w_avg"}
    generator = make(state, space="w")
    latents = generator.sample_latents(20_000, generator=stream(5, "test")).double()
    assert latents.mean(0).abs().max() < 0.1
    assert latents.square().sum(1).mean() == pytest.approx(12, rel=0.03)


def test_mean_of_w_is_the_one_in_the_file() -> None:
    state = nvlabs_state()
    generator = make(state, space="w")
    assert torch.equal(generator.w_mean, state["mapping.w_avg"])
    doubles = {name: value.double() for name, value in state.items()}
    expected = in_unit_range(published_image(doubles, doubles["mapping.w_avg"].expand(6, -1)))
    torch.testing.assert_close(generator(torch.zeros(12)).double(), expected, rtol=0, atol=1e-5)


def test_mean_of_w_of_one_class_is_its_own() -> None:
    state = nvlabs_state(labels=3)
    means = [make(state, space="w", label=label).w_mean for label in range(3)]
    assert not any(torch.allclose(mean, state["mapping.w_avg"]) for mean in means)
    assert not torch.allclose(means[0], means[1])
    generator = make(state, space="w", label=1)
    latents = generator.sample_latents(20_000, generator=stream(5, "test")).double()
    assert latents.mean(0).abs().max() < 0.1


def test_spread_is_the_root_mean_square_of_standard_deviations() -> None:
    mapping = torch.nn.Linear(2, 3)
    weight, bias = torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]), torch.tensor([1.0, 2.0, 1000.0])
    mapping.load_state_dict({"weight": weight, "bias": bias})
    mean, spread = spread_of(mapping, 2)
    torch.testing.assert_close(mean, bias, rtol=0, atol=0.15)
    assert float(spread) == pytest.approx(math.sqrt(25 / 3), rel=0.03)
    assert [float(value) for value in spread_of(mapping, 2)[1:]] == [float(spread)]


@pytest.mark.parametrize("space", ["z", "w", "w+"])
@pytest.mark.parametrize("labels", [0, 3])
def test_folding_keeps_images_gradients_and_tangents(space: str, labels: int) -> None:
    state = nvlabs_state(labels=labels)
    single = make(state, space=space, label=1 if labels else None)
    latents = latents_for(single)
    torch.testing.assert_close(single.fold()(latents), single(latents), rtol=0, atol=1e-5)
    generator = single.double()
    latent = latents[0].double()
    tangents = torch.randn(3, *latent.shape, generator=stream(2, "test"), dtype=torch.float64)
    weights = torch.randn(generator.image_shape, generator=stream(3, "test"), dtype=torch.float64)
    point = latent.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((generator(point) * weights).sum(), point)
    (folded,) = torch.autograd.grad((generator.fold()(point) * weights).sum(), point)
    assert gradient.abs().max() > 0.1
    torch.testing.assert_close(folded, gradient, rtol=0, atol=1e-9)
    pushed = generator.push(latent, tangents)
    torch.testing.assert_close(generator.fold().push(latent, tangents), pushed, rtol=0, atol=1e-9)
    torch.testing.assert_close((pushed * weights).sum((1, 2, 3)), (tangents * gradient).flatten(1).sum(1))


def test_a_folded_generator_stays_a_stylegan2_while_its_weights_move() -> None:
    """A convolution is divided by the norm of its weights, so twice the weights draw the same."""
    generator = make(nvlabs_state())
    folded, latents = generator.fold(), latents_for(generator)
    expected = folded(latents)
    with torch.no_grad():
        for block in folded.synthesis.values():
            block.conv1.weight.mul_(2)
    torch.testing.assert_close(folded(latents), expected, rtol=0, atol=1e-5)


def test_labels_without_an_embedding_are_refused() -> None:
    with pytest.raises(ValueError, match="need an embedding") as caught:
        StyleGAN2((8, 8), (4, 4), labels=3, label=1)
    assert_one_sentence(caught.value)


def test_folded_generator_is_frozen_and_on_its_own() -> None:
    generator = make(nvlabs_state(), space="w")
    folded = generator.fold()
    assert folded.fold() is folded and not folded.training
    assert list(folded.parameters()) and not any(weight.requires_grad for weight in folded.parameters())
    assert all(weight.requires_grad for weight in generator.parameters())
    latents = latents_for(generator)
    expected = folded(latents)
    with torch.no_grad():
        for value in generator.state_dict().values():
            value.zero_()
    assert torch.equal(folded(latents), expected)


@pytest.mark.parametrize("batch", [(), (1,), (2, 3), (0,)])
def test_latents_have_any_batch_shape(batch: tuple[int, ...]) -> None:
    generator = make(nvlabs_state())
    latents = torch.randn(*batch, 8, generator=stream(0, "test"))
    for draw in (generator, generator.fold()):
        flat = torch.cat([draw(latent[None]) for latent in latents.reshape(-1, 8)] or [torch.empty(0, 3, 16, 16)])
        torch.testing.assert_close(draw(latents), flat.reshape(*batch, 3, 16, 16), rtol=0, atol=1e-5)


@pytest.mark.parametrize("space", ["z", "w+"])
def test_search_can_go_on_between_any_two_layers(space: str) -> None:
    generator = make(nvlabs_state(), space=space)
    for draw in (generator, generator.fold()):
        latents = latents_for(generator)
        layers = draw.layers()
        assert list(layers) == ["mapping", "b4", "b8", "b16"]
        state: tuple[Tensor, ...] = (latents,)
        shapes = []
        for layer in layers.values():
            state = layer(state)
            shapes.append([tuple(value.shape) for value in state])
        assert shapes == [
            [(3, 6, 12)],
            [(3, 6, 4, 4), (3, 3, 4, 4), (3, 6, 12)],
            [(3, 5, 8, 8), (3, 3, 8, 8), (3, 6, 12)],
            [(3, 3, 16, 16)],
        ]
        torch.testing.assert_close(state[0], draw(latents), rtol=0, atol=1e-6)


def test_weight_groups_hold_every_prunable_weight_once() -> None:
    generator = make(nvlabs_state(labels=3))
    groups = generator.weight_groups()
    assert {group: len(names) for group, names in groups.items()} == {
        "input": 0,
        "mapping": 2,
        "style": 8,
        "hidden": 5,
        "output": 3,
    }
    names = [name for group in groups.values() for name in group]
    parameters = dict(generator.named_parameters())
    expected = {name for name, value in parameters.items() if value.dim() in (2, 4) and "embed" not in name}
    assert len(names) == len(set(names)) and set(names) == expected
    assert all(parameters[name].shape[-1] == 1 for name in groups["output"])
    assert all(parameters[name].shape[-1] == 3 for name in groups["hidden"])


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    generator = make(as_rosinality(nvlabs_state()), space="w")
    generator.fold()(latents_for(generator))
    assert torch.equal(torch.get_rng_state(), before)


# What is refused


def _without(state: State, name: str) -> State:
    return {key: value for key, value in state.items() if key != name}


BAD_STATES: dict[str, tuple[Callable[[State], State], str]] = {
    "no colours": (lambda s: {n: v for n, v in s.items() if "b4.torgb" not in n}, "b4.torgb.weight' is missing"),
    "no convolution": (lambda s: _without(s, "synthesis.b4.conv1.weight"), "b4.conv1.weight' is missing"),
    "a resolution left out": (lambda s: _without(s, "synthesis.b8.conv1.weight"), "unexpected key 'synthesis.b16"),
    "residual blocks": (lambda s: s | {"synthesis.b8.skip.weight": torch.ones(5, 6, 1, 1)}, "unexpected key .*skip"),
    "no noise": (lambda s: _without(s, "synthesis.b8.conv1.noise_const"), "lack key 'synthesis.b8.conv1.noise_const'"),
    "a flat kernel": (lambda s: s | {"synthesis.b4.conv1.weight": torch.ones(6)}, r"has shape \(6,\), expected 4 dim"),
    "classes that leave no room": (
        lambda s: s | {"mapping.embed.weight": torch.ones(8, 2), "mapping.embed.bias": torch.ones(8)},
        "leave no room for z",
    ),
    "an empty kernel": (lambda s: s | {"mapping.fc0.weight": torch.ones(0, 8)}, r"has shape \(0, 8\)"),
    "another filter": (
        lambda s: s | {"synthesis.b8.conv0.resample_filter": torch.full((4, 4), 1 / 16)},
        "filter 'synthesis.b8.conv0.resample_filter' is not",
    ),
    "a longer filter": (lambda s: s | {"synthesis.b8.resample_filter": torch.ones(12)}, "filter .* is not"),
    "an empty filter": (lambda s: s | {"synthesis.b8.resample_filter": torch.zeros(4, 4)}, "filter .* is not"),
    "NaN": (lambda s: s | {"mapping.fc1.bias": torch.full((12,), torch.nan)}, "fc1.bias' .*finite"),
    "larger than any": (
        lambda s: s | {f"synthesis.b{4 * 2**index}.conv1.weight": torch.ones(4, 4, 3, 3) for index in range(3, 12)},
        "synthesis.b",
    ),
}


@pytest.mark.parametrize("space", ["z", "w"])
@pytest.mark.parametrize("case", BAD_STATES)
def test_bad_state_is_named_in_one_sentence(case: str, space: str) -> None:
    spoil, expected = BAD_STATES[case]
    with pytest.raises(ValueError, match=expected) as caught:
        make(spoil(nvlabs_state()), space=space)
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("key", ["convs.0.conv.blur.kernel", "to_rgbs.1.upsample.kernel"])
def test_another_filter_is_refused_in_rosinality_s_layout_too(key: str) -> None:
    state = as_rosinality(nvlabs_state())
    assert key in state
    with pytest.raises(ValueError, match=f"filter {key!r} is not StyleGAN2's own") as caught:
        make(state | {key: torch.full((4, 4), 1 / 4)})
    assert_one_sentence(caught.value)


def test_mapping_that_forgets_z_is_refused_in_w() -> None:
    state = nvlabs_state() | {"mapping.fc1.weight": torch.zeros(12, 10)}
    make(state)
    with pytest.raises(ValueError, match="the same w") as caught:
        make(state, space="w")
    assert_one_sentence(caught.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"space": "v"}, "no space 'v'"),
        ({"label": 3}, "label must be from 0 to 2, got 3"),
        ({"label": 3, "space": "w"}, "label must be from 0 to 2, got 3"),
        ({"label": -1}, "label must be"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        make(nvlabs_state(labels=3), **options)
    assert_one_sentence(caught.value)


def test_label_of_a_network_without_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="label must be from 0 to 0, got 2") as caught:
        make(nvlabs_state(), label=2)
    assert_one_sentence(caught.value)


WRONG = [
    {"widths": [8]},
    {"depths": []},
    {"depths": [2] * 10},
    {"depths": [0]},
    {"channels": 0},
    {"clamp": "x"},
    {"rate": math.nan},
    {"rate": 0},
    {"labels": -1},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_bad_settings_are_refused(wrong: dict[str, object]) -> None:
    blueprint = recognise(nvlabs_state())
    with pytest.raises(ValueError, match=r".") as caught:
        build(Blueprint("stylegan2", blueprint.settings | wrong, blueprint.state))(torch.zeros(8))
    assert_one_sentence(caught.value)
