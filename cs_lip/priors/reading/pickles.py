"""PyTorch's own weight files, read by ``torch.load(weights_only=True)`` after a look at what their pickles name."""

import argparse
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch

from cs_lip.priors.reading.archives import archive_members, check_stored

MAX_PICKLE = 2**22
"""Bytes of a file's pickles; those of a state dict hold names and shapes only, the numbers lie outside."""

MAX_NUMBER, MAX_LARGE = 2**60, 100
"""Beyond the first, whole numbers can be chosen to have one hash, and many of them as keys of a dictionary would take
forever; a checkpoint has a few, such as the state of a random generator."""

MAX_UNFOLDED = 10**8
"""Values in all tuples of a pickle, those that are referred to several times counted as often; see `_Tuples`."""


class _Config:
    """Stands in for the settings object in the checkpoints of pytorch_GAN_zoo."""


STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (argparse.Namespace, "argparse.Namespace"),
    (_Config, "models.utils.config.BaseConfig"),
]
"""Inert holders of settings that published checkpoints carry beside their weights."""

_NUMBERS = ["Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool"]
_DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
HARMLESS = {
    "collections OrderedDict",
    "torch device",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch.nn.parameter Parameter",
    *(f"torch {number}Storage" for number in _NUMBERS),
    *(f"torch {dtype}" for dtype in _DTYPES),
    *(" ".join(name.rsplit(".", 1)) for name in ("argparse.Namespace", "models.utils.config.BaseConfig")),
}
"""What the pickles may name, ``module name``. PyTorch's list is longer: it has ``bytearray``, which can ask for any
amount of memory, and kinds of tensors that no generator is made of."""


def load_pytorch_zip(path: Path) -> object:
    """What a file of `torch.save` holds. Its tensors lie on the mapped file, so they take no memory until copied.

    Raises:
        ValueError: damaged, or its pickle names anything but tensors and settings.
    """
    if path.suffix == ".safetensors":  # by which torch.load goes, and it would not see our check
        raise ValueError(f"{path} is a PyTorch file and named as another format; try to rename it to {path.stem}.pt")
    check_stored(path)
    with _readable(path):
        (member,) = [member for name, member in archive_members(path).items() if name.partition("/")[2] == "data.pkl"]
        with zipfile.ZipFile(path) as archive:
            _check_names(BytesIO(archive.read(member)), path)
        return _load(path, mmap=True)


def load_pytorch_legacy(path: Path) -> object:
    """What a file of `torch.save` in the format before PyTorch 1.6 holds.

    Raises:
        ValueError: as `load_pytorch_zip`.
    """
    with _readable(path), path.open("rb") as file:
        for _ in range(5):  # a number, the version, the machine, the content, and the names of its storages
            _check_names(file, path)
        file.seek(0)
        return _load(file)


def _load(file: Path | IO[bytes], **how: Any) -> object:
    with torch.serialization.safe_globals(STAND_INS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of storages of old, which are none of the user's doing
        return torch.load(file, map_location="cpu", weights_only=True, **how)


class _RefusedError(ValueError):
    """What a file was refused for, in a whole sentence."""


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns all that a reader raises into one sentence."""
    try:
        yield
    except _RefusedError:
        raise
    except pickle.UnpicklingError:
        raise _holds_code(path, "an unknown instruction") from None
    except Exception as error:  # on damaged bytes PyTorch's reader raises nearly anything
        # Its own message may advise to switch the safe reading off, so only the kind of failure is passed on.
        kind = type(error).__name__
        raise ValueError(f"{path} is not a readable PyTorch weight file ({kind}); try to fetch it again") from None


def _check_names(file: IO[bytes], path: Path) -> None:
    """Read the instructions of one pickle, without following any, and refuse names that are not `HARMLESS`."""
    start, tuples, large = file.tell(), _Tuples(), 0
    for opcode, argument, place in pickletools.genops(file):
        size = (place or 0) - start
        if size > MAX_PICKLE:
            raise _RefusedError(
                f"{path} holds more than {MAX_PICKLE} bytes of pickled objects; try the generator's state dict alone"
            )
        large += isinstance(argument, int) and abs(argument) > MAX_NUMBER
        if large > MAX_LARGE:
            raise _RefusedError(f"{path} holds too many large whole numbers; try the generator's state dict alone")
        tuples.follow(opcode.name, argument)
        if tuples.unfolded(size) > MAX_UNFOLDED:
            raise _RefusedError(f"{path} holds tuples within tuples without end; try the generator's state dict alone")
        named = argument if opcode.name == "GLOBAL" else opcode.name
        if opcode.name in ("GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4") and named not in HARMLESS:
            raise _holds_code(path, str(named).replace(" ", "."))
        protocol = int(argument or 0) if opcode.name == "PROTO" else opcode.proto
        if protocol > 2:
            raise _RefusedError(
                f"{path} was saved with pickle protocol {protocol}, expected 2; try torch.save as it is"
            )


class _Tuples:
    """Counts how often a pickle refers to a tuple that it has made before.

    A tuple of tuples of tuples ..., each there several times, is short in a pickle and may take forever to hash, as
    PyTorch does with the keys of dictionaries and with what stands for a storage. With ``n`` references a pickle of
    ``s`` bytes unfolds to no more than about ``s 3^(n/3)`` values, which three references at every level reach.
    """

    def __init__(self) -> None:
        self.places: set[int] = set()
        self.references = 0
        self.on_top = False

    def follow(self, name: str, argument: Any) -> None:
        """Look at one instruction."""
        if name in ("BINPUT", "LONG_BINPUT"):
            (self.places.add if self.on_top else self.places.discard)(argument)
        elif name in ("BINGET", "LONG_BINGET"):
            self.on_top = argument in self.places
            self.references += self.on_top
        elif name != "PROTO":  # which leaves the stack alone, as storing does
            self.on_top = name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")

    def unfolded(self, size: int) -> float:
        """The most values that a pickle of ``size`` bytes can unfold to; capped, for the sake of the power."""
        return float(size * 3 ** (min(self.references, 100) / 3))


def _holds_code(path: Path, name: str) -> ValueError:
    return _RefusedError(
        f"{path} holds pickled objects other than plain tensors ({name!r:.60}), which could run code, so it was not "
        "loaded; try its state dict alone, saved as safetensors"
    )
