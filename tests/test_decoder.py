"""Plain decoders: the images of the network as its author wrote it, whatever its layers are called."""

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from cs_lip.priors import Options, build, load_generator, recognise
from cs_lip.priors.decoder import ACTIVATIONS, Decoder
from cs_lip.priors.reading.weights import read_blueprint, write_blueprint
from cs_lip.seeding import stream

State = dict[str, Tensor]
MODULES = {"relu": nn.ReLU, "leaky-relu": nn.LeakyReLU, "softplus": nn.Softplus, "tanh": nn.Tanh}


def linear_state(names: list[str], sizes: list[int], seed: int = 0) -> State:
    rng = torch.Generator().manual_seed(seed)
    state = {}
    for name, (fan_in, fan_out) in zip(names, pairwise(sizes), strict=True):
        state[f"{name}.weight"] = torch.randn(fan_out, fan_in, generator=rng)
        state[f"{name}.bias"] = torch.randn(fan_out, generator=rng)
    return state


def latents_for(size: int) -> Tensor:
    return torch.randn(3, size, generator=stream(1, "test"))


def from_state(state: State, options: Options | None = None) -> Decoder:
    decoder = build(recognise(state, options or Options()))
    assert isinstance(decoder, Decoder)
    return decoder


# The images


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    side=st.integers(1, 4),
    activation=st.sampled_from(sorted(MODULES)),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=40)
def test_images_are_those_of_pytorch_modules(sizes: list[int], side: int, activation: str, seed: int) -> None:
    assert MODULES.keys() == ACTIVATIONS.keys()
    sizes = [*sizes, side**2]
    modules: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        modules += [nn.Linear(fan_in, fan_out), MODULES[activation]()]
    network = nn.Sequential(*modules[:-1], nn.Sigmoid(), nn.Unflatten(1, (1, side, side)))
    state = linear_state([str(index) for index in range(0, len(modules), 2)], sizes, seed)
    network.load_state_dict(state)
    decoder = from_state(state, Options(activation=activation))
    assert decoder.geometry == "gaussian"
    latents = latents_for(sizes[0])
    for prior in (decoder, decoder.fold()):
        torch.testing.assert_close(prior(latents), network(latents), rtol=0, atol=1e-6)


class ExampleVAE(nn.Module):
    """The layers of pytorch/examples' autoencoder, smaller, and what its decoder computes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(16, 9), nn.Linear(9, 4), nn.Linear(9, 4)
        self.fc3, self.fc4 = nn.Linear(4, 9), nn.Linear(9, 16)

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.fc4(torch.relu(self.fc3(z))))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_decoder_of_the_pytorch_example(prefix: str, tmp_path: Path) -> None:
    vae = ExampleVAE()
    for name, value in vae.state_dict().items():
        value.copy_(torch.randn(value.shape, generator=stream(2, name)))
    state = {f"{prefix}{name}": value for name, value in vae.state_dict().items()}
    latents = latents_for(4)
    expected = vae.decode(latents).reshape(3, 1, 4, 4)
    torch.testing.assert_close(from_state(state)(latents), expected, rtol=0, atol=1e-6)
    save_file(state, tmp_path / "vae.safetensors")
    decoder = load_generator(str(tmp_path / "vae.safetensors"))
    for prior in (decoder, decoder.fold()):
        torch.testing.assert_close(prior(latents), expected, rtol=0, atol=1e-6)


def csgm_state() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = (20, 50, 40, 784)
    state = {}
    for index in (1, 2, 3):
        state[f"gen/w{index}"] = rng.normal(size=(sizes[index - 1], sizes[index])).astype(np.float32)
        state[f"gen/b{index}"] = rng.normal(size=sizes[index]).astype(np.float32)
    return state


def test_decoder_of_csgm(tmp_path: Path) -> None:
    """In NumPy, with TensorFlow's order of the matrix product."""
    state = csgm_state()
    encoder = {"enc/w1": np.zeros((784, 50), np.float32), "enc/b1": np.zeros(50, np.float32)}
    np.savez(tmp_path / "vae.npz", **state, **encoder)
    decoder = load_generator(str(tmp_path / "vae.npz"))
    assert isinstance(decoder, Decoder)
    assert (decoder.latent_shape, decoder.image_shape, decoder.activation) == ((20,), (1, 28, 28), "softplus")
    latents = latents_for(20)
    values = latents.numpy().astype(np.float64)
    for index in (1, 2):
        values = np.logaddexp(0, values @ state[f"gen/w{index}"] + state[f"gen/b{index}"])
    expected = 1 / (1 + np.exp(-(values @ state["gen/w3"] + state["gen/b3"])))
    images = torch.from_numpy(expected.reshape(3, 1, 28, 28)).float()
    for prior in (decoder, decoder.fold()):
        torch.testing.assert_close(prior(latents), images, rtol=0, atol=1e-5)


