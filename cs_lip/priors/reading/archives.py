"""Zip archives whose directory is checked before anything in them is read, and arrays from an npz."""

import struct
import zipfile
from pathlib import Path
from zipfile import ZipInfo

import numpy as np
import torch
from torch import Tensor

MAX_DIRECTORY = 2**22
"""Bytes of an archive's directory, enough for ten thousands of tensors."""

MAX_EXPANSION = 4
"""How many times larger than its file all that is in it may be: weights hardly compress, and few are shared."""

END, END_64, LOCATOR_64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
NPY_VERSIONS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def archive_members(path: Path) -> dict[str, ZipInfo]:
    """The members of a zip archive by name, none of them read.

    Raises:
        ValueError: damaged, a name twice, an encrypted member, or members that claim far more bytes than the archive
            has.
    """
    _check_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            listed = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
        raise ValueError(f"{path} is a damaged zip archive ({str(error)[:80]}); try to fetch it again") from None
    members = {member.filename: member for member in listed}
    if len(members) != len(listed):
        raise ValueError(f"the archive {path} holds two members of one name; try the file as its author published it")
    claimed, size = sum(member.file_size for member in listed), path.stat().st_size
    if claimed > MAX_EXPANSION * size:
        raise ValueError(
            f"the archive {path} has {size} bytes and claims {claimed} when unpacked, as no weights do; "
            "try the file as its author published it"
        )
    if any(member.flag_bits & 1 for member in listed):
        raise ValueError(f"the archive {path} is encrypted; try to unpack it first")
    return members


def check_stored(path: Path) -> None:
    """Refuse a PyTorch archive with members that are compressed, overlap or differ in capitals alone, as PyTorch
    writes none.

    Raises:
        ValueError: it has some.
    """
    members, size = archive_members(path).values(), path.stat().st_size
    if any(
        member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size for member in members
    ):
        raise ValueError(f"{path} has compressed members, which PyTorch never writes; try the file as it was saved")
    # PyTorch's reader takes A and a for one letter, so it could find another member than the one that was looked at.
    if len({member.filename.lower() for member in members}) != len(members):
        raise ValueError(f"{path} has members that differ in capitals alone; try the file as it was saved")
    if sum(member.file_size for member in members) > size:
        raise ValueError(f"{path} has members that overlap, which PyTorch never writes; try the file as it was saved")


def read_npz(path: Path) -> dict[str, Tensor]:
    """The arrays of an ``.npz`` file by name, as tensors; nothing is unpickled.

    Raises:
        ValueError: damaged, an array of anything but real numbers, or one whose header claims more than its bytes.
    """
    members = archive_members(path)
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {name: _read_array(archive, member) for name, member in members.items()}
    except Exception as error:  # on a header that makes no sense NumPy raises nearly anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ValueError(f"{path} is a damaged npz file ({reason}); try to write it again with numpy.savez") from None
    return {name.removesuffix(".npy"): torch.from_numpy(array) for name, array in arrays.items()}


def _read_array(archive: zipfile.ZipFile, member: ZipInfo) -> np.ndarray:
    name = repr(member.filename[:60])
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Of bzip2, zipfile unpacks four thousand bytes at once, which may be four gigabytes.
        raise ValueError(f"{name} is compressed in a way that NumPy never writes")
    with archive.open(member) as file:
        read_header = NPY_VERSIONS.get(np.lib.format.read_magic(file))
        if read_header is None:
            raise ValueError(f"{name} has an unknown version of the npy format")
        shape, _, dtype = read_header(file)
        if dtype.kind not in "fiu" or dtype.itemsize > 8:
            raise ValueError(f"{name} holds {str(dtype)[:40]}, expected real numbers")
        claimed = dtype.itemsize
        for length in shape:
            claimed *= length
        if claimed != member.file_size - file.tell():
            raise ValueError(f"{name} claims {claimed} bytes of values and has {member.file_size - file.tell()}")
    with archive.open(member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    # PyTorch has no arrays of the other byte order, nor of Fortran's order.
    return np.array(array, dtype=dtype.newbyteorder("="), order="C")


def _check_directory(path: Path) -> None:
    """Refuse an archive in which two readers could find two different directories, or a directory of absurd size.

    Python's reader and PyTorch's search the end of a file in their own ways. Where the archive ends in its end record,
    and everything lies where the records say, they find the same.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - END.size - LOCATOR_64.size - END_64.size))
        tail = file.read()
    end = size - END.size
    whole = False
    if len(tail) >= END.size:
        magic, _, _, _, _, length, offset, comment = END.unpack(tail[-END.size :])
        whole = magic == b"PK\x05\x06" and comment == 0
        rest = tail[: -END.size]
        if whole and rest[-LOCATOR_64.size :][:4] == b"PK\x06\x07" and len(rest) == LOCATOR_64.size + END_64.size:
            where = LOCATOR_64.unpack(rest[-LOCATOR_64.size :])[2]
            record = END_64.unpack(rest[: END_64.size])
            end -= len(rest)
            length, offset = record[8:]
            whole = record[0] == b"PK\x06\x06" and where == end
        whole = whole and offset + length == end
    if not whole:
        raise ValueError(f"{path} is a damaged zip archive (its directory is not where it says); try to fetch it again")
    if length > MAX_DIRECTORY:
        raise ValueError(f"the archive {path} has a directory of {length} bytes, as no weights need; try another file")
