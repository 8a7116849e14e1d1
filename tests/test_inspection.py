"""Inspecting generators: spectra and representation errors against closed forms, and the command."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers import LinearGenerator, assert_one_sentence, tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

import cs_lip.cli.inspect
from cs_lip.cli.main import main
from cs_lip.evaluation.digits import bundled_digits, bundled_samples
from cs_lip.evaluation.images import NamedImage
from cs_lip.evaluation.inspection import (
    Inspection,
    Representation,
    inspect_generator,
    interpolate,
    jacobian_spectrum,
    represent,
)
from cs_lip.priors import Generator
from cs_lip.report.inspection import inspection_figure
from cs_lip.seeding import stream

SHAPE = (3, 8, 8)


@pytest.fixture
def linear() -> LinearGenerator:
    return LinearGenerator(0.1 * torch.randn(192, 6, generator=stream(0, "weight"), dtype=torch.float64), SHAPE)


def test_spectrum_of_a_linear_generator_is_that_of_its_matrix(linear: LinearGenerator) -> None:
    spectrum = jacobian_spectrum(linear, torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(spectrum, torch.linalg.svdvals(linear.weight))


def test_spectrum_of_a_network_is_that_of_its_jacobian() -> None:
    generator = tiny_generator().double()
    latent = generator.sample_latents(1, generator=stream(0, "test"))[0]
    jacobian = torch.autograd.functional.jacobian(lambda z: generator(z).flatten(), latent)
    expected = torch.linalg.svdvals(jacobian)
    torch.testing.assert_close(jacobian_spectrum(generator, latent), expected, rtol=1e-8, atol=1e-10)


def test_representation_error_of_a_linear_generator_is_the_distance_to_its_range(linear: LinearGenerator) -> None:
    pixels = 0.5 + 0.2 * torch.randn(2, *SHAPE, generator=stream(1, "pictures"), dtype=torch.float64)
    pictures = [NamedImage(f"picture-{index}", "file", image) for index, image in enumerate(pixels)]
    found = represent(linear, pictures)
    offsets = (pixels - 0.5).flatten(1).T
    residual = offsets - linear.weight @ torch.linalg.lstsq(linear.weight, offsets).solution
    expected = residual.square().mean(0)
    assert [representation.picture.name for representation in found] == ["picture-0", "picture-1"]
    for representation, error in zip(found, expected.tolist(), strict=True):
        assert representation.mse == pytest.approx(error, rel=1e-5)
        assert representation.psnr_db == pytest.approx(-10 * torch.tensor(error).log10().item(), abs=1e-3)


@given(share=st.floats(0, 1), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_interpolation_keeps_to_the_great_circle(share: float, seed: int) -> None:
    start, end = torch.randn(2, 4, 10, generator=stream(seed, "test"), dtype=torch.float64)
    between = interpolate(start, end, share)
    lengths = (1 - share) * start.norm(dim=1) + share * end.norm(dim=1)
    torch.testing.assert_close(between.norm(dim=1), lengths, rtol=1e-6, atol=0)

    def angle(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return torch.arccos(torch.nn.functional.cosine_similarity(one, other).clamp(-1, 1))

    torch.testing.assert_close(angle(start, between), share * angle(start, end), rtol=0, atol=1e-6)


def test_inspection_has_what_was_asked_for_and_is_drawn() -> None:
    generator = tiny_generator()
    with torch.no_grad():
        drawn = generator(generator.sample_latents(1, generator=stream(3, "test")))[0]
    inspection = inspect_generator(
        generator, [NamedImage("own", "file", drawn)], samples=5, lines=2, points=4, spectra=2
    )
    assert inspection.samples.shape == (5, 3, 16, 16)
    assert inspection.interpolations.shape == (2, 4, 3, 16, 16)
    assert inspection.spectra.shape == (2, 8)
    assert inspection.representations[0].mse < 1e-6
    titles = {axis.get_title() for axis in inspection_figure(inspection, "tiny").axes}
    assert {"samples", "interpolations", "own", "singular values of the Jacobian dG/dz"} <= titles


@pytest.mark.parametrize("number", ["samples", "lines", "points", "spectra"])
def test_nothing_to_draw_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match=f"the {number} must be at least 1, got 0") as caught:
        inspect_generator(tiny_generator(), **{number: 0})
    assert_one_sentence(caught.value)


# The digits that ship


def test_digits_are_whole_and_upright() -> None:
    digits = bundled_digits()
    assert digits.shape == (64, 1, 28, 28)
    assert digits.min() == 0
    assert digits.max() == 1
    # MNIST's digits lie about the middle, so a sheet cut at the wrong places would show here.
    assert digits[..., 2:-2, 2:-2].sum() > 0.99 * digits.sum()
    # The first is a seven: its bar is above its middle.
    assert digits[0, 0, :14].sum() > digits[0, 0, 14:].sum()


def test_samples_suit_the_shape() -> None:
    assert [image.source for image in bundled_samples((1, 28, 28))] == ["digit"] * 8
    assert {image.source for image in bundled_samples((3, 64, 64))} == {"photograph"}


# The command


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_file(tiny_generator().state_dict(), path)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "me.png"
    Image.new("RGB", (20, 20), (200, 100, 50)).save(path)
    return path


def test_inspect_writes_its_picture_and_says_the_numbers(weights: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "look" / "tiny.png"
    command = ["generators", "inspect", str(weights), "--image", str(picture), "--restarts", "2", "--out", str(out)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert "me.png: drawn at" in result.output
    with Image.open(out) as image:
        assert image.width > 1000
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 2
    assert "--overwrite" in again.output
    numbers = CliRunner().invoke(main, [*command, "--overwrite", "--json"])
    assert numbers.exit_code == 0
    table = json.loads(numbers.stdout)
    assert table["representations"][0]["psnr_db"] > 5
    assert 0 <= table["singular_values"][0] <= table["singular_values"][1]


@pytest.mark.parametrize(
    ("error", "level", "told"),
    [(0.0, math.inf, "drawn exactly"), (math.nan, math.nan, "not drawn, since the search diverged")],
)
def test_a_search_that_diverged_is_not_told_as_exact(
    error: float,
    level: float,
    told: str,
    weights: Path,
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def inspected(generator: Generator, pictures: Sequence[NamedImage], **asked: object) -> Inspection:
        (asked_for,) = pictures
        found = Representation(asked_for, torch.full_like(asked_for.pixels, error), error, level)
        return Inspection(torch.rand(1, *SHAPE), torch.rand(1, 1, *SHAPE), torch.ones(1, 8), (found,))

    monkeypatch.setattr(cs_lip.cli.inspect, "inspect_generator", inspected)
    command = ["generators", "inspect", str(weights), "--image", str(picture), "--out", str(tmp_path / "look.png")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert f"me.png: {told}" in result.output
    (row,) = json.loads(CliRunner().invoke(main, [*command, "--overwrite", "--json"]).stdout)["representations"]
    assert row == {"name": "me.png", "mse": 0.0 if error == 0 else None, "psnr_db": None}


def test_names_are_no_formulas(weights: Path, picture: Path, tmp_path: Path) -> None:
    odd = [path.rename(tmp_path / f"$\\frac$ {path.name}") for path in (weights, picture)]
    command = ["generators", "inspect", str(odd[0]), "--image", str(odd[1]), "--restarts", "1"]
    result = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "look.png")])
    assert result.exit_code == 0, result.output


def test_weights_that_overflow_are_refused(weights: Path, tmp_path: Path) -> None:
    save_file({name: 1e30 * value for name, value in tiny_generator().state_dict().items()}, weights)
    out = tmp_path / "look.png"
    result = CliRunner().invoke(main, ["generators", "inspect", str(weights), "--out", str(out)])
    assert result.exit_code == 2, result.output
    assert "not finite" in result.output
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["no-such-generator"], "there is no generator 'no-such-generator'"),
        (["WEIGHTS", "--restarts", "0"], "--restarts must be at least 1"),
        (["WEIGHTS", "--restarts", "1000000000000000"], "more memory than is free"),
        (["WEIGHTS", "--image", "nowhere.png"], "there is no picture nowhere.png"),
        (["WEIGHTS", "--device", "abacus"], "the device 'abacus' is not available"),
    ],
)
def test_bad_inspections_are_refused(arguments: list[str], expected: str, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "look.png"
    given = [str(weights) if argument == "WEIGHTS" else argument for argument in arguments]
    result = CliRunner().invoke(main, ["generators", "inspect", *given, "--out", str(out)])
    assert result.exit_code == 2, result.output
    assert expected in result.output
    assert not out.exists()