# Finding the chain


@pytest.mark.parametrize(
    "names",
    [
        ["decoder.0", "decoder.2", "decoder.10"],
        ["module.decoder.0", "module.decoder.2", "module.decoder.10"],
        ["decoder.fc9", "decoder.fc10", "decoder.out"],
        ["net.2", "net.4", "net.11"],
        ["h", "i", "j"],
    ],
)
@pytest.mark.parametrize("as_file", [False, True])
def test_chain_is_found_whatever_its_names_and_their_order(names: list[str], as_file: bool, tmp_path: Path) -> None:
    state = linear_state(names, [3, 5, 7, 9])
    latents = latents_for(3)
    expected = from_state(linear_state(["0", "1", "2"], [3, 5, 7, 9]))(latents)
    encoder = linear_state(["encoder.0", "encoder.2", "encoder.mean"], [9, 7, 5, 3])
    whole = list((encoder | state).items())
    if as_file:  # which sorts the names by the alphabet
        random.Random(0).shuffle(whole)
        save_file(dict(whole), tmp_path / "decoder.safetensors")
        decoder = load_generator(str(tmp_path / "decoder.safetensors"))
    else:
        decoder = from_state(dict(whole))
    assert torch.equal(decoder(latents), expected)


def test_numbers_order_layers_of_one_size_in_a_file_that_sorts_them(tmp_path: Path) -> None:
    """As the alphabet has them, fc10 comes before fc2, and that chain fits too."""
    state = linear_state([*(f"fc{number}" for number in range(1, 12)), "out"], [3, *[5] * 11, 9])
    latents = latents_for(3)
    save_file(state, tmp_path / "decoder.safetensors")
    stored = load_generator(str(tmp_path / "decoder.safetensors"))
    assert torch.equal(stored(latents), from_state(state)(latents))


def test_layers_that_were_not_written_in_the_order_of_their_numbers_are_taken_as_written() -> None:
    state = linear_state(["fc2", "fc1", "fc3"], [3, 5, 5, 9])
    latents = latents_for(3)
    plain = linear_state(["a", "b", "c"], [3, 5, 5, 9])
    assert torch.equal(from_state(state)(latents), from_state(plain)(latents))


@pytest.mark.parametrize(
    "network",
    [
        lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(8, 64)), nn.ReLU(), nn.Linear(64, 64)),
        lambda: nn.ModuleDict({"lstm": nn.LSTM(8, 32), "out": nn.Linear(32, 64)}),
        lambda: nn.ModuleDict({"decoder": nn.Sequential(nn.Linear(8, 64), nn.PReLU(), nn.Linear(64, 64))}),
    ],
)
def test_weights_of_something_else_are_refused(network: Callable[[], nn.Module]) -> None:
    with pytest.raises(ValueError, match="no plain decoder") as caught:
        from_state(network().state_dict())
    assert_one_sentence(caught.value)


def test_order_of_the_file_decides_where_names_do_not() -> None:
    state = linear_state(["into", "hidden", "out"], [3, 5, 7, 9])
    latents = latents_for(3)
    assert torch.equal(from_state(state)(latents), from_state(linear_state(list("abc"), [3, 5, 7, 9]))(latents))


def test_image_shape_is_told_or_a_square_of_one_channel() -> None:
    state = linear_state(["0", "1"], [3, 5, 48])
    decoder = from_state(state, Options(image_shape=(3, 2, 8)))
    assert decoder.image_shape == (3, 2, 8)
    assert decoder(latents_for(3)).shape == (3, 3, 2, 8)
    assert from_state(linear_state(["0", "1"], [3, 5, 49])).image_shape == (1, 7, 7)
    with pytest.raises(ValueError, match=r"48 values, .*try the option image_shape") as caught:
        from_state(state)
    assert_one_sentence(caught.value)


