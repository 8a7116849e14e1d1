"""Arrays inside recipes, as JSON-able values."""

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cs_lip.operators.arguments import checked_shape

DTYPES = ("bool", "int64", "float32", "float64", "complex64", "complex128")


def encode_array(array: npt.NDArray[Any]) -> dict[str, Any]:
    """``{"dtype", "shape", "data"}``, the data as base64 of little-endian bytes; dtypes are those of `DTYPES`.

    Booleans are packed eight a byte, the first one highest.
    """
    if array.dtype.name not in DTYPES:
        raise ValueError(
            f"a recipe holds arrays of {', '.join(DTYPES)}, got {array.dtype}; try array.astype('float32')"
        )
    flat = np.ascontiguousarray(array).ravel()
    raw = np.packbits(flat) if array.dtype == bool else flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    data = base64.b64encode(raw.tobytes()).decode("ascii")
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def decode_array(encoded: object, what: str, *, dtypes: tuple[str, ...] = DTYPES) -> npt.NDArray[Any]:
    """The array that `encode_array` described; ``what`` names it in messages.

    Raises:
        ValueError: it is no such description, is of none of ``dtypes``, or its bytes do not fill its shape exactly.
    """
    if not isinstance(encoded, Mapping) or encoded.keys() != {"dtype", "shape", "data"}:
        raise ValueError(f"the recipe's {what} must hold dtype, shape and data; try to write the recipe again")
    dtype, shape = encoded["dtype"], checked_shape(encoded["shape"])
    if dtype not in dtypes:
        raise ValueError(
            f"the recipe's {what} must be of {', '.join(dtypes)}, got {str(dtype)[:40]!r}; "
            "try to write the recipe again"
        )
    try:
        raw = np.frombuffer(base64.b64decode(encoded["data"], validate=True), dtype=np.uint8)
    except (TypeError, binascii.Error, ValueError) as error:
        raise ValueError(f"the recipe's {what} is not base64 text; try to write the recipe again") from error
    size = math.prod(shape)
    expected = math.ceil(size / 8) if dtype == "bool" else size * np.dtype(dtype).itemsize
    if raw.size != expected or (dtype == "bool" and np.unpackbits(raw[-1:])[(size - 1) % 8 + 1 :].any()):
        raise ValueError(
            f"the recipe's {what} must hold the numbers of shape {shape} in {expected} bytes, got {raw.size} bytes "
            "that do not fit; try to write the recipe again"
        )
    if dtype == "bool":
        return np.unpackbits(raw, count=size).astype(bool).reshape(shape)
    return raw.view(np.dtype(dtype).newbyteorder("<")).astype(dtype).reshape(shape)
