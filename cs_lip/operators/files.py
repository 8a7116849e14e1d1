"""Operators on disk: the recipe and a checksum, as JSON or HDF5. Nothing here runs code that a file holds."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

from cs_lip.files import atomic_path, check_kind, opened_hdf5, written_hdf5
from cs_lip.operators.linear import LinearOperator
from cs_lip.operators.probe import check_response, probe_response
from cs_lip.operators.recipe import operator_from_recipe

FORMAT = 1
KIND = "cs-lip operator"
JSON, HDF5 = ".json", ".h5"
ATTEMPT = "a file that save_operator wrote"


def save_operator(A: LinearOperator, path: str | Path) -> None:
    """Write what `load_operator` needs to build ``A`` again: its recipe, and its response to a fixed probe.

    The file is a JSON document, or HDF5 with the same as attributes: ``kind``, ``format``, ``operator`` (the recipe)
    and ``response`` (see `probe_response`), the last two as JSON texts. It is small whatever the operator's size,
    except for operators that hold an array of their own, such as a mask. The device is not kept, nor a dtype that
    ``A.to`` gave. An existing file is replaced, and a crash leaves the old file or the new one. Time: one application
    of ``A``.

    Args:
        A: an operator that comes with cs-lip, or an expression of such.
        path: ending in ``.json`` or ``.h5``.

    Raises:
        ValueError: ``A`` has no recipe; its response is beyond float32; the path ends otherwise or lies in no folder.
    """
    path = _checked_path(path)
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} into; try to make it first")
    recipe, response = A.recipe(), probe_response(A)
    if not math.isfinite(response["norm"]):
        raise ValueError(
            f"{type(A).__name__} maps standard normal numbers beyond what float32 holds, so its file could not be "
            "checked; try to scale it, 1e-3 * A"
        )
    if path.suffix == HDF5:
        with written_hdf5(path, KIND, FORMAT) as file:
            file.attrs["operator"], file.attrs["response"] = _text(recipe), _text(response)
        return
    document = {"kind": KIND, "format": FORMAT, "operator": recipe, "response": response}
    with atomic_path(path) as temporary:
        temporary.write_text(_text(document, indent=2) + "\n", encoding="utf-8")


def load_operator(path: str | Path) -> LinearOperator:
    """The operator that `save_operator` wrote, on the CPU and in float32, or in the precision of the array it holds.

    Its numbers are the same bit for bit with the same version of cs-lip and NumPy. With any version its response to
    the probe is compared with the stored one, and an operator that answers otherwise is refused. Time: building the
    operator, and one application.

    Raises:
        ValueError: no such file; a damaged one, one of another kind or of a newer format; a recipe that
            `operator_from_recipe` refuses; a response that differs by more than rounding.

    Warns:
        RuntimeWarning: the response is that of the stored operator up to rounding, but not bit for bit, as when another
            processor, number of threads or library adds in another order.
    """
    path = _checked_path(path)
    recipe, response = _read_hdf5(path) if path.suffix == HDF5 else _read_json(path)
    try:
        A = operator_from_recipe(recipe)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not check_response(A, response, str(path)):
        warnings.warn(
            f"the operator in {path} answers its probe up to rounding, not bit for bit as where it was saved; "
            "try the same number of threads and the same libraries, if that matters",
            RuntimeWarning,
            stacklevel=2,
        )
    return A


def _read_hdf5(path: Path) -> tuple[Any, Any]:
    with opened_hdf5(path, (KIND,), FORMAT, ATTEMPT) as file:
        return json.loads(file.attrs["operator"]), json.loads(file.attrs["response"])


def _read_json(path: Path) -> tuple[Any, Any]:
    if not path.is_file():
        raise ValueError(f"there is no file {path}; try {ATTEMPT}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        kind, number = (document.get(key) if isinstance(document, dict) else None for key in ("kind", "format"))
        check_kind(path, kind, number, (KIND,), FORMAT, ATTEMPT)
        return document["operator"], document["response"]
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, KeyError) as error:
        raise ValueError(f"{path} is not a whole JSON file written by cs-lip ({error}); try {ATTEMPT}") from None


def _checked_path(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix not in (JSON, HDF5):
        raise ValueError(f"an operator's file must end in {JSON} or {HDF5}, got {path.name!r}; try operator{JSON}")
    return path


def _text(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, allow_nan=False, indent=indent)
