"""Real pictures that lie inside packages that are installed, so that nothing is downloaded, and their licences."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from cs_lip.evaluation.images import NamedImage, to_tensor

Kind = Literal["photograph", "micrograph", "scan"]

Box = tuple[int, int, int, int]

ASTRONAUT_FACE = (142, 20, 312, 190)
CHELSEA_FACE = (75, 0, 375, 300)
"""Left, upper, right and lower edge of the faces in ``astronaut.png`` (512x512) and ``chelsea.png`` (451x300)."""

CT_WINDOW = (-1000, 1000)
"""What becomes black and white, in Hounsfield units: from air to dense bone; a few voxels of bone are clipped."""

MRI_WINDOW = (0, 215)
"""What becomes black and white in the MRI slice: all of its values, which have no unit."""


@dataclass(frozen=True)
class Picture:
    """A bundled picture.

    Attributes:
        kind: ``photograph``, ``micrograph``, or ``scan`` (CT or MRI).
        shows: what is on it.
        licence: as the package that it lies in states it.
        author: who took it, as stated there.
        source: where that package has it from.
        package: the package that it lies in, as pip knows it.
        load: reads it, in 8 bits a channel or as floats in [0, 1].
    """

    kind: Kind
    shows: str
    licence: str
    author: str
    source: str
    package: str
    load: Callable[[], Image.Image]


def picture(name: str, image_shape: tuple[int, int, int]) -> NamedImage:
    """A bundled picture, brought to a shape as `cs_lip.evaluation.images.to_tensor` does.

    Args:
        name: one of `PICTURES`.
        image_shape: ``(channels, height, width)`` with 1 or 3 channels.

    Returns:
        The image with its name, and its kind as the source.

    Raises:
        ValueError: no such picture, its package is not installed, or ``image_shape`` is not such a shape.
    """
    entry = PICTURES.get(name)
    if entry is None:
        raise ValueError(
            f"there is no bundled picture {name[:60]!r}; try the path of a PNG or JPEG file, "
            f"or one of {', '.join(PICTURES)}"
        )
    try:
        image = entry.load()
    except (ModuleNotFoundError, FileNotFoundError):
        raise ValueError(
            f"the picture {name!r} lies in {entry.package}, which is not installed or lacks it; "
            "try pip install 'cs-lip[pictures]'"
        ) from None
    return NamedImage(name, entry.kind, to_tensor(image, image_shape))


def bundled_photographs(image_shape: tuple[int, int, int]) -> list[NamedImage]:
    """The two photographs that every run measures by default: a human face and a cat's.

    ``astronaut`` is cropped to the face as sets of aligned faces are. ``chelsea`` is a picture that a generator of
    human faces cannot draw, and an honest example of what a prior does outside of its range.

    Args:
        image_shape: as in `picture`.

    Raises:
        ValueError: ``image_shape`` is not ``(1 or 3, height, width)`` with positive sides.
    """
    return [picture(name, image_shape) for name in ("astronaut", "chelsea")]


def _file(package: str, path: str, box: Box | None = None) -> Image.Image:
    """A picture file inside a package. The packages' own loaders would download what is missing."""
    with resources.files(package).joinpath(path).open("rb") as file:
        return Image.open(file).crop(box)


def _ct() -> Image.Image:
    """The CT slice that pydicom tests with."""
    from pydicom import dcmread
    from pydicom.data import get_testdata_file

    path = get_testdata_file("CT_small.dcm", download=False)
    if not isinstance(path, str):
        raise FileNotFoundError
    slices = dcmread(path)
    # What is stored becomes Hounsfield units by a line (DICOM PS3.3, C.11.1).
    units = float(slices.RescaleSlope) * slices.pixel_array + float(slices.RescaleIntercept)
    return _windowed(units, CT_WINDOW)


def _mri() -> Image.Image:
    """The MRI slice of Matplotlib's examples: 256x256 big-endian 16-bit numbers without a header."""
    from matplotlib import cbook

    with gzip.open(cbook.get_sample_data("s1045.ima.gz", asfileobj=False)) as file:
        return _windowed(np.frombuffer(file.read(), dtype=">u2").reshape(256, 256), MRI_WINDOW)


