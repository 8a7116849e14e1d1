"""What ships: the catalogue tells the truth about its files, and a wheel carries them to where the package looks."""

import hashlib
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[1]
PRETRAINED = ROOT / "pretrained"
CATALOGUE = tomllib.loads((PRETRAINED / "catalogue.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_matches_its_files(name: str) -> None:
    entry = CATALOGUE[name]
    content = (PRETRAINED / entry["file"]).read_bytes()
    assert len(content) == entry["bytes"]
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    assert (PRETRAINED / entry["converted_by"]).is_file()
    licence = (PRETRAINED / entry["licence_file"]).read_text(encoding="utf-8")
    assert "Permission is hereby granted" in licence
    for word in ("MIT", "non-commercial research"):
        assert word in entry["training_data_terms"]
    with safe_open(PRETRAINED / entry["file"], framework="pt") as weights:
        metadata = weights.metadata()
    assert metadata["architecture"] == entry["architecture"]
    assert entry["source_sha256"] in metadata["source"]


def test_every_weight_file_is_in_the_catalogue() -> None:
    assert {path.name for path in PRETRAINED.glob("*.safetensors")} == {entry["file"] for entry in CATALOGUE.values()}


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
