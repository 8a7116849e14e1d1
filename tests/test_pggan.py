"""PGGAN: the same images as two independent readings of the paper, and every detail of pytorch_GAN_zoo's layout."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest
import torch
from helpers import assert_one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cs_lip.priors import Generator, build, load_generator, recognise
from cs_lip.priors.pggan import PGGAN, FoldedPGGAN
from cs_lip.priors.reading.weights import read_blueprint, write_blueprint
from cs_lip.seeding import stream

State = dict[str, Tensor]
DEPTHS = st.lists(st.integers(1, 6), min_size=1, max_size=4)
CONFIG = "models.utils.config.BaseConfig"
"""The class of the settings that lie in a checkpoint beside the weights."""
CELEBA_HQ = (512, 512, 512, 512, 256, 128, 64)


def zoo_state(latents: int = 5, depths: tuple[int, ...] = (6, 4, 3), channels: int = 3, seed: int = 0) -> State:
    """Random weights under pytorch_GAN_zoo's names, the biases as large as the weights."""
    rng = torch.Generator().manual_seed(seed)
    shapes = {
        "formatLayer": (16 * depths[0], latents),
        "groupScale0.0": (depths[0], depths[0], 3, 3),
        "toRGBLayers.0": (channels, depths[0], 1, 1),
    }
    for scale, depth in enumerate(depths[1:]):
        shapes[f"scaleLayers.{scale}.0"] = (depth, depths[scale], 3, 3)
        shapes[f"scaleLayers.{scale}.1"] = (depth, depth, 3, 3)
        shapes[f"toRGBLayers.{scale + 1}"] = (channels, depth, 1, 1)
    state = {}
    for name, shape in shapes.items():
        state[f"{name}.module.weight"] = torch.randn(shape, generator=rng)
        state[f"{name}.module.bias"] = torch.randn(shape[0], generator=rng)
    return state


def from_state(state: State) -> PGGAN:
    generator = build(recognise(state))
    assert isinstance(generator, PGGAN)
    return generator


def latents_for(generator: Generator, count: int = 3) -> Tensor:
    return generator.sample_latents(count, generator=stream(1, "test"))


