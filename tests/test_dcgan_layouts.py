"""DCGAN weights in other people's layouts draw what their own networks draw."""

import importlib.util
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from cs_lip.priors import Generator, Options, build, recognise
from cs_lip.priors.reading.weights import read_weights
from cs_lip.seeding import stream

State = dict[str, Tensor]
Array = NDArray[np.float64]


def loud(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights that draw more than grey, and batch norm statistics as odd as trained ones."""
    rng = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if value.dim() == 4:
            value.copy_(torch.randn(value.shape, generator=rng) / 4)
        elif name.endswith(("bias", "running_mean")):
            value.copy_(0.3 * torch.randn(value.shape, generator=rng))
        elif value.is_floating_point():
            value.copy_(0.5 + torch.rand(value.shape, generator=rng))
    return module.eval()


# The PyTorch tutorial's layout


def tutorial(widths: Sequence[int], first: int = 4, biases: bool = False, dropouts: Sequence[int] = ()) -> nn.Module:
    """The tutorial's network as it builds it, with a dropout behind some of the activations."""
    modules: list[nn.Module] = [nn.ConvTranspose2d(widths[0], widths[1], first, 1, 0, bias=biases)]
    for index, (fan_in, fan_out) in enumerate(pairwise(widths[1:])):
        modules += [nn.BatchNorm2d(fan_in), nn.ReLU(True), *[nn.Dropout(0.2)] * (index in dropouts)]
        modules.append(nn.ConvTranspose2d(fan_in, fan_out, 4, 2, 1, bias=biases))
    network = nn.Module()
    network.main = nn.Sequential(*modules, nn.Tanh())
    return network


def assert_draws(generator: Generator, network: nn.Module, label: int | None = None, labels: int = 0) -> None:
    """The generator's images, plain and folded, are the network's, from [-1, 1] to [0, 1]."""
    latents = generator.sample_latents(3, generator=stream(1, "test"))
    one_hot = torch.eye(labels)[[label] * 3] if label is not None else torch.zeros(3, 0)
    with torch.no_grad():
        expected = (network.main(torch.cat([latents, one_hot], 1)[:, :, None, None]) + 1) / 2
        for draw in (generator, generator.fold()):
            assert draw(latents).shape == expected.shape
            torch.testing.assert_close(draw(latents), expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.02


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_tutorial_networks_of_every_size(size: int, prefix: str) -> None:
    doublings = {32: 3, 64: 4, 128: 5, 256: 6}[size]
    network = loud(tutorial((10, *range(4 + 2 * doublings, 4, -2), 3)))
    generator = build(recognise({prefix + name: value for name, value in network.state_dict().items()}))
    assert generator.latent_shape == (10,)
    assert generator.image_shape == (3, size, size)
    assert_draws(generator, network)


@given(
    widths=st.lists(st.integers(1, 5), min_size=3, max_size=5),
    first=st.sampled_from([1, 2, 3, 4, 5, 7]),
    biases=st.booleans(),
    dropouts=st.sets(st.integers(0, 3)),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=30)
def test_biases_dropouts_and_first_kernels(
    widths: list[int], first: int, biases: bool, dropouts: set[int], seed: int
) -> None:
    network = loud(tutorial(widths, first, biases, sorted(dropouts)), seed)
    generator = build(recognise(network.state_dict()))
    side = first * 2 ** (len(widths) - 2)
    assert generator.image_shape == (widths[-1], side, side)
    latents = generator.sample_latents(2, generator=stream(seed, "test"))
    with torch.no_grad():
        expected = (network.main(latents[:, :, None, None]) + 1) / 2
        torch.testing.assert_close(generator(latents), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(generator.fold()(latents), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("label", range(4))
def test_the_class_is_joined_behind_the_latent(label: int) -> None:
    network = loud(tutorial((6 + 4, 8, 6, 3), dropouts=[0]))
    generator = build(recognise(network.state_dict(), Options(labels=4, label=label)))
    assert generator.latent_shape == (6,)
    assert_draws(generator, network, label, labels=4)


def test_without_labels_a_conditional_network_has_its_classes_among_the_latents() -> None:
    network = loud(tutorial((6 + 4, 8, 6, 3)))
    assert build(recognise(network.state_dict())).latent_shape == (10,)


BAD_OPTIONS = {
    "as many labels as inputs": (Options(labels=8), "takes 8 numbers, which leaves no latent beside 8 labels"),
    "negative labels": (Options(labels=-1), "leaves no latent beside -1 labels"),
    "no such class": (Options(labels=3, label=3), "label must be from 0 to 2, got 3"),
    "a class of an unconditional generator": (Options(label=1), "label must be from 0 to 0, got 1"),
    "another layout's option": (Options(space="w"), "takes no space"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options_are_named_in_one_sentence(case: str) -> None:
    options, expected = BAD_OPTIONS[case]
    with pytest.raises(ValueError, match=expected) as caught:
        build(recognise(loud(tutorial((8, 6, 3))).state_dict(), options))
    assert_one_sentence(caught.value)


def _tutorial_state() -> State:
    return loud(tutorial((8, 6, 5, 3), biases=True, dropouts=[0])).state_dict()


BAD_TUTORIAL: dict[str, tuple[Callable[[State], State], str]] = {
    "an inner bias of another length": (lambda s: s | {"main.4.bias": torch.ones(1)}, "unexpected key 'main.3.bias'"),
    "an inner bias of integers": (lambda s: s | {"main.4.bias": torch.ones(5, dtype=torch.int64)}, "unexpected key"),
    "an inner bias that is not finite": (lambda s: s | {"main.4.bias": torch.full((5,), torch.nan)}, "finite"),
    "an output bias of another length": (lambda s: s | {"main.7.bias": torch.ones(1)}, r"expected \(3,\)"),
    "two norms in a row": (lambda s: s | {"main.2.weight": torch.ones(6)}, "unexpected key 'main.2.weight'"),
    "a norm before all": (
        lambda s: (
            {f"main.{int(n.split('.')[1]) + 1}.{n.split('.')[2]}": v for n, v in s.items()}
            | {"main.0.weight": torch.ones(8)}
        ),
        "unexpected key 'main.0.weight'",
    ),
    "no norms": (lambda s: {n: v for n, v in s.items() if v.dim() == 4}, "lack key 'main.1.bias'"),
    "one name twice": (lambda s: s | {"main.00.weight": s["main.0.weight"]}, "unexpected key 'main.00?.weight'"),
    "some names with the prefix": (
        lambda s: s | {"module.main.0.weight": s["main.0.weight"]},
        "'module.main.0.weight'",
    ),
    "a part of something else": (lambda s: s | {"head.weight": torch.ones(2)}, "unexpected key 'head.weight'"),
    "an endless number": (lambda s: s | {f"main.{'9' * 5000}.weight": torch.ones(2)}, "unexpected key 'main.999"),
    "a first kernel that is no square": (lambda s: s | {"main.0.weight": torch.ones(8, 6, 4, 3)}, "has shape"),
    "one convolution": (lambda s: {"main.0.weight": torch.ones(8, 3, 4, 4)}, "no DCGAN in the PyTorch tutorial's"),
    "a convolution of no channels": (lambda s: s | {"main.4.weight": torch.ones(6, 0, 4, 4)}, "no DCGAN"),
    "kernel 5, which has two alignments": (lambda s: s | {"main.4.weight": torch.ones(6, 5, 5, 5)}, "no DCGAN"),
    "the discriminator": (
        lambda s: {"main.0.weight": torch.ones(8, 3, 4, 4), "main.2.weight": torch.ones(1, 8, 4, 4)},
        "lack key",
    ),
    "long names": (lambda s: {"main.0.weight": torch.ones(8, 3, 4, 4), "x" * 5000: torch.ones(1)}, "unexpected key"),
}


@pytest.mark.parametrize("case", BAD_TUTORIAL)
def test_bad_tutorial_state_is_named_in_one_sentence(case: str) -> None:
    spoil, expected = BAD_TUTORIAL[case]
    with pytest.raises(ValueError, match=expected) as caught:
        build(recognise(spoil(_tutorial_state())))
    assert_one_sentence(caught.value)


# A published conditional generator


@pytest.fixture(scope="module")
def eyes() -> tuple[ModuleType, State]:
    """The network's own module and the weights of omniart-eye-generator 0.1 (MIT).

    The package's ``__init__`` builds the network and loads its weights at once, so only its definition is imported.
    """
    package = importlib.util.find_spec("omniart_eye_generator")
    if package is None or package.origin is None:
        pytest.skip("omniart-eye-generator is not installed; try pip install --no-deps omniart-eye-generator==0.1")
    folder = Path(package.origin).parent
    spec = importlib.util.spec_from_file_location("eye_network", folder / "generator.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, read_weights(folder / "generator_model_state.pth")


@pytest.mark.parametrize("label", [0, 1, 7])
def test_the_eye_generator_draws_its_own_images(eyes: tuple[ModuleType, State], label: int) -> None:
    module, state = eyes
    with torch.device("meta"):
        network = module.Generator()
    network.load_state_dict(state, assign=True)
    network.eval()
    generator = build(recognise(state, Options(labels=8, label=label)))
    assert generator.latent_shape == (100,)
    assert generator.image_shape == (3, 128, 128)
    latents = generator.sample_latents(2, generator=stream(3, "test"))
    with torch.no_grad():
        expected = (network(latents, torch.eye(8)[[label] * 2]) + 1) / 2
        torch.testing.assert_close(generator(latents), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(generator.fold()(latents), expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.1


# CSGM's TensorFlow layout


def csgm_variables(widths: Sequence[int], first: int = 4, kernel: int = 5, seed: int = 0) -> State:
    """Random weights under TensorFlow's names and in its order of axes."""
    rng = np.random.default_rng(seed)
    size = first**2 * widths[1]
    arrays = {"g_h0_lin/Matrix": rng.normal(size=(widths[0], size)), "g_h0_lin/bias": rng.normal(size=size)}
    arrays["g_h0_lin/Matrix"] /= widths[0] ** 0.5
    for index, (fan_in, fan_out) in enumerate(pairwise(widths[1:])):
        arrays[f"g_bn{index}/beta"] = rng.normal(size=fan_in) / 3
        arrays[f"g_bn{index}/gamma"] = rng.uniform(0.5, 1.5, fan_in)
        arrays[f"g_bn{index}/moving_mean"] = rng.normal(size=fan_in) / 3
        arrays[f"g_bn{index}/moving_variance"] = rng.uniform(0.5, 1.5, fan_in)
        arrays[f"g_h{index + 1}/w"] = rng.normal(size=(kernel, kernel, fan_out, fan_in)) * (2 / kernel / fan_in**0.5)
        arrays[f"g_h{index + 1}/biases"] = rng.normal(size=fan_out) / 3
    return {name: torch.from_numpy(array).float() for name, array in arrays.items()}


def conv2d_transpose(features: Array, kernel: Array) -> Array:
    """TensorFlow's transposed convolution of stride 2 to twice the side, by its definition and pixel by pixel.

    It is the gradient of ``conv2d``, where ``SAME`` pads an image of side 2 s to ``2 (s - 1) + k``, half of it before
    and, where it is odd, one more behind: the output pixel (i, j) sees the patch whose corner is (2 i, 2 j).

    Args:
        features: ``(batch, s, s, in)``.
        kernel: ``(k, k, out, in)``.
    """
    batch, side, _, _ = features.shape
    size, _, channels, _ = kernel.shape
    padding = max(2 * (side - 1) + size - 2 * side, 0)
    padded = np.zeros((batch, 2 * side + padding, 2 * side + padding, channels))
    for i in range(side):
        for j in range(side):
            patch = np.einsum("bc,hwoc->bhwo", features[:, i, j], kernel)
            padded[:, 2 * i : 2 * i + size, 2 * j : 2 * j + size] += patch
    before = padding // 2
    return padded[:, before : before + 2 * side, before : before + 2 * side]


def csgm_images(state: State, latents: Tensor) -> Tensor:
    """What CSGM's network gives at test time, in NumPy with double precision, (batch, channels, height, width)."""
    arrays = {name: value.double().numpy() for name, value in state.items()}
    channels = len(arrays["g_bn0/beta"])
    values = latents.double().numpy() @ arrays["g_h0_lin/Matrix"] + arrays["g_h0_lin/bias"]
    side = round((values.shape[1] / channels) ** 0.5)
    features = values.reshape(len(values), side, side, channels)
    index = 0
    while f"g_bn{index}/beta" in arrays:
        beta, gamma, mean, variance = (
            arrays[f"g_bn{index}/{name}"] for name in ("beta", "gamma", "moving_mean", "moving_variance")
        )
        features = np.maximum(gamma * (features - mean) / np.sqrt(variance + 1e-5) + beta, 0)
        index += 1
        features = conv2d_transpose(features, arrays[f"g_h{index}/w"]) + arrays[f"g_h{index}/biases"]
    return torch.from_numpy((np.tanh(features) + 1) / 2).permute(0, 3, 1, 2).float()


@given(
    widths=st.lists(st.integers(1, 5), min_size=3, max_size=5),
    first=st.integers(1, 5),
    kernel=st.sampled_from([4, 5]),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=30)
def test_csgm_variables_draw_what_their_network_draws(widths: list[int], first: int, kernel: int, seed: int) -> None:
    state = csgm_variables(widths, first, kernel, seed)
    generator = build(recognise(state))
    latents = generator.sample_latents(2, generator=stream(seed, "test"))
    assert latents.shape == (2, widths[0])
    expected = csgm_images(state, latents)
    for draw in (generator, generator.fold()):
        torch.testing.assert_close(draw(latents).detach(), expected, rtol=0, atol=1e-5)


def test_the_variables_of_csgm_s_celeba_generator() -> None:
    state = csgm_variables((100, 16, 12, 8, 6, 3))
    generator = build(recognise(state))
    assert generator.latent_shape == (100,)
    assert generator.image_shape == (3, 64, 64)
    latents = generator.sample_latents(1, generator=stream(0, "test"))
    torch.testing.assert_close(generator(latents).detach(), csgm_images(state, latents), rtol=0, atol=1e-5)


def test_a_checkpoint_with_scopes_slots_and_the_discriminator() -> None:
    state = csgm_variables((5, 4, 3, 2))
    expected = build(recognise(state))
    checkpoint = {f"generator/{name}:0": value for name, value in state.items()}
    checkpoint |= {f"generator/{name}/Adam:0": torch.ones_like(value) for name, value in state.items()}
    checkpoint |= {f"generator/{name}/Adam_1:0": torch.ones_like(value) for name, value in state.items()}
    checkpoint |= {"discriminator/d_h0_conv/w:0": torch.ones(5, 5, 3, 4), "beta1_power:0": torch.tensor(0.5)}
    generator = build(recognise(checkpoint))
    assert generator.state_dict().keys() == expected.state_dict().keys()
    for name, value in generator.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])


def _without(state: State, name: str) -> State:
    return {key: value for key, value in state.items() if key != name}


BAD_CSGM: dict[str, tuple[Callable[[State], State], str]] = {
    "no kernel": (lambda s: _without(s, "g_h2/w"), "lack the variable 'g_h2/w'"),
    "no norm at all": (lambda s: {n: v for n, v in s.items() if "bn" not in n}, "lack the variable 'g_bn0/gamma'"),
    "no variance": (lambda s: _without(s, "g_bn1/moving_variance"), "lack the variable 'g_bn1/moving_variance'"),
    "no last norm": (lambda s: {n: v for n, v in s.items() if "bn1" not in n}, "unexpected variable 'g_h2/biases'"),
    "the conditional network": (lambda s: s | {"g_h1_lin/Matrix": torch.ones(2, 2)}, "variable 'g_h1_lin/Matrix'"),
    "two generators": (lambda s: s | {"mean/g_h1/w": s["g_h1/w"]}, "variable 'g_h1/w' twice"),
    "a kernel of 3 axes": (lambda s: s | {"g_h1/w": torch.ones(5, 5, 3)}, "'g_h1/w' has shape .* 4 dimensions"),
    "an empty kernel": (lambda s: s | {"g_h1/w": torch.ones(5, 5, 3, 0)}, "'g_h1/w' has shape"),
    "kernel 3": (lambda s: {n: v[:3, :3] if v.dim() == 4 else v for n, v in s.items()}, "kernel must be 4 or 5, got 3"),
    "two kernels": (lambda s: s | {"g_h2/w": s["g_h2/w"][:4, :4]}, "has shape"),
    "kernels that do not chain": (lambda s: s | {"g_h2/w": torch.ones(5, 5, 2, 7)}, "'g_bn1/gamma' has 3 values"),
    "a map that is no square": (
        lambda s: s | {"g_h0_lin/Matrix": torch.ones(5, 60), "g_h0_lin/bias": torch.ones(60)},
        "60 numbers, which are no square of 4 channels",
    ),
    "a bias of another length": (lambda s: s | {"g_h0_lin/bias": torch.ones(3)}, "'g_h0_lin/bias' has 3 values"),
    "a vector as a matrix": (lambda s: s | {"g_h0_lin/Matrix": torch.ones(64)}, "expected 2 dimensions"),
    "NaN": (lambda s: s | {"g_h1/biases": torch.full((3,), torch.nan)}, "finite"),
    "negative variance": (lambda s: s | {"g_bn0/moving_variance": -torch.ones(4)}, "negative variances"),
    "integers": (lambda s: s | {"g_h1/w": torch.ones(5, 5, 3, 4, dtype=torch.int64)}, "not finite real numbers"),
}


@pytest.mark.parametrize("case", BAD_CSGM)
def test_bad_csgm_state_is_named_in_one_sentence(case: str) -> None:
    spoil, expected = BAD_CSGM[case]
    with pytest.raises(ValueError, match=expected) as caught:
        build(recognise(spoil(csgm_variables((5, 4, 3, 2)))))
    assert_one_sentence(caught.value)


def test_csgm_takes_no_labels() -> None:
    with pytest.raises(ValueError, match="takes no labels") as caught:
        recognise(csgm_variables((5, 4, 3, 2)), Options(labels=2))
    assert_one_sentence(caught.value)
