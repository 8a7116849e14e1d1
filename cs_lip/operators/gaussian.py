"""Random Gaussian measurements, with a matrix that one seed draws the same everywhere."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cs_lip.operators.arguments import checked_m, checked_seed, checked_shape
from cs_lip.operators.linear import RECIPE_FORMAT, LinearOperator

ROWS_PER_BLOCK = 16


class Gaussian(LinearOperator):
    """y = M x with independent normal entries in M, of shape (m, n), n = prod(in_shape).

    ``A(x)`` maps ``(*batch, *in_shape)`` to ``(*batch, m)``. The normalisation sets the variance of an entry:

    - ``"1/m"`` (default): E|A x|^2 = |x|^2, as in Bora et al. 2017 (CSGM, Theorem 1.1) and in Wu et al. 2023 (LIP).
    - ``"1"``: E|A x|^2 = m |x|^2, as in CSGM's published code. The same noise sigma then means another SNR.

    The matrix is stored dense, as the float32 buffer ``matrix`` (4 m n bytes), which ``A.to(...)`` moves and casts; the
    state of the operator is its recipe, so ``state_dict`` leaves the matrix out. Row i depends on the seed and i alone
    (up to the normalisation): fewer measurements with one seed are the first ones of more.

    Args:
        in_shape: shape of one image, any number of axes from 1 to 8.
        m: number of real measurements, 1 <= m <= n.
        seed: integer in [0, 2^63 - 1].
        normalisation: ``"1/m"`` or ``"1"``.

    Raises:
        ValueError: an argument is out of its range, or the matrix does not fit into memory.
    """

    matrix: Tensor

    def __init__(self, in_shape: Sequence[int], m: int, *, seed: int, normalisation: str = "1/m") -> None:
        in_shape = checked_shape(in_shape)
        m = checked_m(m, 1, math.prod(in_shape))
        super().__init__(in_shape, (m,))
        self.seed = checked_seed(seed)
        if normalisation not in ("1/m", "1"):
            raise ValueError(f"the normalisation must be '1/m' or '1', got {normalisation!r}; try '1/m'")
        self.normalisation = normalisation
        deviation = 1 / math.sqrt(m) if normalisation == "1/m" else 1.0
        self.register_buffer("matrix", _draw_matrix(m, self.n, self.seed, deviation), persistent=False)

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "in_shape", "m", "seed", "normalisation"}``; see `operator_from_recipe`."""
        return {
            "format": RECIPE_FORMAT,
            "kind": "gaussian",
            "in_shape": list(self.in_shape),
            "m": self.m,
            "seed": self.seed,
            "normalisation": self.normalisation,
        }

    def extra_repr(self) -> str:
        return f"{self.in_shape}, m={self.m}, seed={self.seed}, normalisation={self.normalisation!r}"

    def _apply_forward(self, x: Tensor) -> Tensor:
        return x.flatten(-len(self.in_shape)) @ self.matrix.T

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.matrix).reshape(*y.shape[:-1], *self.in_shape)


def _draw_matrix(m: int, n: int, seed: int, deviation: float) -> Tensor:
    try:
        matrix = torch.empty((m, n), dtype=torch.float32, device="cpu")
    except RuntimeError as error:
        raise ValueError(
            f"a Gaussian matrix of {m} x {n} takes {4 * m * n / 2**30:.1f} GiB, which could not be reserved; "
            "try fewer measurements or SubsampledFourier"
        ) from error
    rows = matrix.numpy()

    # Each block has a counter-based stream of its own (Philox; Salmon et al. 2011), so the numbers do not depend on the
    # number of threads, and any block can be drawn again without those before it. NumPy fills it without the GIL.
    def fill(block: int) -> None:
        part = rows[block * ROWS_PER_BLOCK : (block + 1) * ROWS_PER_BLOCK]
        generator = np.random.Generator(np.random.Philox(key=np.array([seed, block], dtype=np.uint64)))
        generator.standard_normal(dtype=np.float32, out=part)
        part *= np.float32(deviation)

    with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as threads:
        for _ in threads.map(fill, range(math.ceil(m / ROWS_PER_BLOCK))):
            pass
    return matrix
