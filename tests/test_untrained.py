"""Untrained networks: the published equations, from a seed alone, for images of any size."""

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, max_pool2d, pad, relu

from cs_lip.priors import SKIP_SETTINGS, UNTRAINED, UntrainedNetwork, untrained_network
from cs_lip.seeding import stream

SMALL: dict[str, dict[str, Any]] = {
    "skip": {"input_channels": 3, "widths": [4, 6], "skips": [2, 1]},
    "hourglass": {"widths": [4, 6], "skips": [0, 0]},
    "deep_decoder": {"channels": 8, "depth": 2},
    "conv_decoder": {"channels": 6, "layers": 3, "input_size": [3, 2]},
    "unet": {"widths": [4, 6, 8]},
}
"""Settings with which every network is small and halves twice at most."""

NAMES = sorted(SMALL)
SIDES = st.tuples(st.integers(5, 23), st.integers(5, 23))


def small(name: str, seed: int = 0, size: tuple[int, int] = (11, 14), **changed: Any) -> UntrainedNetwork:
    return untrained_network(name, (3, *size), seed, **(SMALL[name] | changed))


def input_for(network: UntrainedNetwork, seed: int = 0) -> Tensor:
    return network.sample_input(generator=stream(seed, "input"))


# The equations, written down once more without any module


