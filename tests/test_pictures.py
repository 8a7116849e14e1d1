"""Bundled pictures: what they say they are, of any shape, and from nowhere but this machine."""

import re
import socket
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import skimage.data
import torch
from click.testing import CliRunner
from helpers import assert_one_sentence
from PIL import Image
from sklearn.datasets import load_sample_image

from cs_lip.cli.main import main
from cs_lip.evaluation.pictures import CT_WINDOW, PICTURES, bundled_photographs, picture
from cs_lip.evaluation.store import load_measurements

SCIKIT_IMAGE = {
    "camera": skimage.data.camera,
    "coffee": skimage.data.coffee,
    "clock": skimage.data.clock,
    "rocket": skimage.data.rocket,
    "coins": skimage.data.coins,
    "brick": skimage.data.brick,
    "grass": skimage.data.grass,
    "gravel": skimage.data.gravel,
    "hubble": skimage.data.hubble_deep_field,
    "retina": skimage.data.retina,
    "vessels": skimage.data.microaneurysms,
    "cell": skimage.data.cell,
    "tissue": skimage.data.immunohistochemistry,
}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a picture was looked for on a network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("shape", [(1, 32, 48), (3, 64, 64)])
def test_every_picture_takes_any_shape(name: str, shape: tuple[int, int, int]) -> None:
    image = picture(name, shape)
    assert (image.name, image.source) == (name, PICTURES[name].kind)
    assert image.pixels.shape == shape
    assert image.pixels.dtype == torch.float32
    assert 0 <= image.pixels.min() <= image.pixels.max() <= 1
    assert image.pixels.std() > 0.03, "one gray"


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_says_whose_it_is(name: str) -> None:
    entry = PICTURES[name]
    for text in (entry.shows, entry.licence, entry.author, entry.source):
        assert text.strip()


def test_the_page_lists_the_pictures_and_its_example_runs() -> None:
    page = (Path(__file__).parents[1] / "docs" / "pictures.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE)
    assert rows == [
        (name, " | ".join((p.kind, p.shows, p.licence, p.author, p.source, p.package))) for name, p in PICTURES.items()
    ]
    names: dict[str, Any] = {}
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(example, names)
    assert names["image"].pixels.shape == (1, 64, 64)


@pytest.mark.parametrize("name", SCIKIT_IMAGE)
def test_scikit_images_own_loader_gives_the_same_pixels(name: str) -> None:
    assert np.array_equal(np.asarray(PICTURES[name].load()), SCIKIT_IMAGE[name]())


def test_scikit_learns_own_loader_gives_the_same_pixels() -> None:
    for name in ("china", "flower"):
        assert np.array_equal(np.asarray(PICTURES[name].load()), load_sample_image(f"{name}.jpg"))


def test_the_scans_are_scaled_by_their_windows() -> None:
    stored = pydicom.dcmread(resources.files("pydicom") / "data/test_files/CT_small.dcm")
    units = pydicom.pixels.apply_rescale(stored.pixel_array, stored)
    ct = np.asarray(PICTURES["ct"].load())
    low, high = CT_WINDOW
    assert ct.shape == (128, 128)
    assert np.allclose(ct * (high - low) + low, units.clip(low, high), atol=1e-3)
    assert (units > high).mean() < 1e-3, "the window cuts more than single voxels of bone off"
    mri = np.asarray(PICTURES["mri"].load())
    assert mri.shape == (256, 256)
    assert (mri.min(), mri.max()) == (0, 1)
    assert np.allclose(mri * 215, np.round(mri * 215), atol=1e-4)
    assert len(np.unique(mri)) > 200, "in the other order of bytes all tissue would lie beyond the window"


def test_the_default_photographs_are_faces() -> None:
    photographs = bundled_photographs((3, 64, 64))
    assert [photograph.name for photograph in photographs] == ["astronaut", "chelsea"]
    for photograph in photographs:
        assert photograph.source == "photograph"
        assert 0 <= photograph.pixels.min() < 0.2
        assert 0.8 < photograph.pixels.max() <= 1
    # The face: skin (more red than blue) in the middle, the gray backdrop in the upper corners.
    astronaut = photographs[0].pixels
    middle, corner = astronaut[:, 30:45, 25:38].mean((1, 2)), astronaut[:, :6, :6].mean((1, 2))
    assert middle[0] - middle[2] > 0.15
    assert (corner - corner.mean()).abs().max() < 0.06


@pytest.mark.parametrize("name", ["", "Camera", "no-such-picture", "x" * 5000])
def test_an_unknown_name_is_answered_with_the_list(name: str) -> None:
    with pytest.raises(ValueError, match=r"no bundled picture .*try .*camera.*mri") as caught:
        picture(name, (3, 8, 8))
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("shape", [(2, 8, 8), (3, 0, 8)])
def test_an_impossible_shape_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="try a generator") as caught:
        picture("camera", shape)
    assert_one_sentence(caught.value)


@pytest.mark.parametrize(("name", "package"), [("china", "sklearn"), ("ct", "pydicom"), ("camera", "skimage.data")])
def test_a_missing_package_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ValueError, match=f"{name!r} lies in {PICTURES[name].package}, which is not installed"
    ) as caught:
        picture(name, (3, 8, 8))
    assert_one_sentence(caught.value)


def test_the_commands_take_a_picture_s_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ask = ["measure", "-m", "20", "--image", "camera", "--image", "mri", "--overwrite"]
    result = CliRunner().invoke(main, ask)
    assert result.exit_code == 0, result.output
    stored = load_measurements(Path("y.h5"))
    assert (stored.names, stored.sources) == (("camera", "mri"), ("photograph", "scan"))
    result = CliRunner().invoke(main, [*ask, "--image", "mri2"])
    assert result.exit_code == 2
    assert "no bundled picture 'mri2'" in result.output
    Image.new("RGB", (64, 64)).save("camera", "PNG")
    assert CliRunner().invoke(main, ask).exit_code == 0
    assert load_measurements(Path("y.h5")).sources == ("file", "scan"), "a file of that name comes first"
