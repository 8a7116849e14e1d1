"""Learned starts: linear estimates are Bayes' rule, training sees draws alone, a file belongs to one generator."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from helpers import LinearGenerator, assert_one_sentence, tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cs_lip.cli.main import main
from cs_lip.cli.train_start import train_start
from cs_lip.operators import Gaussian, Mask, SubsampledFourier, bernoulli_mask
from cs_lip.operators.vectors import as_real
from cs_lip.priors import Encoder, Generator, find_entry, load_generator, load_start, read_start, write_start
from cs_lip.priors.adding import add_generator, remove_generator
from cs_lip.priors.catalogue import pretrained_folder
from cs_lip.priors.starts import METADATA, own_start_path
from cs_lip.seeding import stream
from cs_lip.training import StartSettings, StartTraining
from cs_lip.training.random_operators import KINDS, estimates, random_operator

SHAPE = (1, 6, 6)
SMALL = StartSettings(
    draws=1000,
    components=24,
    width=32,
    depth=1,
    steps=300,
    batch=64,
    image_steps=10,
    image_batch=16,
    operators=10,
    learning_rate=5e-3,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CS_LIP_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "generators"


def trained(generator: Generator, settings: StartSettings) -> Encoder:
    training = StartTraining(generator, settings)
    while training.done < training.total:
        training.advance()
    return training.finished()


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return trained(tiny_generator(), SMALL)


class Coefficients(nn.Module):
    """In place of the network: the estimated coefficients, in units of their standard deviations."""

    def forward(self, features: Tensor) -> Tensor:
        return features[:, : features.shape[1] // 2]


def linear_encoder(components: int = 8, rest: float = 0.0) -> Encoder:
    """An encoder with random components whose latents are its estimated coefficients."""
    rng = stream(0, "test/encoder")
    encoder = Encoder((components,), SHAPE, "gaussian", components=components, width=2, depth=0)
    basis = torch.linalg.qr(torch.randn(math.prod(SHAPE), components, generator=rng))[0].T
    encoder.basis.copy_(basis)
    encoder.mean.copy_(torch.rand(math.prod(SHAPE), generator=rng))
    encoder.variances.copy_(torch.linspace(2, 0.1, components))
    encoder.rest.fill_(rest)
    encoder.centre.zero_()
    encoder.network = Coefficients()  # type: ignore[assignment]
    return encoder


# The linear estimate


@pytest.mark.parametrize(
    "operator",
    [
        Gaussian(SHAPE, 12, seed=1),
        SubsampledFourier(SHAPE, 14, seed=1, pattern="centre"),
        Mask(bernoulli_mask(SHAPE[1:], keep=0.5, seed=1), SHAPE),
    ],
    ids=lambda operator: type(operator).__name__,
)
def test_measurements_tell_what_conditioning_of_normal_images_says(operator: Gaussian) -> None:
    """The same number from the covariance of images and measurements, without any component's coefficients."""
    encoder, noise = linear_encoder(), 0.3
    images = encoder.mean + torch.randn(5, 8, generator=stream(0, "c")) @ encoder.basis
    y = as_real(operator(images.reshape(-1, *SHAPE)), operator.out_shape)
    found = encoder.from_measurements(
        as_real(operator(encoder.basis_images), operator.out_shape),
        y - as_real(operator(encoder.mean_image), operator.out_shape),
        gain=1.0,
        noise=noise,
    )
    pixels = torch.eye(math.prod(SHAPE)).reshape(-1, *SHAPE)
    matrix = as_real(operator(pixels), operator.out_shape).T.double()
    of_images = (encoder.basis.T * encoder.variances @ encoder.basis).double()
    of_measurements = matrix @ of_images @ matrix.T + noise**2 * torch.eye(len(matrix))
    centred = y.double() - encoder.mean.double() @ matrix.T
    expected = torch.linalg.solve(of_measurements, centred.T).T @ matrix @ of_images @ encoder.basis.T.double()
    torch.testing.assert_close(found.double(), expected / encoder.variances.sqrt(), rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(level=st.floats(0.01, 10), rest=st.floats(0, 5))
def test_a_back_projection_is_a_measurement_of_every_pixel(level: float, rest: float) -> None:
    encoder = linear_encoder(rest=rest)
    images = torch.randn(3, *SHAPE, generator=stream(0, "b"))
    noise = math.sqrt(max(level**2 - rest / math.prod(SHAPE), 0))
    whole = math.sqrt(noise**2 + rest / math.prod(SHAPE))
    residuals = (images - encoder.mean_image).flatten(1)
    found = encoder.from_measurements(encoder.basis, residuals, gain=1.0, noise=noise)
    torch.testing.assert_close(encoder(images, whole), found, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(encoder(images, torch.full((3,), whole)), found, rtol=1e-4, atol=1e-4)


def test_the_normalisation_of_the_operator_changes_nothing() -> None:
    encoder = linear_encoder(rest=1.0)
    responses = torch.randn(8, 10, generator=stream(0, "r"))
    residuals = torch.randn(2, 10, generator=stream(1, "r"))
    once = encoder.from_measurements(responses, residuals, gain=0.7, noise=0.1)
    scaled = encoder.from_measurements(100 * responses, 100 * residuals, gain=7000, noise=10)
    torch.testing.assert_close(once, scaled)


def test_perturbed_starts_differ_and_scatter_about_the_estimate() -> None:
    encoder = linear_encoder(rest=0.2)
    responses = torch.randn(8, 30, generator=stream(0, "r"))
    residuals = torch.randn(8, generator=stream(1, "r")) @ responses
    rows = residuals.expand(400, -1)
    starts = encoder.from_measurements(responses, rows, 1.0, perturbed=stream(2, "r"))
    again = encoder.from_measurements(responses, rows, 1.0, perturbed=stream(2, "r"))
    assert torch.equal(starts, again)
    assert starts.std(0).min() > 0
    middle = encoder.from_measurements(responses, residuals[None], 1.0, noise=math.sqrt(0.2 / 30))
    assert ((starts.mean(0) - middle).abs() < 4 * starts.std(0) / 20).all()


def test_simulated_estimates_have_the_errors_that_they_claim() -> None:
    """E (c_hat - c)(c_hat - c)^T of ``c gain + n spread``, written out, is the posterior covariance."""
    rng = stream(0, "e")
    variances = torch.linspace(3, 0.2, 7)
    responses = torch.randn(7, 4, generator=rng, dtype=torch.float64)
    made = estimates(responses, variances, 0.5)
    shrink = made.gain - torch.eye(7)
    errors = shrink.T * variances @ shrink + made.spread.T @ made.spread
    torch.testing.assert_close(errors.diagonal(), made.variances, rtol=1e-4, atol=1e-5)
    exact = torch.linalg.inv(responses @ responses.T / 0.5 + torch.diag(1 / variances.double()))
    torch.testing.assert_close(errors.double(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"gaussian"}))
@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 16, 16)])
def test_every_kind_of_random_operator_can_be_made(kind: str, shape: tuple[int, int, int]) -> None:
    for seed in range(5):
        operator = random_operator(kind, shape, 20, stream(seed, "operator"))
        assert operator.in_shape == shape
        assert operator.m >= 1


