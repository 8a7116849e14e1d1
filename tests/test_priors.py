"""Generators: folding changes nothing but the speed, and no weight file can do harm."""

import os
import pickle
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

from cs_lip.priors import DCGAN, DEFAULT_GENERATOR, build, bundled_generators, load_generator, recognise
from cs_lip.priors.weights import read_weights, sha256_of
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


# Weight files


class Trap:
    """Pickles to a call that makes a folder: whoever unpickles it runs that call."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def _save_zip(content: object, path: Path) -> None:
    torch.save(content, path)


def _save_legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _save_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("save", [_save_zip, _save_legacy, _save_pickle])
@pytest.mark.parametrize("suffix", [".pt", ".tar", ".pkl", ".safetensors"])
def test_pickled_code_is_refused_and_never_runs(
    save: Callable[[object, Path], None], suffix: str, tmp_path: Path
) -> None:
    marker, path = tmp_path / "marker", tmp_path / f"trap{suffix}"
    save({"netG_state_dict": tiny_generator().state_dict(), "trap": Trap(marker)}, path)
    expected = "not a whole safetensors file" if suffix == ".safetensors" else "could run code, so it was not loaded"
    with pytest.raises(ValueError, match=expected) as caught:
        load_generator(str(path))
    assert_one_sentence(caught.value)
    assert str(path) in str(caught.value)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Trap(marker)))
    assert marker.exists(), "the trap does not work, so the test says nothing"


@pytest.mark.parametrize("save", [_save_zip, _save_legacy])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"netG_state_dict": s, "epoch": 3, "losses": [0.1]}])
def test_pytorch_files_are_read(
    save: Callable[[object, Path], None], wrap: Callable[[State], object], tmp_path: Path
) -> None:
    generator = tiny_generator()
    save(wrap(generator.state_dict()), tmp_path / "weights.tar")
    loaded = load_generator(str(tmp_path / "weights.tar"))
    assert torch.equal(loaded(latents_for(generator)), generator(latents_for(generator)))


def test_safetensors_round_trip(tmp_path: Path) -> None:
    state = tiny_generator().state_dict()
    save_file(state, tmp_path / "tiny.safetensors")
    read = read_weights(tmp_path / "tiny.safetensors")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], value) for name, value in state.items())


NOT_ONE_STATE: dict[str, Callable[[State], object]] = {
    "holds 2 state dicts": lambda s: {"netG": s, "netD": s},
    "holds 0 state dicts": lambda s: {"epoch": 3},
    "holds 0 state dicts .*": lambda s: list(s.values()),
    "holds 0 state dicts .*expected": lambda s: {0: torch.ones(2), "main.0.weight": torch.ones(2)},
}


@pytest.mark.parametrize("expected", NOT_ONE_STATE)
def test_file_without_exactly_one_state_is_refused(expected: str, tmp_path: Path) -> None:
    torch.save(NOT_ONE_STATE[expected](tiny_generator().state_dict()), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=expected) as caught:
        load_generator(str(tmp_path / "weights.pt"))
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ""])
@pytest.mark.parametrize("content", [b"", b"not weights at all\n" * 40, bytes(1000)])
def test_file_of_another_kind_is_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="weights") as caught:
        load_generator(str(path))
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("name", ["missing.safetensors", "missing.pt", "no-such-generator", "."])
def test_missing_file_or_name_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="there is no") as caught:
        load_generator(name)
    assert_one_sentence(caught.value)
    assert repr(name) in str(caught.value) or name in str(caught.value)


@pytest.fixture(scope="module")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small weight files in every format that is read."""
    folder = tmp_path_factory.mktemp("weights")
    state = tiny_generator((2, 3, 1)).state_dict()
    save_file(state, folder / "a.safetensors")
    _save_zip({"netG": state}, folder / "zip.pt")
    _save_legacy({"netG": state}, folder / "legacy.pt")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["a.safetensors", "zip.pt", "legacy.pt"])
