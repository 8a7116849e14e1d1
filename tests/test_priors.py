"""Generators: folding changes nothing but the speed, and no state dict makes another network than it says."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY_WIDTHS, assert_one_sentence, tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from cs_lip.priors import DCGAN, DEFAULT_GENERATOR, build, load_generator, recognise
from cs_lip.seeding import stream

WIDTHS = st.tuples(*[st.integers(1, 5)] * 4) | st.tuples(*[st.integers(1, 6)] * 3) | st.just(TINY_WIDTHS)
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def bundled() -> DCGAN:
    return load_generator(DEFAULT_GENERATOR)


def latents_for(generator: DCGAN, count: int = 3) -> Tensor:
    return generator.sample_latents(count, generator=stream(1, "test"))


def from_state(state: State) -> DCGAN:
    generator = build(recognise(state))
    assert isinstance(generator, DCGAN)
    return generator


# Drawing and folding


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@given(widths=WIDTHS, seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=15)
def test_folding_draws_the_same_images(
    dtype: torch.dtype, tolerance: float, widths: tuple[int, ...], seed: int
) -> None:
    generator = tiny_generator(widths, seed).to(dtype)
    latents = latents_for(generator)
    expected, images = generator(latents), generator.fold()(latents)
    side = 4 * 2 ** (len(widths) - 2)
    assert images.shape == expected.shape == (3, widths[-1], side, side)
    assert images.dtype == dtype
    torch.testing.assert_close(images, expected, rtol=0, atol=tolerance)


@given(widths=WIDTHS, seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=15)
def test_pushed_tangents_are_the_jacobian(widths: tuple[int, ...], seed: int) -> None:
    generator = tiny_generator(widths, seed).double()
    latent = latents_for(generator, 1)[0]
    tangents = torch.randn(3, widths[0], generator=stream(2, "test"), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(generator, latent)
    for prior in (generator, generator.fold()):
        torch.testing.assert_close(prior.push(latent, tangents), torch.einsum("chwk,rk->rchw", jacobian, tangents))


def test_tangents_in_half_precision_err_by_rounding_alone(bundled: DCGAN) -> None:
    folded = bundled.fold()
    latent = latents_for(folded, 1)[0]
    tangents = torch.randn(4, 100, generator=stream(2, "test"))
    exact, rounded = folded.push(latent, tangents), folded.push(latent, tangents.bfloat16())
    assert rounded.dtype == torch.bfloat16
    assert 0 < (rounded.float() - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_folding_keeps_the_gradient(dtype: torch.dtype, tolerance: float) -> None:
    generator = tiny_generator().to(dtype)
    latents = latents_for(generator)
    weights = torch.randn(3, *generator.image_shape, generator=stream(2, "test")).to(dtype)

    def gradient(draw: Callable[[Tensor], Tensor]) -> Tensor:
        point = latents.clone().requires_grad_()
        return torch.autograd.grad((draw(point) * weights).sum(), point)[0]

    expected = gradient(generator)
    torch.testing.assert_close(gradient(generator.fold()), expected, rtol=tolerance, atol=tolerance)


def test_folding_twice_is_harmless_and_the_source_keeps_its_state() -> None:
    generator = tiny_generator().train()
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    folded = generator.fold()
    latents = latents_for(generator)
    assert torch.equal(folded.fold()(latents), folded(latents))
    torch.testing.assert_close(folded(latents), generator.eval()(latents), rtol=0, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    assert all(weight.requires_grad for weight in generator.parameters())


def test_folded_weights_are_frozen_and_its_own() -> None:
    generator = tiny_generator()
    folded = generator.fold()
    latents = latents_for(generator)
    expected = folded(latents)
    assert not folded.training
    assert list(folded.parameters())
    assert not any(weight.requires_grad for weight in folded.parameters())
    for value in generator.state_dict().values():
        value.zero_()
    assert torch.equal(folded(latents), expected)


@given(scale=st.floats(0, 1e4), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=10)
def test_images_are_in_the_unit_range(scale: float, seed: int) -> None:
    generator = tiny_generator(seed=seed)
    for draw in (generator, generator.fold()):
        images = draw(scale * latents_for(generator))
        assert images.min() >= 0
        assert images.max() <= 1


@pytest.mark.parametrize("batch", [(), (1,), (4,), (2, 3), (0,)])
def test_latents_have_any_batch_shape(batch: tuple[int, ...]) -> None:
    generator = tiny_generator()
    latents = torch.randn(*batch, 8, generator=stream(0, "test"))
    flat = generator(latents.reshape(-1, 8))
    for draw in (generator, generator.fold()):
        assert draw(latents).shape == (*batch, 3, 16, 16)
        torch.testing.assert_close(draw(latents), flat.reshape(*batch, 3, 16, 16), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(7,), (2, 9), (8, 1), ()])
def test_latents_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    for draw in (tiny_generator(), tiny_generator().fold()):
        with pytest.raises(ValueError, match=r"latent shape \(8,\)") as caught:
            draw(torch.zeros(shape))
        assert_one_sentence(caught.value)


def test_sampled_latents_are_normal_and_repeat() -> None:
    generator = tiny_generator()
    one = generator.sample_latents(2000, generator=stream(3, "latents"))
    assert one.shape == (2000, 8)
    assert torch.equal(one, generator.sample_latents(2000, generator=stream(3, "latents")))
    assert not torch.equal(one, generator.sample_latents(2000, generator=stream(4, "latents")))
    assert abs(one.mean()) < 0.03
    assert abs(one.std() - 1) < 0.03
    assert generator.double().sample_latents(2, generator=stream(3, "latents")).dtype == torch.float64


def test_global_generators_are_left_alone(tmp_path: Path) -> None:
    state = tiny_generator().state_dict()
    save_file(state, tmp_path / "tiny.safetensors")
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes())
    generator = load_generator(str(tmp_path / "tiny.safetensors"))
    generator.fold()(generator.sample_latents(2, generator=stream(0, "latents")))
    after = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes())
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


# State dicts


@given(widths=WIDTHS, seed=st.integers(0, 1000), counters=st.booleans())
@settings(deadline=None, max_examples=20)
def test_state_round_trip(widths: tuple[int, ...], seed: int, counters: bool) -> None:
    source = tiny_generator(widths, seed)
    state = {name: value for name, value in source.state_dict().items() if counters or "num_batches" not in name}
    generator = from_state(state)
    assert generator.widths == widths
    assert not generator.training
    assert torch.equal(generator(latents_for(source)), source(latents_for(source)))
    assert generator.state_dict().keys() == source.state_dict().keys()
    assert not any(value.is_meta for value in generator.state_dict().values())


def test_state_is_copied_and_converted() -> None:
    state = {name: value.double() for name, value in tiny_generator().state_dict().items()}
    generator = from_state(state)
    assert generator.dtype == torch.float32
    expected = generator(latents_for(generator))
    state["main.0.weight"].zero_()
    assert torch.equal(generator(latents_for(generator)), expected)
    same_type = tiny_generator().state_dict()
    generator = from_state(same_type)
    same_type["main.0.weight"].zero_()
    assert torch.equal(generator(latents_for(generator)), expected)


def _without(state: State, name: str) -> State:
    return {key: value for key, value in state.items() if key != name}


BAD_STATES: dict[str, tuple[Callable[[State], State], str]] = {
    "missing key": (lambda s: _without(s, "main.4.running_var"), "lack key 'main.4.running_var'"),
    "missing convolution": (lambda s: _without(s, "main.6.weight"), "have the unexpected key 'main.4.bias'"),
    "unexpected key": (lambda s: s | {"main.9.bias": torch.zeros(3)}, "have the unexpected key 'main.9.bias'"),
    "no convolution at all": (lambda s: {"fc.weight": torch.zeros(3, 3)}, "no known layout among the keys .*fc.weight"),
    "empty": (lambda s: {}, "no known layout"),
    "wrong shape": (lambda s: s | {"main.1.bias": torch.zeros(17)}, r"'main.1.bias' has shape \(17,\), expected"),
    "convolutions that do not chain": (lambda s: s | {"main.3.weight": torch.ones(5, 8, 4, 4)}, "has shape"),
    "another kernel": (lambda s: s | {"main.3.weight": torch.ones(16, 8, 3, 3)}, "no DCGAN"),
    "NaN": (lambda s: s | {"main.3.weight": s["main.3.weight"].clone().fill_(torch.nan)}, "'main.3.weight' .*finite"),
    "infinite": (lambda s: s | {"main.4.bias": torch.full((8,), torch.inf)}, "'main.4.bias' .*finite"),
    "too large for single precision": (
        lambda s: s | {"main.4.bias": torch.full((8,), 1e300, dtype=torch.float64)},
        "'main.4.bias' .*finite",
    ),
    "integers": (lambda s: s | {"main.4.bias": torch.zeros(8, dtype=torch.int64)}, "'main.4.bias' .*real"),
    "complex": (lambda s: s | {"main.4.bias": torch.zeros(8, dtype=torch.complex64)}, "'main.4.bias' .*real"),
    "negative variance": (lambda s: s | {"main.4.running_var": -torch.ones(8)}, "'main.4.running_var' .*negative"),
    "claims more memory than there is": (
        lambda s: s | {"main.0.weight": torch.ones(1).expand(10**6, 10**6, 4, 4)},
        "'main.1.weight' has shape",
    ),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_bad_state_is_named_in_one_sentence(case: str) -> None:
    spoil, expected = BAD_STATES[case]
    with pytest.raises(ValueError, match=expected) as caught:
        from_state(spoil(tiny_generator().state_dict()))
    assert_one_sentence(caught.value)
