"""What ships: the catalogue tells the truth about its files, and a wheel carries them to where the package looks."""

import hashlib
import shlex
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open

from cs_lip.cli.train import train
from cs_lip.priors import load_generator
from cs_lip.priors.reading.weights import read_blueprint
from cs_lip.training import dcgan_settings

ROOT = Path(__file__).resolve().parents[1]
PRETRAINED = ROOT / "pretrained"
CATALOGUE = tomllib.loads((PRETRAINED / "catalogue.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_matches_its_files(name: str) -> None:
    entry = CATALOGUE[name]
    content = (PRETRAINED / entry["file"]).read_bytes()
    assert len(content) == entry["bytes"]
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    licence = (PRETRAINED / entry["licence_file"]).read_text(encoding="utf-8")
    assert entry["licence"] == "MIT"
    assert "Permission is hereby granted" in licence
    assert entry["training_data"]
    assert entry["training_data_terms"]
    generator = load_generator(name)
    assert generator.latent_shape == tuple(entry["latent_shape"])
    assert generator.image_shape == tuple(entry["image_shape"])


def test_the_converted_generator_says_where_it_came_from_and_that_its_data_have_terms_too() -> None:
    entry = CATALOGUE["digiface-dcgan"]
    assert (PRETRAINED / entry["converted_by"]).is_file()
    for word in ("MIT", "non-commercial research"):
        assert word in entry["training_data_terms"]
    with safe_open(PRETRAINED / entry["file"], framework="pt") as weights:
        metadata = weights.metadata()
    assert metadata["architecture"] == entry["architecture"]
    assert entry["source_sha256"] in metadata["source"]


def test_the_trained_generator_is_small_and_says_the_command_that_made_it() -> None:
    entry = CATALOGUE["mnist-dcgan-28"]
    assert entry["bytes"] < 4_000_000
    given = shlex.split(entry["made_by"])
    assert given[:2] == ["cs-lip", "train"]
    options = train.make_context("train", given[2:]).params
    settings = dcgan_settings(
        int(options["size"]), 1, latents=options["latents"], width=options["width"], steps=options["steps"]
    )
    blueprint = read_blueprint(PRETRAINED / entry["file"])
    assert blueprint.settings == {"widths": list(settings.widths), "first": settings.first}
    assert options["seed"] == 0
    with Image.open(PRETRAINED / entry["samples"]) as sheet:
        assert sheet.width > 8 * 28


def test_every_weight_file_is_in_the_catalogue() -> None:
    named = [entry[key] for entry in CATALOGUE.values() for key in ("file", "start_file") if key in entry]
    assert {path.name for path in PRETRAINED.glob("*.safetensors")} == set(named)


def test_the_learned_start_of_the_faces_is_small_and_as_the_catalogue_says() -> None:
    entry = CATALOGUE["digiface-dcgan"]
    held = (PRETRAINED / entry["start_file"]).read_bytes()
    assert hashlib.sha256(held).hexdigest() == entry["start_sha256"]
    assert len(held) == entry["start_bytes"] < 10_000_000
    assert shlex.split(entry["start_made_by"])[:4] == ["cs-lip", "train-start", "--generator", "digiface-dcgan"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built by the backend itself: no network, no build environment."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_the_weights_and_their_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for entry in CATALOGUE.values():
            weights = archive.read(f"cs_lip/_pretrained/{entry['file']}")
            assert hashlib.sha256(weights).hexdigest() == entry["sha256"]
            assert f"cs_lip/_pretrained/{entry['licence_file']}" in names
            assert "start_file" not in entry or f"cs_lip/_pretrained/{entry['start_file']}" in names
    assert {"cs_lip/__init__.py", "cs_lip/py.typed", "cs_lip/_pretrained/catalogue.toml"} <= names
    top = {name.split("/")[0] for name in names}
    assert top == {"cs_lip", f"cs_lip-{version('cs-lip')}.dist-info"}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cs_lip").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules


def test_an_unpacked_wheel_finds_its_generator(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from cs_lip.priors import DEFAULT_GENERATOR, bundled_generators, load_generator\n"
        "load_generator(DEFAULT_GENERATOR)\n"
        "print(bundled_generators()[DEFAULT_GENERATOR].path)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert Path(found.stdout.strip()).is_relative_to(tmp_path / "cs_lip" / "_pretrained")


def test_the_citation_states_the_same_version() -> None:
    assert f"version: {version('cs-lip')}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
