"""Pictures as float tensors of the shape that a generator draws."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

Source = Literal["in-range", "photograph", "micrograph", "scan", "digit", "file"]

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "PPM")
"""What `read_image` reads. Pillow's other readers stay out: some start a program of their own (EPS)."""

MAX_PIXELS = 178_956_970
"""The largest picture that is read, in pixels: the point from where Pillow refuses a file as a decompression bomb."""

STRIP_PIXELS = 2**20
"""Pixels that are held as floats at a time, so that a huge picture costs little more than its decoded bytes."""

OVERSAMPLING = 4
"""A picture is averaged over whole blocks of pixels down to at least this many times the target, then resampled."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma of ITU-R BT.601-2."""


@dataclass(frozen=True, eq=False)
class NamedImage:
    """An image with a name and where it came from.

    Attributes:
        name: a short name, for tables and figures.
        source: ``"in-range"`` (an unseen draw of the generator), ``"file"`` (the user's), or the kind of a bundled
            picture (`cs_lip.evaluation.pictures`).
        pixels: ``(channels, height, width)``, float32 in [0, 1].
    """

    name: str
    source: Source
    pixels: Tensor


def read_image(path: Path, image_shape: tuple[int, int, int]) -> Tensor:
    """A picture from a file, upright, cropped about its centre to the aspect ratio wanted and resampled to the shape.

    What the file holds is converted: 16-bit grayscale is divided by 65535 and everything else by 255, a floating-point
    TIFF must lie in [0, 1] already; palettes and CMYK become RGB (colour profiles are not applied); transparent pixels
    are laid over white; gray repeats as RGB, or RGB becomes its luma (ITU-R BT.601-2) where one channel is wanted; the
    EXIF orientation is applied; of several frames or pages the first is read. Shrinking averages over the area that a
    new pixel covers (a triangle filter); enlarging is bilinear.

    Args:
        path: a PNG, JPEG, TIFF, WebP, BMP, GIF, JPEG 2000 or PNM file of at most `MAX_PIXELS` pixels.
        image_shape: ``(channels, height, width)`` with 1 or 3 channels.

    Returns:
        ``(channels, height, width)``, float32 in [0, 1].

    Raises:
        ValueError: ``image_shape`` is not such a shape, or the file is missing, a folder, not such a picture, damaged
            or too large.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a picture; try the name of a PNG or JPEG file in it")
    if not path.is_file():
        raise ValueError(f"there is no picture {path}; try the path of a PNG or JPEG file")
    # Pillow warns of large pictures, which are wanted here, and of small faults in a file, which it can do without.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(path, formats=FORMATS)
        except Image.DecompressionBombError:
            raise _too_large(path) from None
        except Exception as error:
            raise _unreadable(path, error) from None
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(path)
            return _read(image, path, image_shape)


def _read(image: Image.Image, path: Path, image_shape: tuple[int, int, int]) -> Tensor:
    channels, height, width = image_shape
    if image.width * image.height > STRIP_PIXELS:
        # A JPEG can be decoded at a half, a quarter or an eighth; the longer side makes room for any orientation.
        side = 2 * OVERSAMPLING * max(height, width)
        image.draft(None, (side, side))
    try:
        image.load()
        # Read after the pixels: some formats turn themselves while they load, and then say so.
        turn, turned_shape = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1), (_upright, False))
    except Exception as error:
        raise _unreadable(path, error) from None
    try:
        return turn(to_tensor(image, (channels, width, height) if turned_shape else image_shape)).contiguous()
    except _PixelError as error:
        raise ValueError(f"{path}: {error}") from None


def _too_large(path: Path) -> ValueError:
    return ValueError(
        f"{path} has more than {MAX_PIXELS // 10**6} megapixels, the most that is read; try to shrink it first"
    )


def _unreadable(path: Path, error: Exception) -> ValueError:
    """What to say of a file that Pillow could not read. Its decoders raise nearly anything on damaged bytes."""
    if isinstance(error, UnidentifiedImageError):
        return ValueError(f"{path} is not a picture in a format that is read; try PNG, JPEG, TIFF, WebP, BMP or GIF")
    if isinstance(error, MemoryError):
        return ValueError(f"{path} is too large a picture for the memory that is free; try to shrink it first")
    if isinstance(error, OSError) and error.strerror is not None:
        return ValueError(f"{path} could not be read ({error.strerror}); try a file that you may read")
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return ValueError(f"{path} is not a whole picture ({reason}); try to fetch or to save it again")


class _PixelError(ValueError):
    """The pixels of a picture have no agreed place in [0, 1]."""


def to_tensor(image: Image.Image, image_shape: tuple[int, int, int]) -> Tensor:
    """A picture, cropped about its centre to the aspect ratio wanted and resampled, as `read_image` describes it.

    Args:
        image: of any mode; where it holds floats they are in [0, 1].
        image_shape: ``(channels, height, width)`` with 1 or 3 channels.

    Returns:
        ``(channels, height, width)``, float32 in [0, 1].

    Raises:
        ValueError: ``image_shape`` is not such a shape, or the pixels have no agreed place in [0, 1].
    """
    channels, height, width = image_shape
    if channels not in (1, 3) or height < 1 or width < 1:
        raise ValueError(
            f"a picture can become an image of shape (1, height, width) or (3, height, width), got {image_shape}; "
            "try a generator that draws gray or RGB images"
        )
    factor, box = _blocks_and_box(image.size, (width, height))
    averaged = torch.cat([functional.avg_pool2d(strip, factor) for strip in _strips(image, box, factor)], dim=-2)
    if channels == 1:
        averaged = (averaged * torch.tensor(LUMA)[:, None, None]).sum(dim=0, keepdim=True)
    resampled = functional.interpolate(averaged[None], (height, width), mode="bilinear", antialias=True)
    return resampled[0].clamp(0, 1)


def _blocks_and_box(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, tuple[int, int, int, int]]:
    """The side of the blocks to average, and the centred box of the target's aspect ratio: a whole number of them."""
    scale = min(size[0] / target[0], size[1] / target[1])
    factor = max(1, int(scale / OVERSAMPLING))
    sides = [
        max(1, min(full, round(scale * wanted))) // factor * factor for full, wanted in zip(size, target, strict=True)
    ]
    left, upper = ((full - side) // 2 for full, side in zip(size, sides, strict=True))
    return factor, (left, upper, left + sides[0], upper + sides[1])


def _strips(image: Image.Image, box: tuple[int, int, int, int], factor: int) -> Iterator[Tensor]:
    """The box from top to bottom as RGB strips ``(3, rows, width)``, rows a multiple of ``factor``."""
    left, upper, right, lower = box
    rows = max(1, STRIP_PIXELS // ((right - left) * factor)) * factor
    for top in range(upper, lower, rows):
        strip = _rgb(image.crop((left, top, right, min(top + rows, lower))))
        yield torch.from_numpy(np.ascontiguousarray(strip.transpose(2, 0, 1)))


def _rgb(image: Image.Image) -> NDArray[np.float32]:
    """The pixels ``(height, width, 3)`` in [0, 1], laid over white."""
    if image.mode.startswith(("I", "F")):
        return np.repeat(_deep_gray(image)[:, :, None], 3, axis=2)
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    colour, alpha = pixels[:, :, :3], pixels[:, :, 3:]
    return colour * alpha + (1 - alpha) if alpha.size else colour


def _deep_gray(image: Image.Image) -> NDArray[np.float32]:
    """Gray of more than 8 bits ``(height, width)`` in [0, 1]: 16-bit integers, or floats that lie there already."""
    white = 1 if image.mode == "F" else 65535
    pixels = np.asarray(image, dtype=np.float32) / np.float32(white)
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise _PixelError(
            f"its values run from {pixels.min() * white:g} to {pixels.max() * white:g}, expected 0 to {white}; "
            "try to save it with 8 or 16 bits a channel"
        )
    return pixels


def _upright(pixels: Tensor) -> Tensor:
    return pixels


_TURNS: dict[int, tuple[Callable[[Tensor], Tensor], bool]] = {
    2: (lambda pixels: pixels.flip(-1), False),
    3: (lambda pixels: pixels.flip(-1, -2), False),
    4: (lambda pixels: pixels.flip(-2), False),
    5: (lambda pixels: pixels.mT, True),
    6: (lambda pixels: pixels.rot90(-1, (-2, -1)), True),
    7: (lambda pixels: pixels.mT.flip(-1, -2), True),
    8: (lambda pixels: pixels.rot90(1, (-2, -1)), True),
}
"""EXIF orientation -> how to turn the pixels upright, and whether height and width change places."""
