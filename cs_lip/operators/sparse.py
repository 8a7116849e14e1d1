"""Sparse random measurements: few non-zeros a column."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
from torch import Tensor

from cs_lip.operators.arguments import checked_count, checked_m, checked_normalisation, checked_seed, checked_shape
from cs_lip.operators.linear import RECIPE_FORMAT, LinearOperator
from cs_lip.operators.streams import Stream, philox

MOST_NONZEROS = 2**31 - 1
"""What indices of 32 bits can count."""


class SparseRandom(LinearOperator):
    """y = M x, where every column of M, of shape (m, n), has exactly d non-zeros +v or -v, n = prod(in_shape).

    ``A(x)`` maps ``(*batch, *in_shape)`` to ``(*batch, m)``. Without its signs M is the adjacency matrix of a left
    d-regular random graph, an expander with high probability (Gilbert & Indyk 2010, section II); with random signs it
    also keeps energies (Kane & Nelson 2014). The d rows of a column are a uniform draw without replacement, the signs
    are independent, and the normalisation sets v:

    - ``"1/m"`` (default): v = 1/sqrt(d), so columns have norm 1, entries have the mean square 1/m and E|A x|^2 = |x|^2.
    - ``"1"``: v = sqrt(m/d), so entries have the mean square 1 and E|A x|^2 = m |x|^2.

    M and its transpose are stored as compressed sparse rows, in 16 d n bytes together, a matrix of signs +1 and -1
    which ``A.to(...)`` moves and casts; the factor v is applied apart. This is always small, so there is no other
    storage. Applying takes 2 d n operations for every image, drawing d^2 n. A column depends on m, n and d too: fewer
    measurements with one seed are other ones.

    Args:
        in_shape: shape of one image, any number of axes from 1 to 8.
        m: number of real measurements, 1 <= m <= n.
        seed: integer in [0, 2^63 - 1].
        nonzeros_per_column: d, 1 <= d <= m; 8 is a usual choice.
        normalisation: ``"1/m"`` or ``"1"``, the mean square of an entry.

    Raises:
        ValueError: an argument is out of its range.
    """

    signs: Tensor
    signs_transposed: Tensor

    def __init__(
        self,
        in_shape: Sequence[int],
        m: int,
        *,
        seed: int,
        nonzeros_per_column: int,
        normalisation: str = "1/m",
    ) -> None:
        in_shape = checked_shape(in_shape)
        m = checked_m(m, 1, math.prod(in_shape))
        super().__init__(in_shape, (m,))
        self.seed = checked_seed(seed)
        most = min(m, MOST_NONZEROS // self.n)
        self.nonzeros_per_column = checked_count(nonzeros_per_column, "nonzeros_per_column", most, attempt=min(8, most))
        self.normalisation = checked_normalisation(normalisation)
        columns = _draw_columns(m, self.n, self.nonzeros_per_column, self.seed)
        for name, matrix in (("", columns.tocsr()), ("_transposed", columns.T.tocsr())):
            self.register_buffer(f"starts{name}", torch.from_numpy(matrix.indptr), persistent=False)
            self.register_buffer(f"places{name}", torch.from_numpy(matrix.indices), persistent=False)
            self.register_buffer(f"signs{name}", torch.from_numpy(matrix.data), persistent=False)
        with warnings.catch_warnings():
            # The first one of a process warns that the layout's interface may still change.
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
            self._matrix()

    @property
    def scale(self) -> float:
        """v, the absolute value of a non-zero entry."""
        return math.sqrt((self.m if self.normalisation == "1" else 1) / self.nonzeros_per_column)

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "in_shape", "m", "seed", "nonzeros_per_column", "normalisation"}``."""
        return {
            "format": RECIPE_FORMAT,
            "kind": "sparse-random",
            "in_shape": list(self.in_shape),
            "m": self.m,
            "seed": self.seed,
            "nonzeros_per_column": self.nonzeros_per_column,
            "normalisation": self.normalisation,
        }

    def extra_repr(self) -> str:
        return (
            f"{self.in_shape}, m={self.m}, seed={self.seed}, nonzeros_per_column={self.nonzeros_per_column}, "
            f"normalisation={self.normalisation!r}"
        )

    def _matrix(self, name: str = "") -> Tensor:
        """M / v, or its transpose; a sparse tensor itself could be neither copied deeply nor be kept in a buffer."""
        shape = (self.n, self.m) if name else (self.m, self.n)
        parts = [getattr(self, part + name) for part in ("starts", "places", "signs")]
        return torch.sparse_csr_tensor(parts[0], parts[1], parts[2], shape, check_invariants=False)

    def _apply_forward(self, x: Tensor) -> Tensor:
        batch = x.shape[: x.dim() - len(self.in_shape)]
        rows = (self._matrix() @ x.reshape(-1, self.n).T).T.contiguous()
        return rows.reshape(*batch, self.m) * self.scale

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        rows = (self._matrix("_transposed") @ (y * self.scale).reshape(-1, self.m).T).T.contiguous()
        return rows.reshape(*y.shape[:-1], *self.in_shape)


def _draw_columns(m: int, n: int, d: int, seed: int) -> Any:
    """The signs as a scipy matrix of compressed columns, in float32 with indices of 32 bits."""
    generator = philox(seed, Stream.SPARSE_ROWS)
    # d distinct rows for every column at once (Floyd's algorithm; Bentley & Floyd 1987): one of the first j + 1 rows,
    # or row j, new by now, if that one is taken.
    rows: npt.NDArray[np.int32] = np.empty((d, n), dtype=np.int32)
    for k in range(d):
        j = m - d + k
        drawn = generator.integers(0, j, size=n, endpoint=True, dtype=np.int32)
        rows[k] = np.where((rows[:k] == drawn).any(axis=0), j, drawn)
    signs = 1 - 2 * philox(seed, Stream.SPARSE_SIGNS).integers(0, 1, size=(n, d), endpoint=True, dtype=np.int8)
    starts = np.arange(0, (n + 1) * d, d, dtype=np.int32)
    matrix = scipy.sparse.csc_array((signs.ravel().astype(np.float32), rows.T.ravel(), starts), shape=(m, n))
    matrix.sort_indices()
    return matrix