def test_every_truncation_is_refused(name: str, tiny_files: dict[str, Path]) -> None:
    content = tiny_files[name].read_bytes()
    path = tiny_files[name].with_name(f"cut-{name}")
    for length in range(0, len(content) - 1, max(1, len(content) // 100)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="cut-") as caught:
            load_generator(str(path))
        assert_one_sentence(caught.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["a.safetensors", "zip.pt", "legacy.pt"])
@given(damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=60)
def test_damaged_bytes_load_or_are_refused(
    name: str, tiny_files: dict[str, Path], damage: list[tuple[float, int]]
) -> None:
    content = bytearray(tiny_files[name].read_bytes())
    for place, value in damage:
        content[int(place * len(content))] = value
    path = tiny_files[name].with_name(f"damaged-{name}")
    path.write_bytes(content)
    try:
        generator = load_generator(str(path))
    except ValueError as error:
        assert_one_sentence(error)
    else:
        assert generator.image_shape == (1, 8, 8)


# The catalogue


def test_catalogue_says_where_weights_come_from_and_under_which_terms() -> None:
    entries = bundled_generators()
    assert DEFAULT_GENERATOR in entries
    for name, entry in entries.items():
        assert entry.name == name
        assert sha256_of(entry.path) == entry.sha256
        for text in (entry.licence, entry.source, entry.training_data, entry.training_data_terms, entry.description):
            assert text.strip()


def test_bundled_generator_draws_what_the_catalogue_says(bundled: DCGAN) -> None:
    entry = bundled_generators()[DEFAULT_GENERATOR]
    assert (bundled.latent_shape, bundled.image_shape) == (entry.latent_shape, entry.image_shape)
    images = bundled(latents_for(bundled, 8)).detach()
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std(0).mean() > 0.1, "eight faces look alike"
    torch.testing.assert_close(bundled.fold()(latents_for(bundled, 8)), images, rtol=0, atol=1e-5)


@pytest.fixture
def small_catalogue(tmp_path: Path) -> Path:
    """A folder like the bundled one, with two tiny generators; quick to damage."""
    rows = []
    for seed, name in enumerate(("one", "two")):
        path = tmp_path / f"{name}.safetensors"
        save_file(tiny_generator(seed=seed).state_dict(), path)
        texts = ("architecture", "description", "licence", "source", "training_data", "training_data_terms")
        rows += [f"[{name}]", f'file = "{path.name}"', f'sha256 = "{sha256_of(path)}"']
        rows += ["latent_shape = [8]", "image_shape = [3, 16, 16]", *[f'{key} = "text"' for key in texts]]
    (tmp_path / "catalogue.toml").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


def test_bundled_file_is_loaded_by_name(small_catalogue: Path) -> None:
    generator = load_generator("two", folder=small_catalogue)
    latents = latents_for(generator)
    assert torch.equal(generator(latents), tiny_generator(seed=1)(latents))


def test_damaged_bundled_file_is_refused_by_name(small_catalogue: Path) -> None:
    path = small_catalogue / "one.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1  # one bit of one weight, which no check of keys, shapes or values would see
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"'one' .*SHA-256.*damaged or was swapped") as caught:
        load_generator("one", folder=small_catalogue)
    assert_one_sentence(caught.value)
    load_generator("two", folder=small_catalogue)


def test_swapped_bundled_file_is_refused_by_name(small_catalogue: Path) -> None:
    (small_catalogue / "two.safetensors").replace(small_catalogue / "one.safetensors")
    with pytest.raises(ValueError, match=r"'one' .*damaged or was swapped") as caught:
        load_generator("one", folder=small_catalogue)
    assert_one_sentence(caught.value)
    with pytest.raises(ValueError, match=r"'two' are missing") as caught:
        load_generator("two", folder=small_catalogue)
    assert_one_sentence(caught.value)