def _windowed(values: ArrayLike, window: tuple[float, float]) -> Image.Image:
    """The window mapped to [0, 1], and what lies beyond it clipped."""
    low, high = window
    return Image.fromarray(np.clip((np.asarray(values, dtype=np.float32) - low) / (high - low), 0, 1))


def _scikit_image(
    shows: str, licence: str, author: str, source: str, file: str, *, kind: Kind = "photograph", box: Box | None = None
) -> Picture:
    return Picture(kind, shows, licence, author, source, "scikit-image", partial(_file, "skimage.data", file, box))


def _scikit_learn(shows: str, author: str, source: str, file: str) -> Picture:
    load = partial(_file, "sklearn", f"datasets/images/{file}")
    return Picture("photograph", shows, "CC BY 2.0", author, source, "scikit-learn", load)


PICTURES: dict[str, Picture] = {
    "astronaut": _scikit_image(
        "Eileen Collins, her face", "public domain", "NASA", "flic.kr/p/r9qvLn", "astronaut.png", box=ASTRONAUT_FACE
    ),
    "chelsea": _scikit_image(
        "a cat's face", "CC0", "Stefan van der Walt", "its photographer", "chelsea.png", box=CHELSEA_FACE
    ),
    "camera": _scikit_image("a photographer", "CC0", "Lav Varshney", "its photographer", "camera.png"),
    "coffee": _scikit_image("a cup on a table", "CC0", "Rachel Michetti", "Pikolo Espresso Bar", "coffee.png"),
    "clock": _scikit_image(
        "a wall clock, blurred by motion",
        "public domain",
        "Stefan van der Walt",
        "its photographer",
        "clock_motion.png",
    ),
    "rocket": _scikit_image(
        "a rocket on its pad", "public domain", "SpaceX", "flickr.com/photos/spacexphotos/16511594820", "rocket.jpg"
    ),
    "coins": _scikit_image(
        "Greek coins from Pompeii", "no known restrictions", "Brooklyn Museum", "its archives, image 51611", "coins.png"
    ),
    "brick": _scikit_image("a brick wall", "CC0", "CC0Textures", "cc0textures.com, Bricks25", "brick.png"),
    "grass": _scikit_image(
        "grass", "CC0", "linolafett", "deviantart.com/linolafett/art/Grass-01-434853879", "grass.png"
    ),
    "gravel": _scikit_image("gravel", "CC0", "CC0Textures", "cc0textures.com, Gravel04", "gravel.png"),
    "hubble": _scikit_image(
        "galaxies of the eXtreme Deep Field",
        "public domain",
        "NASA",
        "hubblesite.org, release 2012-37",
        "hubble_deep_field.jpg",
    ),
    "retina": _scikit_image(
        "the back of a human eye",
        "CC0",
        "Mikael Häggström",
        "Wikimedia Commons, Fundus_photograph_of_normal_left_eye",
        "retina.jpg",
    ),
    "vessels": _scikit_image(
        "vessels of a retina with lesions",
        "CC0",
        "Budai et al. 2013",
        "HRF database, 07_dr, green channel",
        "microaneurysms.png",
    ),
    "cell": _scikit_image(
        "the phase of a cell in saline",
        "CC0",
        "Müller et al. 2018",
        "doi.org/10.1364/OE.26.010729",
        "cell.png",
        kind="micrograph",
    ),
    "tissue": _scikit_image(
        "colonic glands, stained",
        "no known restrictions",
        "Center for Microscopy and Molecular Imaging",
        "the Center",
        "ihc.png",
        kind="micrograph",
    ),
    "china": _scikit_learn("a temple", "danielbuechele", "flickr.com/photos/danielbuechele/6061409035", "china.jpg"),
    "flower": _scikit_learn("a dahlia", "vultilion", "flickr.com/photos/vultilion/6056698931", "flower.jpg"),
    "ct": Picture(
        "scan",
        "CT of a spine, 128x128",
        "no known restrictions",
        "not stated",
        "medical.nema.org, DataSets/WG04, CT1_UNC, reduced by pydicom",
        "pydicom",
        _ct,
    ),
    "mri": Picture(
        "scan", "MRI of a head, 256x256", "as Matplotlib", "not stated", "Matplotlib's examples", "matplotlib", _mri
    ),
}
"""Name -> picture; docs/pictures.md lists and shows them."""
