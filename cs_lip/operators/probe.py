"""The checksum of an operator: what it answers to a fixed probe."""

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cs_lip.operators.linear import LinearOperator
from cs_lip.operators.vectors import as_real, from_real, normal_numbers

PROBE_SEED = 20240917
PROJECTIONS = 8
TOLERANCE = 1e-4
"""Of a projection, relative to the response's norm: a hundred times the rounding of float32, and a hundredth of what
one wrong measurement out of ten thousand changes."""


def probe_response(A: LinearOperator) -> dict[str, Any]:
    """The response of ``A`` to one image of standard normal numbers, as JSON-able values for `check_response`.

    ``{"norm", "projections", "sha256"}``: the norm of y = A x, its inner products with 8 vectors of standard normal
    numbers, and a hash of y itself, bit for bit. The probe and the vectors come from a seed that never changes.
    Computed on the CPU and in float32, of a copy if ``A`` is elsewhere. Time: one application, and n + 8 m random
    numbers.
    """
    if any(held.device.type != "cpu" or held.dtype == torch.float64 for held in A.buffers()):
        A = copy.deepcopy(A).to("cpu", torch.float32)
    probe = normal_numbers(PROBE_SEED, 0, (A.n,)).float()
    with torch.no_grad():
        y = as_real(A(from_real(probe, A.in_shape, A.in_is_complex)), A.out_shape)
    return {
        "norm": float(y.double().norm()),
        "projections": [_projection(y, stream) for stream in range(1, PROJECTIONS + 1)],
        "sha256": hashlib.sha256(y.numpy().astype("<f4").tobytes()).hexdigest(),
    }


def check_response(A: LinearOperator, expected: Any, where: str) -> bool:
    """Whether ``A`` answers the probe bit for bit as ``expected`` says; False where only rounding differs.

    The order of a sum, and with it the rounding, depends on the number of threads, the processor and the linear algebra
    library, so a difference within 1e-4 of the norm is none in the operator.

    Args:
        A: the operator, just built.
        expected: what `probe_response` gave when the file was written, or anything that a file holds in its place.
        where: the file's name, for the message.

    Raises:
        ValueError: the response differs by more than rounding, or ``expected`` is no response at all.
    """
    got = probe_response(A)
    if not _is_response(expected):
        raise ValueError(f"{where} holds no whole response of its operator to check it by; try to write it again")
    pairs = zip([got["norm"], *got["projections"]], [expected["norm"], *expected["projections"]], strict=True)
    # A response that is not finite differs, since no comparison with it is true.
    if not all(abs(a - b) <= TOLERANCE * abs(got["norm"]) for a, b in pairs):
        raise ValueError(
            f"{where} describes an operator that answers otherwise than the one that this version builds from its "
            "recipe; try the version of cs-lip that wrote it"
        )
    return bool(got["sha256"] == expected["sha256"])


def _projection(y: Tensor, stream: int) -> float:
    return float(y.double() @ normal_numbers(PROBE_SEED, stream, tuple(y.shape)))


def _is_response(value: object) -> bool:
    if not isinstance(value, Mapping) or value.keys() != {"norm", "projections", "sha256"}:
        return False
    numbers = value["projections"]
    return (
        isinstance(numbers, list)
        and len(numbers) == PROJECTIONS
        and all(isinstance(number, float | int) for number in [value["norm"], *numbers])
        and isinstance(value["sha256"], str)
    )