# Training


def test_training_on_draws_alone_beats_the_mean_latent(tiny: Encoder) -> None:
    generator = tiny_generator()
    latents = generator.sample_latents(200, generator=stream(5, "unseen"))
    with torch.no_grad():
        images = generator(latents)
        operator = Gaussian(generator.image_shape, 60, seed=3)
        found = tiny.from_measurements(
            operator(tiny.basis_images), operator(images) - operator(tiny.mean_image), gain=1.0
        )
        projected = tiny(images, 0.001)
    for start in (found, projected):
        assert start.shape == latents.shape
        assert (start - latents).square().mean() < 0.4


def test_the_same_seed_trains_the_same_weights_and_the_global_generator_is_left_alone(tiny: Encoder) -> None:
    generator = tiny_generator()
    before = torch.get_rng_state()
    again = trained(generator, SMALL)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in tiny.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_on_a_sphere_latents_have_the_length_of_normal_ones() -> None:
    module = nn.Sequential(nn.Linear(4, 12), nn.Unflatten(1, (3, 2, 2)))
    generator = Generator.wrap(module.requires_grad_(False), latent_shape=(4,), value_range=(-9, 9), geometry="sphere")
    few = StartSettings(draws=200, components=5, width=8, depth=1, steps=5, batch=8, image_steps=1, image_batch=8)
    encoder = trained(generator, few)
    latents = encoder(torch.rand(6, 3, 2, 2, generator=stream(0, "x")), 0.1)
    torch.testing.assert_close(latents.norm(dim=1), torch.full((6,), 2.0))


