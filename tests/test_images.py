"""Reading pictures: every kind becomes the same upright image in [0, 1], and what is no picture is refused by name."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from cs_lip.evaluation.images import LUMA, MAX_PIXELS, STRIP_PIXELS, read_image, to_tensor

SHAPE = (3, 16, 24)
PIXELS = np.array(Image.fromarray(skimage.data.astronaut()).resize((48, 32)))
COLOUR = Image.fromarray(PIXELS)
DEEP = (np.asarray(COLOUR.convert("L")).astype(np.uint16) << 8) + 77


def write(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def refused(path: Path, message: str, shape: tuple[int, int, int] = SHAPE) -> None:
    """The file is refused in one sentence, which names it and says what to try."""
    with pytest.raises(ValueError, match=message) as caught:
        read_image(path, shape)
    text = str(caught.value)
    assert str(path) in text
    assert "; try " in text
    assert "\n" not in text


def test_a_picture_of_the_right_size_is_kept_exactly(tmp_path: Path) -> None:
    read = read_image(write(tmp_path / "a.png", COLOUR), (3, 32, 48))
    assert read.dtype == torch.float32
    assert read.is_contiguous()
    assert torch.equal(read, torch.from_numpy(PIXELS).permute(2, 0, 1) / 255)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("rgb.png", "RGB"),
        ("opaque.png", "RGBA"),
        ("palette.png", "P"),
        ("palette.gif", "P"),
        ("cmyk.tif", "CMYK"),
        ("cmyk.jpg", "CMYK"),
        ("rgb.jpg", "RGB"),
        ("rgb.webp", "RGB"),
        ("rgb.bmp", "RGB"),
        ("rgb.ppm", "RGB"),
        ("rgb.jp2", "RGB"),
        ("gray.png", "L"),
        ("gray.jpg", "L"),
        ("gray-alpha.png", "LA"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_becomes_the_same_image(tmp_path: Path, name: str, mode: str, channels: int) -> None:
    shape = (channels, *SHAPE[1:])
    expected = read_image(write(tmp_path / "plain.png", COLOUR.convert("L" if mode[0] == "L" else "RGB")), shape)
    options = {"quality": 95, "subsampling": 0} if name.endswith(".jpg") else {}
    read = read_image(write(tmp_path / name, COLOUR.convert(mode), **options), shape)
    assert read.shape == shape
    # Palettes and lossy formats round; a wrong conversion (inverted CMYK, swapped channels) is 10 times as far.
    assert (read - expected).abs().mean() < 0.03


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "deep.pgm"])
def test_16_bits_keep_their_precision(tmp_path: Path, name: str) -> None:
    image = Image.fromarray(DEEP.astype(np.int32)) if name.endswith(".pgm") else Image.fromarray(DEEP)
    read = read_image(write(tmp_path / name, image), (1, 32, 48))
    assert (read[0] - torch.from_numpy(DEEP / 65535)).abs().max() < 1e-6


def test_floating_point_gray_must_lie_in_0_to_1(tmp_path: Path) -> None:
    gray = (DEEP / 65535).astype(np.float32)
    read = read_image(write(tmp_path / "fine.tif", Image.fromarray(gray)), (1, 32, 48))
    assert (read[0] - torch.from_numpy(gray)).abs().max() < 1e-6
    gray[3, 5] = np.nan
    for bad in (gray, gray * 255):
        refused(write(tmp_path / "bad.tif", Image.fromarray(bad)), "expected 0 to 1")


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    alpha = np.linspace(0, 255, 48, dtype=np.uint8)[None, :].repeat(32, axis=0)
    path = write(tmp_path / "a.png", Image.fromarray(np.dstack([PIXELS, alpha])))
    opacity = torch.from_numpy(alpha) / 255
    expected = torch.from_numpy(PIXELS).permute(2, 0, 1) / 255 * opacity + (1 - opacity)
    assert torch.allclose(read_image(path, (3, 32, 48)), expected, atol=1e-6)


def test_a_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putpixel((0, 0), 0)
    read = read_image(write(tmp_path / "p.png", image, transparency=0), (3, 4, 4))
    assert torch.equal(read[:, 0, 0], torch.ones(3))
    assert torch.allclose(read[:, 3, 3], torch.tensor([0, 0, 200 / 255]))


def test_gray_has_the_luma_of_bt601(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", COLOUR)
    colour, gray = read_image(path, (3, 32, 48)), read_image(path, (1, 32, 48))
    assert torch.allclose(gray, torch.einsum("chw,c->hw", colour, torch.tensor(LUMA))[None], atol=1e-6)
    pillow = torch.from_numpy(np.asarray(COLOUR.convert("L")).copy()) / 255
    assert (gray[0] - pillow).abs().max() < 1.5 / 255  # Pillow rounds to 8 bits


@pytest.mark.parametrize("name", ["turned.jpg", "turned.png", "turned.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = write(tmp_path / name, COLOUR, exif=exif)
    with Image.open(path) as image:
        upright = write(tmp_path / "upright.png", ImageOps.exif_transpose(image))
    shape = (3, 10, 20)  # turned or not, the crop of 48x32 to it is centred on a whole pixel
    assert torch.allclose(read_image(path, shape), read_image(upright, shape), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (500, 2), (3, 5)])
def test_tiny_and_thin_pictures_are_enlarged(tmp_path: Path, size: tuple[int, int]) -> None:
    read = read_image(write(tmp_path / "a.png", Image.new("RGB", size, (255, 0, 51))), SHAPE)
    assert torch.allclose(read, torch.tensor([1, 0, 0.2])[:, None, None].expand(SHAPE), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 300), height=st.integers(1, 300), shape=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_any_size_crops_about_the_centre(width: int, height: int, shape: tuple[int, int]) -> None:
    # A picture that mirrors into itself gives an image that does, up to the pixel by which a crop may be off centre.
    ramp = np.minimum(np.arange(width), np.arange(width)[::-1]) / max(1, (width - 1) // 2)
    image = Image.fromarray(np.broadcast_to((200 * ramp).astype(np.uint8), (height, width)))
    read = to_tensor(image, (1, *shape))
    assert read.shape == (1, *shape)
    assert 0 <= read.min() <= read.max() <= 200 / 255 + 1e-6
    scale = min(width / shape[1], height / shape[0])
    assert (read - read.flip(-1)).abs().max() <= 200 / 255 * (2 + scale) / max(1, (width - 1) // 2) + 1e-5


@settings(max_examples=20, deadline=None)
@given(factor=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
def test_shrinking_keeps_the_mean_and_a_linear_ramp(factor: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 256, (8 * factor, 8 * factor, 3), dtype=np.uint8)
    # Away from the edge every pixel weighs the same, so the means agree up to the edge's share.
    read = to_tensor(Image.fromarray(values), (3, 8, 8))
    assert abs(read.mean() - values.mean() / 255) < 0.05
    ramp = np.broadcast_to(np.arange(8 * factor, dtype=np.uint16)[None, :] * 700, (8 * factor, 8 * factor))
    read = to_tensor(Image.fromarray(np.ascontiguousarray(ramp)), (1, 8, 8))
    centres = (np.arange(8) + 0.5) * factor - 0.5
    a_twentieth_of_a_pixel = 0.05 * 700 / 65535
    assert np.allclose(read[0, 4, 1:-1], centres[1:-1] * 700 / 65535, atol=a_twentieth_of_a_pixel)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["huge.png", "huge.jpg"])
def test_a_huge_picture_is_read_in_strips_without_a_warning(tmp_path: Path, name: str) -> None:
    size = (10_000, 9_600)
    assert size[0] * size[1] > max(STRIP_PIXELS, Image.MAX_IMAGE_PIXELS or 0)
    gray = COLOUR.convert("L")
    options = {"compress_level": 1} if name.endswith(".png") else {}
    path = write(tmp_path / name, gray.resize(size, Image.Resampling.NEAREST), **options)
    expected = to_tensor(gray.resize((100, 96), Image.Resampling.NEAREST), SHAPE)
    assert (read_image(path, SHAPE) - expected).abs().mean() < 0.02


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header promises ``width x height`` gray pixels and whose data holds none."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b""))]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*chunks, (b"IEND", b"")]
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("ratio", [1.1, 1000])
@pytest.mark.parametrize("limit", [None, 89_478_485])
def test_a_decompression_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: float, limit: int | None
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of_size(10_000, int(ratio * MAX_PIXELS) // 10_000))
    refused(path, "more than 178 megapixels")


def test_what_is_no_picture_is_refused_by_name(tmp_path: Path) -> None:
    refused(tmp_path / "missing.png", "there is no picture")
    refused(tmp_path, "is a folder")
    for name, content in (("empty.png", b""), ("notes.txt", b"not a picture"), ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n")):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "not a picture in a format that is read")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_a_truncated_picture_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    buffer = io.BytesIO()
    COLOUR.save(buffer, kind)
    path = tmp_path / "half"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    refused(path, "not a whole picture|not a picture")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "GIF", "TIFF"]))
def test_damaged_bytes_never_give_anything_but_an_image_or_a_refusal(
    tmp_path: Path, data: st.DataObject, kind: str
) -> None:
    buffer = io.BytesIO()
    COLOUR.save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged"
    path.write_bytes(content)
    try:
        read = read_image(path, SHAPE)
    except ValueError:
        refused(path, "; try ")
    else:
        assert read.shape == SHAPE
        assert 0 <= read.min() <= read.max() <= 1


@pytest.mark.parametrize("shape", [(2, 8, 8), (3, 0, 8), (3, 8, -1)])
def test_an_impossible_shape_is_refused(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="try a generator"):
        read_image(write(tmp_path / "a.png", COLOUR), shape)
