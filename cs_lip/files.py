"""Writing files so that a crash leaves the old one or the new one, and reading HDF5 that somebody may have damaged."""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that becomes ``path`` when the block ends well, and vanishes when it fails.

    The content is flushed to the disk before the rename, so the name never points at unwritten data.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    temporary = Path(name)
    try:
        os.close(handle)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def written_hdf5(path: Path, kind: str, number: int) -> Iterator[h5py.File]:
    """A new HDF5 file with the attributes ``kind`` and ``format``, which replaces ``path`` when the block ends well."""
    # The layout of HDF5 1.8, without which an attribute holds 64 KiB at most, less than the recipe of a large mask.
    with atomic_path(path) as temporary, h5py.File(temporary, "w", libver=("v108", "v108")) as file:
        file.attrs["kind"], file.attrs["format"] = kind, number
        yield file


@contextmanager
def opened_hdf5(path: Path, kinds: Sequence[str], number: int, attempt: str) -> Iterator[h5py.File]:
    """An HDF5 file of one of the kinds and of this format.

    Raises:
        ValueError: no such file, a folder, not HDF5 or truncated, of another kind or format, or what the block reads is
            missing or no JSON. The message names the file, and ends in "try ``attempt``".
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a file; try {attempt}")
    if not path.is_file():
        raise ValueError(f"there is no file {path}; try {attempt}")
    try:
        with h5py.File(path, "r") as file:
            check_kind(path, file.attrs.get("kind"), file.attrs.get("format"), kinds, number, attempt)
            yield file
    except (OSError, KeyError, TypeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not a whole HDF5 file written by cs-lip ({error}); try {attempt}") from None


def check_kind(path: Path, kind: object, number: object, kinds: Sequence[str], expected: int, attempt: str) -> None:
    """Refuse a file of another kind or format.

    Raises:
        ValueError: it is one; of another kind the message ends in "try ``attempt``".
    """
    if kind not in kinds:
        what = f"of kind {str(kind)[:40]!r}" if kind else "of some other program"
        raise ValueError(f"{path} is {what}, expected {' or '.join(kinds)}; try {attempt}")
    if isinstance(number, bool) or number != expected:
        shown = ascii(str(number)[:40])[1:-1]  # a damaged file may have any letters there
        raise ValueError(f"{path} has format {shown}, this version reads {expected}; try the version that wrote it")


def _umask() -> int:
    """The process's mask for new files; mkstemp ignores it in favour of private ones."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
