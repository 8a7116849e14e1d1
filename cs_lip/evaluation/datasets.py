"""Pictures to train on: folders of them, and MNIST's files."""

import gzip
import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cs_lip.evaluation.images import read_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".ppm", ".pgm")
MNIST_IMAGES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
CLASSES = 10
IDX_MAGIC = 0x803
"""Of an IDX file of unsigned bytes in three dimensions."""

MOST_BYTES = 2**33
"""Of pictures held in memory as bytes."""


def read_dataset(source: str, size: int, progress: Callable[[int, int], None] | None = None) -> Tensor:
    """The pictures of ``mnist:FOLDER``, or of a folder with subfolders, as ``(pictures, channels, size, size)`` uint8.

    Args:
        source: ``mnist:FOLDER`` reads the training images of MNIST or Fashion-MNIST in their IDX format, plain or
            compressed by gzip, one channel; larger sizes than 28 get a black border. ``fashion-mnist:FOLDER`` reads the
            files of the npm package of that name (`read_fashion_mnist`). Any other text is a folder, whose pictures
            become RGB, cropped about their centre and resampled as `read_image` does, in the order of their names.
        progress: called with how many pictures are read and how many there are.

    Raises:
        ValueError: nothing is there, a file is damaged, or the pictures need more memory than `MOST_BYTES`.
    """
    kind, colon, place = source.partition(":")
    if colon and kind == "mnist":
        return _bordered(read_mnist(Path(place), "train"), size)
    if colon and kind == "fashion-mnist":
        return _bordered(read_fashion_mnist(Path(place)), size)
    return _read_folder(Path(source), size, progress)


def read_mnist(folder: Path, part: str) -> Tensor:
    """The images of MNIST's ``train`` or ``test`` part, ``(images, 1, height, width)`` uint8, ink bright.

    The IDX format: a magic number, the number of images, rows and columns, big-endian 32-bit integers, then the pixels
    row by row (LeCun, Cortes & Burges, The MNIST database of handwritten digits).

    Raises:
        ValueError: no such file in the folder, it is damaged, or it holds more than `MOST_BYTES`.
    """
    name = MNIST_IMAGES[part]
    path = next((found for found in (folder / name, folder / f"{name}.gz") if found.is_file()), None)
    if path is None:
        raise ValueError(f"there is no {name} or {name}.gz in {folder}; try the folder that holds MNIST's IDX files")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = np.frombuffer(file.read(16).ljust(16, b"\0"), ">u4")
            magic, count, height, width = (int(value) for value in header)
            claimed = count * height * width if magic == IDX_MAGIC else 0
            _check_memory(claimed)
            pixels = file.read(claimed + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} could not be read ({error}); try to fetch it again") from None
    if not len(pixels) == claimed > 0:
        raise ValueError(
            f"{path} is not a whole IDX file of images (it says {count} images of {height}x{width}); "
            "try to fetch it again"
        )
    return torch.from_numpy(np.frombuffer(pixels, np.uint8).copy()).reshape(count, 1, height, width)


def read_fashion_mnist(folder: Path) -> Tensor:
    """The 70,000 images in the npm package ``fashion-mnist`` 1.1.0, ``(images, 1, 28, 28)`` uint8, by class.

    Its folder ``src/clothes`` has a file ``0.json`` ... ``9.json`` for each class, ``{"data": [[784 numbers], ...]}``;
    that of class 0 has two empty rows, which are left out.

    Raises:
        ValueError: a file is missing or damaged.
    """
    return torch.cat([_class_of_clothes(folder / f"{number}.json") for number in range(CLASSES)])


def _class_of_clothes(path: Path) -> Tensor:
    if not path.is_file():
        raise ValueError(f"there is no {path.name} in {path.parent}; try the folder src/clothes of the package")
    try:
        rows = [row for row in json.loads(path.read_bytes())["data"] if row]
        values = np.array(rows, dtype=np.int64).reshape(-1, 1, 28, 28)
        if values.min() < 0 or values.max() > 255 or any(len(row) != 28 * 28 for row in rows):
            raise ValueError("rows that are no images")
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        reason = str(error).partition("\n")[0][:80]
        raise ValueError(f"{path} is not a whole file of images ({reason}); try to fetch it again") from None
    return torch.from_numpy(values.astype(np.uint8))


def _bordered(images: Tensor, size: int) -> Tensor:
    """A black border around images of another size; those that are larger are refused."""
    height, width = images.shape[-2:]
    if max(height, width) > size:
        raise ValueError(f"the images are {height}x{width}, larger than --size {size}; try --size {max(height, width)}")
    _check_memory(len(images) * size**2)
    top, left = (size - height) // 2, (size - width) // 2
    return functional.pad(images, (left, size - width - left, top, size - height - top))


def _read_folder(folder: Path, size: int, progress: Callable[[int, int], None] | None) -> Tensor:
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; try --data FOLDER, or --data mnist:FOLDER for MNIST's files")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise ValueError(f"no pictures are in {folder}; try a folder with PNG or JPEG files in it")
    shape = (3, size, size)
    _check_memory(len(paths) * math.prod(shape))
    pictures = torch.empty(len(paths), *shape, dtype=torch.uint8)
    for index, path in enumerate(paths):
        pictures[index] = (read_image(path, shape) * 255).round().to(torch.uint8)
        if progress is not None:
            progress(index + 1, len(paths))
    return pictures


def _check_memory(wanted: int) -> None:
    if wanted > MOST_BYTES:
        raise ValueError(
            f"the pictures need {wanted / 2**30:.1f} GiB of memory, more than {MOST_BYTES / 2**30:.0f}; "
            "try fewer of them, or a smaller --size"
        )
