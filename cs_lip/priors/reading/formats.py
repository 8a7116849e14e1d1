"""Telling weight files apart by what is in them, never by their name."""

from enum import StrEnum
from pathlib import Path

from cs_lip.priors.reading.archives import archive_members

MAX_BYTES = 8 * 2**30
"""The largest weight file that is read, 8 GiB."""

LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f920")
"""How PyTorch began its files before version 1.6: a pickle of the number 0x1950a86a20f9469cfc6c."""


class Format(StrEnum):
    """The formats that can be read."""

    SAFETENSORS = "safetensors"
    PYTORCH_ZIP = "PyTorch zip"
    PYTORCH_LEGACY = "PyTorch legacy"
    NPZ = "NumPy npz"
    NVLABS = "NVlabs pickle"
    ONNX = "ONNX"


FOREIGN = (
    (b"\x89HDF\r\n\x1a\n", 0, "an HDF5 file, such as Keras writes"),
    (b"\x93NUMPY", 0, "a single NumPy array"),
    (b"\x1f\x8b", 0, "compressed by gzip"),
    (b"BZh", 0, "compressed by bzip2"),
    (b"\xfd7zXZ\x00", 0, "compressed by xz"),
    (b"ustar", 257, "a tar archive"),
    (b"\x89PNG", 0, "a picture"),
    (b"\xff\xd8\xff", 0, "a picture"),
    (b"TFL3", 4, "a TensorFlow Lite model"),
    (b"GGUF", 0, "a GGUF file"),
    (b"<", 0, "a web page, such as a download that failed leaves"),
    (b"version https://git-lfs", 0, "a Git LFS pointer, not the file it stands for"),
)
"""Files that people take for weights: bytes, where they stand, and what it is."""


def format_of(path: Path) -> Format:
    """The format of a weight file, by its content.

    Raises:
        ValueError: no such file, empty, larger than `MAX_BYTES`, damaged, TorchScript or an exported program (loading
            those can run code), or of a format that is not read.
    """
    if not path.is_file():
        raise ValueError(
            f"there is no file {path}; try its full path, or `cs-lip generators` for weights that are known by name"
        )
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path} has {size / 2**30:.1f} GiB, weights may have 8; try the generator's state dict alone")
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK\x03\x04"):
        return _archive_format(path)
    if head.startswith(LEGACY_MAGIC):
        return Format.PYTORCH_LEGACY
    if head[4:9] == b"\0\0\0\0{":  # a header of less than 4 GiB, whose length may begin like another format
        return Format.SAFETENSORS
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return Format.NVLABS
    if _is_onnx(head):
        return Format.ONNX
    if head[8:9] == b"{":
        return Format.SAFETENSORS
    raise ValueError(
        f"{path} is {_description(head)}, not a weight file that cs-lip reads; "
        "try safetensors, a PyTorch state dict, npz, an NVlabs pickle or ONNX"
    )


def _archive_format(path: Path) -> Format:
    names = [name.partition("/")[2] or name for name in archive_members(path)]
    if "constants.pkl" in names:
        raise ValueError(
            f"{path} is a TorchScript archive, which holds code that loading can run, so it was not loaded; "
            "try its state dict, saved as safetensors"
        )
    if any(name.startswith(("models/", "serialized_")) or name == "archive_format" for name in names):
        raise ValueError(
            f"{path} is a program exported by torch.export, and loading one unpickles code, so it was not loaded; "
            "try the module's state dict, saved as safetensors, or ONNX"
        )
    if "data.pkl" in names:
        return Format.PYTORCH_ZIP
    if names and all(name.endswith(".npy") for name in names):
        return Format.NPZ
    what = "a Keras model" if "model.weights.h5" in names or "config.json" in names else "a zip archive of other files"
    raise ValueError(f"{path} is {what}, not weights that cs-lip reads; try its arrays, saved by numpy.savez")


def _is_onnx(head: bytes) -> bool:
    """Whether a protobuf begins like an ONNX model: field 1, the version of the format, then another known field."""
    return len(head) > 2 and head[0] == 8 and 0 < head[1] < 64 and head[2] in (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)


def _description(head: bytes) -> str:
    if not head:
        return "empty"
    for magic, place, what in FOREIGN:
        if head[place : place + len(magic)] == magic:
            return what
    return "text" if head.isascii() and b"\0" not in head else "of an unknown format"