def test_what_is_outside_the_components_is_told_for_draws_that_nobody_has_seen() -> None:
    size = (1, 16, 16)
    generator = LinearGenerator(torch.randn(256, 256, generator=stream(0, "matrix")) / 256, size)
    few = StartSettings(draws=200, components=192, width=8, depth=0, steps=1, batch=8, image_steps=0)
    encoder = trained(generator, few)
    with torch.no_grad():
        images = generator(generator.sample_latents(500, generator=stream(9, "unseen")))
    centred = images.flatten(1) - encoder.mean
    left = (centred - centred @ encoder.basis.T @ encoder.basis).square().sum(1).mean()
    assert 0.7 < float(encoder.rest / left) <= 1.1


def test_images_too_large_and_generators_of_one_image_are_refused() -> None:
    with pytest.raises(ValueError, match="random starts") as refused:
        StartTraining(LinearGenerator(torch.zeros(3 * 256 * 256, 2), (3, 256, 256)), SMALL)
    assert_one_sentence(refused.value)
    with pytest.raises(ValueError, match="same image") as refused:
        StartTraining(LinearGenerator(torch.zeros(36, 2), SHAPE), SMALL).advance()
    assert_one_sentence(refused.value)


@pytest.mark.parametrize("name", ["draws", "components", "width", "steps", "batch", "image_steps", "operators"])
def test_settings_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name.replace("_", " ")) as refused:
        StartSettings(**{name: -1})
    assert_one_sentence(refused.value)


# Files and the command


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def own(home: Path, tmp_path: Path) -> str:
    """A generator of the user's own."""
    save_file(tiny_generator((4, 8, 1)).state_dict(), tmp_path / "netG.safetensors")
    assert run("generators", "add", tmp_path / "netG.safetensors", "--name=mine").exit_code == 0
    return "mine"


def test_the_command_keeps_a_start_beside_the_generator(own: str, home: Path) -> None:
    assert load_start(own) is None
    few = ("--draws=300", "--steps=3", "--image-steps=1")
    done = run("train-start", f"--generator={own}", *few)
    assert done.exit_code == 0, done.output
    encoder = load_start(own)
    assert encoder is not None
    encoder.check(load_generator(own))
    path = home / "mine.start.safetensors"
    assert str(path) in run("generators").stdout
    listed = {row["name"]: row["start"] for row in json.loads(run("generators", "--json").stdout)["generators"]}
    assert listed["mine"] == str(path)
    before = path.read_bytes()
    again = run("train-start", f"--generator={own}", *few)
    assert again.exit_code == 2
    assert "--overwrite" in again.output
    assert path.read_bytes() == before
    assert run("train-start", f"--generator={own}", *few, "--overwrite").exit_code == 0
    assert path.read_bytes() == before  # the same seed
    assert run("train-start", "--generator=nobody").exit_code == 2