def normed(x: Tensor, scale: Tensor | float = 1.0, shift: Tensor | float = 0.0) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    whitened = (x - mean) / ((x - mean).square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
    column = [value[:, None, None] if isinstance(value, Tensor) else value for value in (scale, shift)]
    return whitened * column[0] + column[1]


def interpolation(size: int, doubled: int) -> Tensor:
    """The matrix that doubles a line of pixels: every new centre lies between two old ones, and borders continue."""
    matrix = torch.zeros(doubled, size, dtype=torch.float64)
    for row in range(doubled):
        centre = min(max((row + 0.5) / 2 - 0.5, 0), size - 1)
        left = int(centre)
        matrix[row, left] += 1 - (centre - left)
        matrix[row, min(left + 1, size - 1)] += centre - left
    return matrix


def doubled(x: Tensor, mode: str = "bilinear") -> Tensor:
    height, width = x.shape[2:]
    if mode == "nearest":
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return torch.einsum("Hh,bchw,Ww->bcHW", interpolation(height, 2 * height), x, interpolation(width, 2 * width))


def centre_cropped(x: Tensor, size: torch.Size) -> Tensor:
    top, left = ((mine - wanted) // 2 for mine, wanted in zip(x.shape[2:], size, strict=True))
    return x[:, :, top : top + size[0], left : left + size[1]]


def pooled(x: Tensor) -> Tensor:
    """The mean over 2x2 pixels, or over those of them that are there."""
    height, width = x.shape[2:]
    cells = pad(torch.cat([x, torch.ones_like(x[:, :1])], 1), (0, width % 2, 0, height % 2))
    sums = cells.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).sum((3, 5))
    return sums[:, :-1] / sums[:, -1:]


def plain_skip(w: Mapping[str, Tensor], u: Tensor, recipe: Mapping[str, Any]) -> Tensor:
    def step(name: str, x: Tensor, stride: int = 1, pooling: bool = False) -> Tensor:
        weight, bias = w[f"{name}.conv.weight"], w[f"{name}.conv.bias"]
        border = (weight.shape[-1] - 1) // 2
        x = conv2d(pad(x, (border,) * 4, mode="reflect") if border else x, weight, bias, stride)
        x = normed(pooled(x) if pooling else x, w[f"{name}.norm.weight"], w[f"{name}.norm.bias"])
        return torch.where(x > 0, x, 0.2 * x)

    def scale(i: int, x: Tensor) -> Tensor:
        if i == len(recipe["widths"]):
            return x
        here = f"scales.{i}"
        halved = step(f"{here}.halve", x, 1 if recipe["pooling"] else 2, recipe["pooling"])
        y = doubled(scale(i + 1, step(f"{here}.deepen", halved)), recipe["upsampling"][i])
        y = centre_cropped(y, x.shape[2:])
        if recipe["skips"][i]:
            y = torch.cat([step(f"{here}.skip", x), y], 1)
        y = step(f"{here}.join", normed(y, w[f"{here}.norm.weight"], w[f"{here}.norm.bias"]))
        return step(f"{here}.mix", y) if recipe["mixing"] else y

    return conv2d(scale(0, u), w["output.weight"], w["output.bias"]).sigmoid()


def plain_deep_decoder(w: Mapping[str, Tensor], u: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
    for i in range(len(sizes) + 1):
        u = torch.einsum("oi,bihw->bohw", w[f"convs.{i}.weight"][:, :, 0, 0], u)
        if i < len(sizes):
            u = centre_cropped(doubled(u), torch.Size(sizes[i]))
        u = normed(u.clamp(min=0), w[f"norms.{i}.weight"], w[f"norms.{i}.bias"])
    return torch.einsum("oi,bihw->bohw", w["output.weight"][:, :, 0, 0], u).sigmoid()


def plain_conv_decoder(w: Mapping[str, Tensor], u: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
    for i in range(len(sizes) + 1):
        if i < len(sizes):
            rows, columns = (torch.arange(new) * old // new for new, old in zip(sizes[i], u.shape[2:], strict=True))
            u = u[:, :, rows][:, :, :, columns]
        u = conv2d(pad(u, (1, 1, 1, 1)), w[f"convs.{i}.weight"])
        u = normed(u.clamp(min=0), w[f"norms.{i}.weight"], w[f"norms.{i}.bias"])
    return conv2d(u, w["output.weight"]).sigmoid()


def plain_unet(w: Mapping[str, Tensor], u: Tensor, depth: int) -> Tensor:
    def conv(name: str, x: Tensor) -> Tensor:
        return conv2d(pad(x, (1, 1, 1, 1)), w[f"{name}.weight"], w[f"{name}.bias"])

    levels = []
    for i in range(depth + 1):
        if i:
            u = max_pool2d(pad(u, (0, u.shape[3] % 2, 0, u.shape[2] % 2), value=-torch.inf), 2)
        u = relu(normed(conv(f"down.{i}.3", relu(normed(conv(f"down.{i}.0", u))))))
        levels.append(u)
    for i in reversed(range(depth)):
        u = conv_transpose2d(u, w[f"grow.{i}.weight"], w[f"grow.{i}.bias"], stride=2)[:, :, 1:-1, 1:-1]
        u = torch.cat([centre_cropped(u, levels[i].shape[2:]), levels[i]], 1)
        u = relu(conv(f"up.{i}.2", relu(conv(f"up.{i}.0", u))))
    return conv2d(u, w["output.weight"], w["output.bias"]).sigmoid()


def assert_same(network: UntrainedNetwork, plain: Callable[[Mapping[str, Tensor], Tensor], Tensor]) -> None:
    """The same image and the same derivative by every weight, in double precision."""
    network.double()
    rng = stream(3, "test")
    for values in network.parameters():  # norms at scale 1 and shift 0 would hide where they are applied
        values.data += 0.1 * torch.randn(values.shape, generator=rng, dtype=torch.float64)
    weights = dict(network.named_parameters())
    u = input_for(network)
    image, expected = network(u), plain(weights, u)
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-10)
    probe = torch.randn(image.shape, generator=rng, dtype=torch.float64)
    gradients = torch.autograd.grad((image * probe).sum(), list(weights.values()))
    wanted = torch.autograd.grad((expected * probe).sum(), list(weights.values()))
    for name, ours, theirs in zip(weights, gradients, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8, msg=lambda text, at=name: f"{at}: {text}")


@st.composite
def skip_recipes(draw: st.DrawFn) -> dict[str, Any]:
    depth = draw(st.integers(1, 3))

    def each(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=depth, max_size=depth))

    return {
        "input_channels": draw(st.integers(1, 3)),
        "widths": each(st.integers(1, 5)),
        "skips": each(st.integers(0, 3)),
        "upsampling": each(st.sampled_from(["nearest", "bilinear"])),
        "down_kernel": draw(st.sampled_from([1, 3, 5])),
        "up_kernel": draw(st.sampled_from([1, 3])),
        "pooling": draw(st.booleans()),
        "mixing": draw(st.booleans()),
    }


@given(recipe=skip_recipes(), size=st.tuples(st.integers(17, 26), st.integers(17, 26)), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=25)
def test_skip_is_its_equations(recipe: dict[str, Any], size: tuple[int, int], seed: int) -> None:
    network = untrained_network("skip", (3, *size), seed, **recipe)
    assert_same(network, lambda w, u: plain_skip(w, u, recipe))


def test_skip_of_the_lottery_image_priors_is_its_equations() -> None:
    recipe = {"widths": [128] * 5, "skips": [4] * 5, "upsampling": ["bilinear"] * 5, "pooling": False, "mixing": True}
    network = untrained_network("skip", (3, 40, 33))
    assert network.input_shape == (32, 40, 33)
    assert_same(network, lambda w, u: plain_skip(w, u, recipe))


@given(size=SIDES, depth=st.integers(1, 2), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=15)
def test_deep_decoder_is_its_equations(size: tuple[int, int], depth: int, seed: int) -> None:
    halved = [tuple(-(-side // 2**step) for side in size) for step in range(depth)]
    network = small("deep_decoder", seed, size, depth=depth)
    assert_same(network, lambda w, u: plain_deep_decoder(w, u, halved[::-1]))


@given(size=SIDES, seed=st.integers(0, 100))
@settings(deadline=None, max_examples=15)
def test_conv_decoder_is_its_equations(size: tuple[int, int], seed: int) -> None:
    middle = tuple(int(np.ceil(round((new * old) ** 0.5, 9))) for new, old in zip(size, (3, 2), strict=True))
    assert_same(small("conv_decoder", seed, size), lambda w, u: plain_conv_decoder(w, u, [middle, size]))


@given(size=SIDES, seed=st.integers(0, 100))
@settings(deadline=None, max_examples=15)
def test_unet_is_its_equations(size: tuple[int, int], seed: int) -> None:
    assert_same(small("unet", seed, size), lambda w, u: plain_unet(w, u, 2))


def test_conv_decoder_grows_by_equal_factors() -> None:
    sizes = untrained_network("conv_decoder", (3, 512, 256), channels=1, layers=7, input_size=(8, 4)).sizes
    assert sizes == ((16, 8), (32, 16), (64, 32), (128, 64), (256, 128), (512, 256), None)


# What the networks are


@pytest.mark.parametrize(
    ("name", "channels", "recipe", "expected"),
    [
        ("skip", 3, {}, 2_217_831),
        ("skip", 3, SKIP_SETTINGS["text-inpainting"], 3_002_627),
        # 30 channels less at the input; skips, their norms and what reads them, at the first scale and at four more.
        ("hourglass", 3, {}, 2_217_831 - 30 * 128 * 9 - 140 - 4 * 524 - 5 * (8 + 4 * 128 * 9)),
        ("deep_decoder", 3, {}, 100_224),
        ("deep_decoder", 4, {"channels": 256}, 397_312),
    ],
)
def test_parameters_are_as_many_as_published(
    name: str, channels: int, recipe: Mapping[str, Any], expected: int
) -> None:
    network = untrained_network(name, (channels, 64, 64), **recipe)
    assert network.parameter_count == expected
    assert sum(values.numel() for values in network.state_dict().values()) == expected


@pytest.mark.parametrize("task", SKIP_SETTINGS)
def test_published_settings_make_networks_and_survive_json(task: str) -> None:
    recipe = SKIP_SETTINGS[task]
    network = untrained_network("skip", (3, 129, 130), **recipe)
    again = untrained_network("skip", (3, 129, 130), **json.loads(json.dumps(dict(recipe))))
    assert network.input_shape == again.input_shape == (recipe.get("input_channels", 32), 129, 130)
    assert network.jitter == again.jitter == recipe.get("jitter", 1 / 30)
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_every_network_is_tested() -> None:
    assert SMALL.keys() == UNTRAINED.keys()


@pytest.mark.parametrize("name", NAMES)
@given(size=SIDES, channels=st.integers(1, 4))
@settings(deadline=None, max_examples=10)
def test_images_of_any_size_in_the_unit_range(name: str, size: tuple[int, int], channels: int) -> None:
    network = untrained_network(name, (channels, *size), **SMALL[name])
    inputs = input_for(network)
    assert inputs.shape == (1, *network.input_shape)
    for u in (inputs, 1e4 * inputs):
        images = network(u)
        assert images.shape == (1, channels, *size)
        assert images.min() >= 0
        assert images.max() <= 1
        assert images.std() > 0


@pytest.mark.parametrize("name", NAMES)
def test_each_input_of_a_batch_is_drawn_on_its_own(name: str) -> None:
    network = small(name)
    inputs = torch.cat([input_for(network, 0), 3 + 2 * input_for(network, 1).square()])
    together = network(inputs)
    assert torch.equal(together, torch.cat([network(inputs[:1]), network(inputs[1:])]))
    assert torch.equal(network.eval()(inputs), together)


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_reach_every_parameter(name: str) -> None:
    network = small(name).double()
    (network(input_for(network)) * torch.randn(3, 11, 14, generator=stream(0, "test"))).sum().backward()
    for at, values in network.named_parameters():
        assert values.grad is not None, at
        assert values.grad.isfinite().all()
        # A norm removes the mean, so a bias before one draws nothing, and its derivative is rounding.
        assert values.grad.abs().max() > 1e-9 or at.endswith("bias"), at


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_of_adam_approach_a_picture(name: str) -> None:
    network, picture = small(name), torch.linspace(0, 1, 14).expand(3, 11, 14)
    u = input_for(network)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = (network(u)[0] - picture).square().mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_is_double_precision_up_to_rounding(name: str) -> None:
    single, double = small(name), small(name).double()
    u = input_for(double)
    assert u.dtype == double(u).dtype == torch.float64
    torch.testing.assert_close(single(u.float()).double(), double(u), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_weight_groups_are_every_convolution_by_its_role(name: str) -> None:
    network = small(name)
    groups = network.weight_groups()
    names = [weight for group in groups.values() for weight in group]
    assert len(set(names)) == len(names)
    assert set(names) == {at for at, values in network.named_parameters() if values.dim() == 4}
    assert list(groups) == ["input", "hidden", "output"]
    assert groups["output"] == ("output.weight",)
    # The input weights are those whose derivative vanishes with the input.
    network(torch.zeros(1, *network.input_shape)).sum().backward()
    still = {at for at in names if not network.get_parameter(at).grad.any()}
    assert set(groups["input"]) <= still


def test_both_convolutions_that_read_the_input_are_input_weights() -> None:
    assert small("skip").weight_groups()["input"] == ("scales.0.skip.conv.weight", "scales.0.halve.conv.weight")
    assert small("hourglass").weight_groups()["input"] == ("scales.0.halve.conv.weight",)


# Seeds


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_is_a_network(name: str) -> None:
    one, same, other = small(name, 5), small(name, 5), small(name, 6)
    for at, values in one.named_parameters():
        assert torch.equal(values, same.get_parameter(at))
        assert values.requires_grad
        if values.dim() == 4:
            assert not torch.equal(values, other.get_parameter(at))
    other.double().initialise(stream(5, "weights"))
    for at, values in one.named_parameters():
        assert torch.equal(values.double(), other.get_parameter(at))
    assert torch.equal(input_for(one, 1), input_for(same, 1))


def test_random_inputs_are_uniform_up_to_a_tenth() -> None:
    network = untrained_network("skip", (3, 40, 40))
    u = input_for(network)
    assert not torch.equal(u, input_for(network, 1))
    assert 0 <= u.min() < 0.001
    assert 0.099 < u.max() < 0.1
    assert abs(u.mean() - 0.05) < 0.001
    assert abs(u.std() - 0.1 / 12**0.5) < 0.001


def test_a_grid_is_x_and_y_from_0_to_1() -> None:
    network = untrained_network("hourglass", (3, 33, 65), skips=[0] * 5)
    x, y = input_for(network)[0]
    assert torch.equal(input_for(network, 0), input_for(network, 1))
    torch.testing.assert_close(x, (torch.arange(65) / 64).expand(33, 65))
    torch.testing.assert_close(y, (torch.arange(33) / 32)[:, None].expand(33, 65))


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights_are_distributed_as_pytorchs(name: str) -> None:
    for module in untrained_network(name, (3, 64, 64)).modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            fan_in, _ = nn.init._calculate_fan_in_and_fan_out(module.weight)
            values = torch.cat([value.flatten() for value in module.parameters()]).detach() * fan_in**0.5
            assert values.abs().max() <= 1 + 1e-6
            assert abs(values.std() - 1 / 3**0.5) < 2 / len(values) ** 0.5
            assert abs(values.mean()) < 3 / len(values) ** 0.5
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert not module.bias.any()


@pytest.mark.parametrize("name", NAMES)
def test_global_generators_are_left_alone(name: str) -> None:
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes())
    network = small(name)
    network(input_for(network)).sum().backward()
    network.initialise(stream(1, "weights"))
    after = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes())
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


# What is refused

BAD_SETTINGS: dict[str, tuple[str, Any, dict[str, Any], str]] = {
    "unknown network": ("resnet", (3, 64, 64), {}, "no untrained network 'resnet'"),
    "unknown setting": ("skip", (3, 64, 64), {"colour": 1}, r"\['colour'\] do not make the network 'skip'"),
    "bad seed": ("skip", (3, 64, 64), {"seed": -1}, "the seed must be"),
    "no channels": ("skip", (64, 64), {}, r"must be \(channels, height, width\), got \(64, 64\)"),
    "no shape": ("unet", 64, {}, "do not make the network 'unet'"),
    "empty image": ("unet", (3, 0, 64), {}, "image shape must be whole numbers from 1"),
    "half a pixel": ("unet", (3, 64.5, 64), {}, "image shape must be whole numbers from 1"),
    "skip, too small": (
        "skip",
        (3, 32, 64),
        {},
        r"32x64 pixels leave 1x2 after 5 of 5 halvings.*more than 1 \* 2\^5 pixels",
    ),
    "skip, too small to reflect": (
        "skip",
        (3, 64, 64),
        {"down_kernel": 5},
        r"leave 2x2 .*expected 3x3.*more than 2 \* 2\^5 pixels",
    ),
    "deep decoder, too small": ("deep_decoder", (3, 64, 32), {}, "leave 2x1 after 5 of 5 halvings"),
    "unet, one pixel": ("unet", (3, 1, 1), {"widths": (8,)}, "normalises over the pixels"),
    "unet, too small": ("unet", (3, 32, 32), {}, "leave 1x1 after 5 of 5 halvings"),
    "conv decoder, too small": ("conv_decoder", (3, 7, 64), {}, "8x4 does not grow to an image of 7x64"),
    "conv decoder, constant": ("conv_decoder", (3, 7, 64), {"input_size": (1, 1)}, "an input of 1x1 does not grow"),
    "conv decoder, odd input": ("conv_decoder", (3, 64, 64), {"input_size": (8,)}, r"must be \(height, width\)"),
    "conv decoder, one layer": ("conv_decoder", (3, 64, 64), {"layers": 1}, "layers must be whole numbers from 2"),
    "conv decoder, upsampling": ("conv_decoder", (3, 64, 64), {"upsampling": "cubic"}, "no upsampling 'cubic'"),
    "no scales": ("skip", (3, 64, 64), {"widths": []}, "widths must be whole numbers from 1"),
    "widths that are text": ("skip", (3, 64, 64), {"widths": "128"}, "widths must be whole numbers from 1"),
    "negative skips": ("skip", (3, 64, 64), {"skips": [4, 4, 4, 4, -1]}, "skips must be whole numbers from 0"),
    "other scales": ("skip", (3, 64, 64), {"widths": [8, 8]}, "2 widths, 5 skips and 2 upsamplings"),
    "even kernel": ("skip", (3, 64, 64), {"up_kernel": 4}, "odd sides, got 3 and 4"),
    "upsampling": ("skip", (3, 64, 64), {"upsampling": "cubic"}, "no upsampling 'cubic'"),
    "grid of noise": ("skip", (3, 64, 64), {"grid": True}, "2 coordinates as channels, got 32"),
    "jitter": ("skip", (3, 64, 64), {"jitter": -0.1}, "jitter must be a standard deviation"),
    "jitter without a number": ("skip", (3, 64, 64), {"jitter": float("nan")}, "jitter must be a standard deviation"),
    "hourglass with skips": ("hourglass", (3, 64, 64), {"skips": [0, 0, 0, 0, 4]}, "hourglass has no skips"),
    "no depth": ("deep_decoder", (3, 64, 64), {"depth": 0}, "the depth must be whole numbers"),
    "too deep": ("deep_decoder", (3, 64, 64), {"depth": 10**9}, "leave 1x1 after 6 of 1000000000 halvings"),
    "more memory than there is": ("deep_decoder", (3, 64, 64), {"channels": 10**8}, "do not make the network"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_settings_are_named_in_one_sentence(case: str) -> None:
    name, image_shape, recipe, expected = BAD_SETTINGS[case]
    with pytest.raises(ValueError, match=expected) as caught:
        untrained_network(name, image_shape, **recipe)
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spoil", [lambda u: u[0], lambda u: u[:, :, 1:], lambda u: u[:0], lambda u: u[:, 1:]])
def test_inputs_of_another_shape_are_refused(name: str, spoil: Callable[[Tensor], Tensor]) -> None:
    network = small(name)
    with pytest.raises(ValueError, match="do not fit this network") as caught:
        network(spoil(input_for(network)))
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fast", [True, False])
def test_coarse_is_close_where_it_is_fast_and_exact_elsewhere(
    name: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cs_lip.priors.untrained.network.convolves_in_bfloat16", lambda device: fast)
    network = small(name)
    weights, u = tuple(network.parameters()), input_for(network)
    images = network(u, coarse=True), network(u)
    slopes = [
        torch.cat([slope.flatten() for slope in torch.autograd.grad(image.square().sum(), weights)]) for image in images
    ]
    image_error, slope_error = (
        float((mine - exact).detach().norm() / exact.detach().norm()) for mine, exact in (images, slopes)
    )
    assert images[0].dtype == torch.float32
    if fast:
        assert 0 < image_error < 0.005 and 0 < slope_error < 0.4  # norms over a few pixels amplify
    else:
        assert image_error == slope_error == 0
    double = small(name).double()
    u = u.double()
    assert torch.equal(double(u, coarse=True), double(u))
