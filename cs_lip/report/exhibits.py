"""The recovered images of a sweep, beside their truths."""

import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cs_lip.evaluation.sweep.folder import SweepFolder
from cs_lip.evaluation.sweep.table import Row
from cs_lip.report.groups import grouped, level_name, method_names, method_of

MOST_IMAGES = 6
MOST_METHODS = 8

Pixels = NDArray[np.uint8]
"""``(height, width)`` or ``(height, width, 3)``."""


@dataclass(frozen=True, eq=False)
class Shot:
    """An image as one method recovered it from ``m`` measurements; the PSNR in dB."""

    method: str
    m: int
    pixels: Pixels
    psnr: float


@dataclass(frozen=True, eq=False)
class Exhibit:
    """An image with all that was recovered of it under one condition; the truth is None where its file is missing."""

    image: str
    kind: str
    truth: Pixels | None
    shots: tuple[Shot, ...]


def load_exhibits(folder: Path, rows: Sequence[Row]) -> tuple[list[Exhibit], str]:
    """Exhibits of a few images of each kind, and a sentence about which of all they are.

    They are of the operator, noise and outliers that most rows have, and of the lowest seed. Images whose files are
    missing or damaged are left out.

    Args:
        folder: of the sweep.
        rows: of its table, at least one.
    """
    condition = Counter((row.operator, row.sigma, row.outliers) for row in rows).most_common(1)[0][0]
    alike = [row for row in rows if (row.operator, row.sigma, row.outliers) == condition]
    seed = min(row.seed for row in alike)
    names = dict(list(method_names(rows).items())[:MOST_METHODS])
    chosen = [row for row in alike if row.seed == seed and method_of(row) in names]
    store = SweepFolder(folder)
    exhibits = []
    for image in _few_of_each_kind(chosen):
        own = [row for row in chosen if row.image == image]
        shots = [
            Shot(names[method_of(row)], row.m, pixels, row.psnr)
            for row in sorted(own, key=lambda row: (list(names).index(method_of(row)), row.m))
            if (pixels := _recovered(store, row)) is not None
        ]
        if shots:
            exhibits.append(Exhibit(image, own[0].kind, _truth(store, image), tuple(shots)))
    operator, sigma, outliers = condition
    return exhibits, f"Operator {operator}, {level_name(sigma, outliers)}, seed {seed}."


def channels_last(image: Pixels) -> Pixels:
    """From ``(1 or 3, height, width)`` to `Pixels`."""
    return image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))


def _few_of_each_kind(rows: Sequence[Row]) -> list[str]:
    kinds = grouped(rows, lambda row: row.kind)
    each = max(1, MOST_IMAGES // max(len(kinds), 1))
    return [image for own in kinds.values() for image in list(dict.fromkeys(row.image for row in own))[:each]]


def _recovered(store: SweepFolder, row: Row) -> Pixels | None:
    try:
        place = [each.image for each in store.read(row.cell).rows].index(row.image)
        with np.load(store.images_file(row.cell), allow_pickle=False) as file:
            return channels_last(file["images"][place])
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile):
        return None


def _truth(store: SweepFolder, image: str) -> Pixels | None:
    try:
        with Image.open(store.truth_file(image)) as picture:
            return np.asarray(picture)
    except (OSError, UnidentifiedImageError):
        return None