def test_a_training_that_is_stopped_leaves_nothing(own: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(training: StartTraining) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(StartTraining, "advance", stop)
    before = sorted(home.iterdir())
    stopped = run("train-start", f"--generator={own}")
    assert stopped.exit_code == 130
    assert "Stopped" in stopped.output
    assert sorted(home.iterdir()) == before


def test_a_file_gives_back_the_encoder_up_to_half_precision(tiny: Encoder, own: str, tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    write_start(path, tiny, find_entry(own), {"seed": 0})
    encoder, about = read_start(path)
    assert about["provenance"] == {"seed": 0}
    images = tiny_generator()(torch.randn(20, 8, generator=stream(0, "z"))).detach()
    torch.testing.assert_close(encoder(images, 0.05), tiny(images, 0.05), rtol=0.02, atol=0.02)


def test_a_start_of_other_weights_is_refused(tiny: Encoder, own: str, home: Path, tmp_path: Path) -> None:
    write_start(home / "mine.start.safetensors", tiny, find_entry(own), {})
    kept = (home / "mine.start.safetensors").read_bytes()
    other = tiny_generator(seed=1)
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    assert run("generators", "add", tmp_path / "other.safetensors", "--name=mine", "--overwrite").exit_code == 0
    assert load_start("mine") is None, "new weights leave no start of the old ones behind"
    (home / "mine.start.safetensors").write_bytes(kept)
    with pytest.raises(ValueError, match="belongs to") as refused:
        load_start("mine")
    assert_one_sentence(refused.value)
    tiny.check(tiny_generator())
    tiny.check(tiny_generator().fold())
    for wrong in (other, tiny_generator((8, 8, 3))):
        with pytest.raises(ValueError, match="another generator") as refused:
            tiny.check(wrong)
        assert_one_sentence(refused.value)


def spoilt(path: Path) -> Iterator[bytes]:
    """Files that are no start, one after the other."""
    content, tensors = path.read_bytes(), load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    yield b""
    yield content[: len(content) // 2]
    for about in (
        None,
        {"format": 9},
        {"components": 2**40},
        {"depth": "many"},
        {"image_shape": [3]},
        {"geometry": "cube"},
        {"width": 33},
        {"generator_sha256": 5},
    ):
        merged = {METADATA: json.dumps(json.loads(metadata[METADATA]) | about)} if about else {}
        save_file(tensors, path, metadata=merged)
        yield path.read_bytes()
    for name, value in (("mean", math.nan), ("variances", -1.0)):
        save_file(tensors | {name: torch.full_like(tensors[name], value)}, path, metadata=metadata)
        yield path.read_bytes()


def test_damaged_files_are_refused_in_a_sentence(tiny: Encoder, own: str, home: Path) -> None:
    path = home / "mine.start.safetensors"
    write_start(path, tiny, find_entry(own), {})
    for content in list(spoilt(path)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged") as refused:
            load_start("mine")
        assert_one_sentence(refused.value)


def test_a_start_that_claims_many_layers_is_refused_before_they_are_made(tiny: Encoder, own: str, home: Path) -> None:
    path = home / "mine.start.safetensors"
    write_start(path, tiny, find_entry(own), {})
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()[METADATA]) | {"depth": 10**6}
    save_file(load_file(path), path, metadata={METADATA: json.dumps(about)})
    with pytest.raises(ValueError, match="claims 1000000 layers") as refused:
        load_start("mine")
    assert_one_sentence(refused.value)


# The start that ships


def test_the_bundled_start_is_small_and_says_the_command_that_made_it(home: Path) -> None:
    entry = find_entry("digiface-dcgan")
    path = entry.path.with_name("digiface-dcgan.start.safetensors")
    assert path.stat().st_size < 10_000_000
    _, about = read_start(path)
    options = train_start.make_context("train-start", ["--generator", "digiface-dcgan"]).params
    made = about["provenance"]["settings"]
    assert {name: made[name] for name in ("draws", "steps", "image_steps", "seed")} == {
        name: options[name] for name in ("draws", "steps", "image_steps", "seed")
    }


def test_the_bundled_start_draws_nearly_the_image_that_was_measured(home: Path) -> None:
    generator, encoder = load_generator("digiface-dcgan").fold(), load_start("digiface-dcgan")
    assert encoder is not None
    encoder.check(generator)
    operator = Gaussian(generator.image_shape, 500, seed=11)
    with torch.no_grad():
        images = generator(generator.sample_latents(10, generator=stream(11, "unseen")))
        offsets = operator(images) - operator(encoder.mean_image)
        drawn = generator(encoder.from_measurements(operator(encoder.basis_images), offsets, gain=1.0))
        mean_error = (images - encoder.mean_image).square().mean()
        assert (drawn - images).square().mean() < 0.3 * mean_error


def test_a_bundled_start_with_another_checksum_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cs_lip.priors.starts.sha256_of", lambda path: "0" * 64)
    with pytest.raises(ValueError, match="SHA-256") as refused:
        load_start("digiface-dcgan")
    assert_one_sentence(refused.value)


def test_a_learned_start_goes_with_its_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CS_LIP_HOME", str(tmp_path))
    weights = pretrained_folder() / "mnist-dcgan-28.safetensors"
    add_generator(weights, "mine")
    own_start_path("mine").write_bytes(b"a start")
    remove_generator("mine")
    assert not own_start_path("mine").exists()