def test_layers_and_roles() -> None:
    decoder = from_state(linear_state(["0", "1", "2"], [3, 5, 7, 9]))
    assert list(decoder.layers()) == ["linear-1", "linear-2", "linear-3"]
    state: tuple[Tensor, ...] = (latents_for(3),)
    shapes = []
    for layer in decoder.layers().values():
        state = layer(state)
        shapes.append(tuple(state[0].shape[1:]))
    assert shapes == [(5,), (7,), (1, 3, 3)]
    groups = {"input": ("linear.0.weight",), "hidden": ("linear.1.weight",), "output": ("linear.2.weight",)}
    assert decoder.weight_groups() == groups


def test_decoder_survives_our_own_file(tmp_path: Path) -> None:
    blueprint = recognise(linear_state(["0", "1"], [3, 5, 12]), Options(image_shape=(3, 2, 2), activation="softplus"))
    write_blueprint(tmp_path / "decoder.safetensors", blueprint)
    again = build(read_blueprint(tmp_path / "decoder.safetensors"))
    assert isinstance(again, Decoder)
    assert again.activation == "softplus"
    assert torch.equal(again(latents_for(3)), build(blueprint)(latents_for(3)))


# What is no plain decoder

CHAIN = linear_state(["0", "1"], [3, 5, 9])
BAD: dict[str, tuple[Callable[[], object], str]] = {
    "an unknown activation": (lambda: from_state(CHAIN, Options(activation="swish")), "no activation 'swish'"),
    "an image of another size": (
        lambda: from_state(CHAIN, Options(image_shape=(3, 3, 3))),
        r"shape \(3, 3, 3\) do not hold the 9 values",
    ),
    "layers that do not chain": (
        lambda: from_state(linear_state(["0"], [3, 5]) | linear_state(["1"], [6, 9])),
        r"'0' \(5, 3\), '1' \(9, 6\) do not follow one another",
    ),
    "a convolution": (
        lambda: from_state(CHAIN | {"2.weight": torch.ones(3, 9, 4, 4), "2.bias": torch.ones(3)}),
        r"layer '2' has a weight of shape \(3, 9, 4, 4\) .*Generator.wrap",
    ),
    "a norm": (
        lambda: from_state(CHAIN | {"2.weight": torch.ones(9), "2.bias": torch.ones(9)}),
        "layer '2' .*Generator.wrap",
    ),
    "a bias of another size": (lambda: from_state(CHAIN | {"1.bias": torch.ones(8)}), r"bias of \(8,\)"),
    "a layer without bias": (
        lambda: from_state(linear_state(["0", "2"], [5, 5, 9]) | {"1.weight": torch.ones(5, 5)}),
        "layer '1' .* no bias",
    ),
    "only an encoder": (lambda: from_state(linear_state(["encoder.0", "encoder.1"], [9, 5, 3])), "are an encoder's"),
    "an empty layer": (
        lambda: from_state({"0.weight": torch.ones(4, 0), "0.bias": torch.ones(4)}),
        "sizes of a decoder's layers",
    ),
    "NaN": (lambda: from_state(CHAIN | {"1.bias": torch.full((9,), torch.nan)}), "'linear.1.bias' .*finite"),
    "no dimensions": (
        lambda: from_state(CHAIN | {"1.weight": torch.tensor(1.0), "1.bias": torch.tensor(1.0)}),
        "layer '1'",
    ),
    "one size": (lambda: Decoder((3,), (1, 3, 1)), "two or more"),
    "an image without height": (lambda: Decoder((3, 4), (2, 2)), r"shape \(2, 2\) do not hold"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_plain_decoder_is_refused_in_one_sentence(case: str) -> None:
    act, expected = BAD[case]
    with pytest.raises(ValueError, match=expected) as caught:
        act()
    assert_one_sentence(caught.value)


def test_csgm_decoder_of_another_form_is_refused() -> None:
    state = {name: torch.from_numpy(value) for name, value in csgm_state().items()}
    state["gen/w2"] = torch.ones(3)
    with pytest.raises(ValueError, match=r"weight of shape \(3,\)") as caught:
        from_state(state)
    assert_one_sentence(caught.value)