def literal(state: State, z: Tensor) -> Tensor:
    """The paper's equations, one after the other, in pytorch_GAN_zoo's order and names."""

    def norm(x: Tensor) -> Tensor:
        return x / ((x**2).sum(1, keepdim=True) / x.shape[1] + 1e-8) ** 0.5

    def layer(x: Tensor, name: str) -> Tensor:
        weight, bias = state[f"{name}.module.weight"].to(x), state[f"{name}.module.bias"].to(x)
        constant = (2 / (weight.numel() / weight.shape[0])) ** 0.5
        if weight.dim() == 2:
            return (x @ weight.T + bias) * constant
        return nn.functional.conv2d(x, weight, bias, padding=weight.shape[-1] // 2) * constant

    def activated(x: Tensor) -> Tensor:
        return norm(torch.where(x > 0, x, 0.2 * x))

    x = activated(layer(norm(z), "formatLayer").reshape(len(z), -1, 4, 4))
    x = activated(layer(x, "groupScale0.0"))
    scale = 0
    while f"scaleLayers.{scale}.0.module.weight" in state:
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = activated(layer(x, f"scaleLayers.{scale}.0"))
        x = activated(layer(x, f"scaleLayers.{scale}.1"))
        scale += 1
    return ((layer(x, f"toRGBLayers.{scale}") + 1) / 2).clamp(0, 1)


# Oracles


@given(latents=st.integers(1, 6), depths=DEPTHS, channels=st.sampled_from([1, 3]), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_images_are_the_literal_equations(latents: int, depths: list[int], channels: int, seed: int) -> None:
    state = zoo_state(latents, tuple(depths), channels, seed)
    generator = from_state(state).double()
    z = latents_for(generator)
    expected = literal(state, z)
    side = 4 * 2 ** (len(depths) - 1)
    assert generator.image_shape == (channels, side, side)
    for prior in (generator, generator.fold()):
        images = prior(z)
        assert images.shape == (3, channels, side, side)
        assert images.dtype == torch.float64
        torch.testing.assert_close(images, expected, rtol=0, atol=1e-9)


def test_single_precision_errs_by_rounding_alone() -> None:
    state = zoo_state(16, (32, 32, 16, 8))
    generator = from_state(state)
    z = latents_for(generator)
    expected = literal(state, z.double()).float()
    for prior in (generator, generator.fold()):
        # processors with other vector instructions sum in another order: up to 1.2e-5 was seen
        torch.testing.assert_close(prior(z), expected, rtol=0, atol=5e-5)


def pro_gan(state: State, depths: tuple[int, ...]) -> nn.Module:
    """pro-gan-pth's generator with the same weights, and with the pixel norm that it leaves out.

    Its layers are ``c W x + b``, so its biases are ``c`` times those of pytorch_GAN_zoo. Its first layer is a
    transposed convolution, and no pixel norm follows: a hook puts the package's own there.
    """
    state = {name: value.double() for name, value in state.items()}
    networks = pytest.importorskip(
        "pro_gan_pytorch.networks", reason="pro-gan-pth is not installed; pip install --no-deps pro-gan-pth==3.4"
    )
    latents = state["formatLayer.module.weight"].shape[1]
    with patch.object(networks, "nf", lambda stage: depths[stage - 1]), torch.device("meta"):
        oracle = networks.Generator(depth=len(depths) + 1, latent_size=latents)
    weights = {}
    ours = {"layers.0.conv_2": "groupScale0.0"}
    for scale in range(len(depths) - 1):
        ours |= {f"layers.{scale + 1}.conv_{i + 1}": f"scaleLayers.{scale}.{i}" for i in (0, 1)}
    ours |= {f"rgb_converters.{scale}": f"toRGBLayers.{scale}" for scale in range(len(depths))}
    for theirs, name in ours.items():
        weight = state[f"{name}.module.weight"]
        weights[f"{theirs}.weight"] = weight
        weights[f"{theirs}.bias"] = state[f"{name}.module.bias"] * (2 / weight[0].numel()) ** 0.5
    spread = state["formatLayer.module.weight"].unflatten(0, (depths[0], 4, 4))
    weights["layers.0.conv_1.weight"] = spread.permute(3, 0, 1, 2)
    bias = state["formatLayer.module.bias"]
    assert bias.unflatten(0, (depths[0], 16)).std(1).max() == 0, "a transposed convolution has one bias a channel"
    weights["layers.0.conv_1.bias"] = bias[::16] * (2 / latents) ** 0.5
    oracle.load_state_dict(weights, assign=True)
    first = oracle.layers[0]
    first.conv_1._output_padding = lambda *_: (0, 0)  # which asks PyTorch in a way that it no longer answers
    first.conv_2.register_forward_pre_hook(lambda _, inputs: first.pixNorm(inputs[0]))
    return oracle


def with_one_bias_a_channel(state: State) -> State:
    bias = state["formatLayer.module.bias"][::16].repeat_interleave(16)
    return state | {"formatLayer.module.bias": bias}


@pytest.mark.parametrize(("latents", "depths"), [(7, (6, 5, 4)), (3, (2, 3, 4, 5, 2)), (4, (8,))])
def test_images_are_those_of_pro_gan_pth(latents: int, depths: tuple[int, ...]) -> None:
    state = with_one_bias_a_channel(zoo_state(latents, depths))
    generator, oracle = from_state(state).double(), pro_gan(state, depths)
    z = latents_for(generator, 4)
    expected = ((oracle(z) + 1) / 2).clamp(0, 1)
    assert expected.std() > 0.1
    for prior in (generator, generator.fold()):
        torch.testing.assert_close(prior(z), expected, rtol=0, atol=1e-9)


def test_images_are_those_of_pro_gan_pth_at_the_size_of_celeba_hq() -> None:
    state = with_one_bias_a_channel(zoo_state(512, CELEBA_HQ))
    for name in ("toRGBLayers.6.module.weight", "toRGBLayers.6.module.bias"):
        state[name] *= 0.35  # so that most values lie in [-1, 1], as those of a trained network
    generator, oracle = from_state(state), pro_gan(state, CELEBA_HQ).float()
    z = latents_for(generator, 1)
    with torch.no_grad():
        expected = ((oracle(z) + 1) / 2).clamp(0, 1)
        assert expected.shape == (1, 3, 256, 256)
        assert expected.std() > 0.1
        for prior in (generator, generator.fold()):
            torch.testing.assert_close(prior(z), expected, rtol=0, atol=1e-5)


# Folding and derivatives


def test_folded_copy_is_frozen_and_its_own_and_the_source_keeps_its_state() -> None:
    generator = from_state(zoo_state()).train()
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    folded = generator.fold()
    z = latents_for(generator)
    expected = folded(z)
    assert not folded.training
    assert not any(weight.requires_grad for weight in folded.parameters())
    assert folded.fold()(z).equal(expected)
    assert all(weight.requires_grad for weight in generator.parameters())
    for name, value in generator.state_dict().items():
        assert torch.equal(value, before[name])
        value.zero_()
    assert torch.equal(folded(z), expected)


def test_nothing_reads_the_global_generator() -> None:
    before = torch.get_rng_state()
    generator = from_state(zoo_state())
    generator.fold()(latents_for(generator))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
@given(depths=DEPTHS, seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=8)
def test_pushed_tangents_and_gradients_are_the_jacobian(depths: list[int], seed: int) -> None:
    generator = from_state(zoo_state(4, tuple(depths), seed=seed)).double()
    z = latents_for(generator, 1)[0]
    tangents = torch.randn(3, 4, generator=stream(2, "test"), dtype=torch.float64)
    weights = torch.randn(generator.image_shape, generator=stream(3, "test"), dtype=torch.float64)
    jacobian = torch.func.jacfwd(partial(literal, zoo_state(4, tuple(depths), seed=seed)))(z[None])[0, :, :, :, 0]
    for prior in (generator, generator.fold()):
        torch.testing.assert_close(prior.push(z, tangents), torch.einsum("chwk,rk->rchw", jacobian, tangents))
        point = z.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((prior(point) * weights).sum(), point)
        torch.testing.assert_close(gradient, torch.einsum("chwk,chw->k", jacobian, weights))


# The contract


@given(scale=st.floats(1, 1e4))
@settings(deadline=None, max_examples=10)
def test_length_of_the_latent_says_nothing(scale: float) -> None:
    generator = from_state(zoo_state()).double()
    assert generator.geometry == generator.fold().geometry == "sphere"
    z = latents_for(generator)
    for prior in (generator, generator.fold()):
        torch.testing.assert_close(prior(scale * z), prior(z), rtol=0, atol=1e-5)  # but for the 1e-8 in pixel norm


def test_layers_are_the_scales_and_compose_to_the_image() -> None:
    generator = from_state(zoo_state(depths=(6, 4, 3)))
    z = latents_for(generator)
    for prior in (generator, generator.fold()):
        assert list(prior.layers()) == ["start", "double-1", "double-2", "rgb"]
        state, shapes = (z,), []
        for layer in prior.layers().values():
            state = layer(state)
            shapes.append(tuple(state[0].shape[1:]))
        assert shapes == [(6, 4, 4), (4, 8, 8), (3, 16, 16), (3, 16, 16)]
        assert torch.equal(state[0], prior(z))


def test_every_weight_has_one_role() -> None:
    generator = from_state(zoo_state(depths=(6, 4, 3)))
    groups = generator.weight_groups()
    assert groups["input"] == ("format.weight",)
    assert groups["output"] == ("rgb.weight",)
    pairs = [f"doublings.{scale}.{index}.weight" for scale in (0, 1) for index in (0, 1)]
    assert groups["hidden"] == ("start.weight", *pairs)
    weights = {name for name, value in generator.named_parameters() if value.dim() > 1}
    assert weights == {name for names in groups.values() for name in names}


def test_images_are_clipped_to_the_unit_range() -> None:
    state = zoo_state()
    state["toRGBLayers.2.module.weight"] *= 100
    generator = from_state(state)
    for prior in (generator, generator.fold()):
        images = prior(latents_for(generator))
        assert images.min() == 0
        assert images.max() == 1


@pytest.mark.parametrize("batch", [(), (2, 3), (0,)])
def test_latents_have_any_batch_shape(batch: tuple[int, ...]) -> None:
    generator = from_state(zoo_state())
    z = torch.randn(*batch, 5, generator=stream(0, "test"))
    for prior in (generator, generator.fold()):
        flat = prior(z.reshape(-1, 5))
        torch.testing.assert_close(prior(z), flat.reshape(*batch, 3, 16, 16), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("latents", "depths", "channels"), [(0, (4, 4), 3), (4, (), 3), (4, (4, 0), 3), (4, (4,), 0), (4, (1,) * 10, 3)]
)
def test_sizes_of_no_network_are_refused(latents: int, depths: tuple[int, ...], channels: int) -> None:
    with pytest.raises(ValueError, match="positive sizes and 1 to 9 depths") as caught:
        PGGAN(latents, depths, channels)
    assert_one_sentence(caught.value)


# The layout of pytorch_GAN_zoo


def test_sizes_of_celeba_hq_are_read_off_the_weights() -> None:
    state = {name: value.to("meta") for name, value in zoo_state(512, CELEBA_HQ).items()}
    blueprint = recognise(state)
    assert blueprint.architecture == "pggan"
    assert blueprint.settings == {"latents": 512, "depths": list(CELEBA_HQ), "channels": 3}
    with torch.device("meta"):
        generator = PGGAN(**blueprint.settings)
    assert generator.image_shape == (3, 256, 256)
    assert {name: value.shape for name, value in generator.state_dict().items()} == {
        name: value.shape for name, value in blueprint.state.items()
    }


def test_colours_of_smaller_sides_are_dropped() -> None:
    state = zoo_state()
    generator = from_state(state)
    z = latents_for(generator)
    for name in ("toRGBLayers.0.module.weight", "toRGBLayers.1.module.bias"):
        del state[name]
    assert torch.equal(from_state(state)(z), generator(z))
    state["toRGBLayers.2.module.bias"] += 0.1
    assert not torch.equal(from_state(state)(z), generator(z))


def test_weights_survive_our_own_file(tmp_path: Path) -> None:
    blueprint = recognise(zoo_state())
    write_blueprint(tmp_path / "pggan.safetensors", blueprint)
    again = build(read_blueprint(tmp_path / "pggan.safetensors"))
    z = latents_for(again)
    assert torch.equal(again(z), build(blueprint)(z))


BAD_STATES: dict[str, tuple[Callable[[State], State], str]] = {
    "a convolution is missing": (
        lambda s: {name: value for name, value in s.items() if name != "scaleLayers.1.1.module.weight"},
        "lack key 'doublings.1.1.weight'",
    ),
    "a scale is missing": (
        lambda s: {name: value for name, value in s.items() if not name.startswith("scaleLayers.0.")},
        r"lack .* 'scaleLayers.0.0.module.weight'",
    ),
    "its colours are missing": (
        lambda s: {name: value for name, value in s.items() if not name.startswith("toRGBLayers.2.")},
        "lack key 'rgb.bias'",
    ),
    "an unknown layer": (lambda s: s | {"styleLayers.0.module.weight": torch.ones(2)}, "unexpected key 'styleLayers.0"),
    "more colours than scales": (
        lambda s: s | {"toRGBLayers.3.module.bias": torch.ones(3)},
        "unexpected key 'toRGBLayers.3.module.bias'",
    ),
    "a format layer of no shape": (lambda s: s | {"formatLayer.module.weight": torch.tensor(1.0)}, "lack a matrix"),
    "no latents": (lambda s: s | {"formatLayer.module.weight": torch.ones(96, 0)}, "positive sizes"),
    "another kernel": (lambda s: s | {"groupScale0.0.module.weight": torch.ones(6, 6, 5, 5)}, r"'start.weight' has"),
    "NaN": (lambda s: s | {"toRGBLayers.2.module.bias": torch.full((3,), torch.nan)}, "'rgb.bias' .*finite"),
    "a scale beyond all sense": (
        lambda s: s | {"scaleLayers.999.0.module.weight": torch.ones(3, 3, 3, 3)},
        r"lack .* 'scaleLayers.2.0.module.weight'",
    ),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_bad_state_is_named_in_one_sentence(case: str) -> None:
    spoil, expected = BAD_STATES[case]
    with pytest.raises(ValueError, match=expected) as caught:
        from_state(spoil(zoo_state()))
    assert_one_sentence(caught.value)


# Its checkpoints


@pytest.fixture
def config() -> Iterator[object]:
    """An instance of a class that pickles under the name of pytorch_GAN_zoo's settings."""
    module_name, _, class_name = CONFIG.rpartition(".")
    packages = {name: ModuleType(name) for name in ("models", "models.utils", module_name)}
    fake = type(class_name, (), {"__module__": module_name})
    setattr(packages[module_name], class_name, fake)
    with patch.dict(sys.modules, packages):
        instance = fake()
        instance.depthScale0, instance.depthOtherScales, instance.attribKeysOrder = 6, [4, 3], None
        yield instance


def test_checkpoint_gives_its_averaged_generator_and_runs_no_code(config: object, tmp_path: Path) -> None:
    average, last = zoo_state(seed=1), zoo_state(seed=2)
    critic = {"decisionLayer.module.weight": torch.ones(1, 6)}
    path = tmp_path / "celebaHQ_s6_i96000.pt"
    torch.save({"config": config, "netG": last, "netD": critic, "avgG": average, "tmp": config}, path)
    for name in ("models.utils.config", "models.utils", "models"):
        del sys.modules[name]  # a user does not have that project
    loaded = load_generator(str(path))
    z = latents_for(loaded)
    assert torch.equal(loaded(z), from_state(average)(z))
    torch.save({"netG": last, "netD": critic}, path)
    assert torch.equal(load_generator(str(path))(z), from_state(last)(z))


def test_folded_network_is_made_of_plain_layers() -> None:
    folded = from_state(zoo_state()).fold()
    assert isinstance(folded, FoldedPGGAN)
    kinds = {type(module).__name__ for module in folded.modules() if not list(module.children())}
    assert kinds == {"Linear", "Conv2d", "Doubling"}
