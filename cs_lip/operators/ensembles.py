"""Random matrices with independent entries, which one seed draws the same everywhere, stored or drawn again."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cs_lip.operators.arguments import checked_m, checked_normalisation, checked_number, checked_seed, checked_shape
from cs_lip.operators.linear import RECIPE_FORMAT, LinearOperator
from cs_lip.operators.streams import Stream, philox

ROWS_PER_BLOCK = 16
LARGEST_DENSE = 2**30
"""Matrices of more bytes than this are drawn again at every use unless ``storage="dense"``."""
LARGEST_BUFFER = 2**28
"""Bytes of rows that a regenerated matrix draws at a time, when one block for every thread would take more."""
FEW_ROWS = range(8, 33)
"""Batches that MKL multiplies up to 1.5 times faster as M X^T than as X M^T; for others it is the other way round."""

Draw = Callable[[int, int, npt.NDArray[np.float32]], None]
"""Fills rows with entries of mean 0 and variance 1, from the seed and the block's index. The first rows of a block do
not depend on how many are asked for."""


class RandomMatrix(LinearOperator):
    """y = M x with independent entries of mean 0 in M, of shape (m, n), n = prod(in_shape); see the subclasses.

    ``A(x)`` maps ``(*batch, *in_shape)`` to ``(*batch, m)``. The normalisation sets the variance of an entry:

    - ``"1/m"`` (default): E|A x|^2 = |x|^2, as in Bora et al. 2017 (CSGM, Theorem 1.1) and in Wu et al. 2023 (LIP).
    - ``"1"``: E|A x|^2 = m |x|^2, as in CSGM's published code. The same noise sigma then means another SNR.

    The storage changes memory and time, and no number:

    - ``"dense"``: M is the float32 buffer ``matrix`` (4 m n bytes), which ``A.to(...)`` moves and casts. Applying takes
      2 m n operations for every image.
    - ``"regenerated"``: every use draws M again, some blocks of 16 rows at a time on torch's number of threads, so it
      takes 64 n bytes a thread, the time of a construction for a whole batch, and input of any floating dtype;
      ``matrix`` is None.

    Left out, the storage is dense while M takes at most 1 GiB. It is no part of the recipe, nor is M: the state of the
    operator is its recipe, so ``state_dict`` leaves the matrix out. Row i depends on the seed and i alone (up to the
    normalisation): fewer measurements with one seed are the first ones of more.
    """

    matrix: Tensor | None

    def __init__(
        self,
        in_shape: Sequence[int],
        m: int,
        draw: Draw,
        *,
        seed: int,
        normalisation: str,
        storage: str | None,
    ) -> None:
        in_shape = checked_shape(in_shape)
        m = checked_m(m, 1, math.prod(in_shape))
        super().__init__(in_shape, (m,))
        self.seed = checked_seed(seed)
        self.normalisation = checked_normalisation(normalisation)
        if storage not in ("dense", "regenerated", None):
            raise ValueError(f"the storage must be 'dense', 'regenerated' or None, got {storage!r}; try None")
        self.storage = storage or ("dense" if 4 * m * self.n <= LARGEST_DENSE else "regenerated")
        self._draw = draw
        self.register_buffer("matrix", self._dense() if self.storage == "dense" else None, persistent=False)

    def extra_repr(self) -> str:
        arguments = {key: value for key, value in self.recipe().items() if key not in ("format", "kind", "in_shape")}
        return ", ".join([str(self.in_shape), *(f"{key}={value!r}" for key, value in arguments.items())])

    def _recipe(self, kind: str) -> dict[str, Any]:
        return {
            "format": RECIPE_FORMAT,
            "kind": kind,
            "in_shape": list(self.in_shape),
            "m": self.m,
            "seed": self.seed,
            "normalisation": self.normalisation,
        }

    def _apply_forward(self, x: Tensor) -> Tensor:
        x = x.flatten(-len(self.in_shape))
        if self.matrix is not None:
            return _product(x, self.matrix)
        y = x.new_empty((*x.shape[:-1], self.m))
        for rows, part in self._parts():
            y[..., rows] = _product(x, part.to(x))
        return y

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        if self.matrix is not None:
            return (y @ self.matrix).reshape(*y.shape[:-1], *self.in_shape)
        x = y.new_zeros((y.shape[:-1].numel(), self.n))
        for rows, part in self._parts():
            x.addmm_(y[..., rows].reshape(len(x), len(part)), part.to(y))
        return x.reshape(*y.shape[:-1], *self.in_shape)

    def _dense(self) -> Tensor:
        try:
            matrix = torch.empty((self.m, self.n), dtype=torch.float32, device="cpu")
        except RuntimeError as error:
            raise ValueError(
                f"a dense matrix of {self.m} x {self.n} takes {4 * self.m * self.n / 2**30:.1f} GiB, which could not "
                "be reserved; try storage='regenerated'"
            ) from error
        with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as threads:
            self._fill(matrix.numpy(), 0, threads)
        return matrix

    def _parts(self) -> Iterator[tuple[slice, Tensor]]:
        """The matrix from top to bottom, as rows and their numbers; the next part overwrites the memory of the last."""
        workers = torch.get_num_threads()
        blocks = max(1, min(workers, LARGEST_BUFFER // (4 * ROWS_PER_BLOCK * self.n)))
        height = min(self.m, blocks * ROWS_PER_BLOCK)
        buffer = torch.empty((height, self.n), dtype=torch.float32, device="cpu")
        with ThreadPoolExecutor(max_workers=workers) as threads:
            for start in range(0, self.m, height):
                part = buffer[: self.m - start]
                self._fill(part.numpy(), start // ROWS_PER_BLOCK, threads)
                yield slice(start, start + len(part)), part

    def _fill(self, rows: npt.NDArray[np.float32], first_block: int, threads: ThreadPoolExecutor) -> None:
        deviation = np.float32(1 / math.sqrt(self.m) if self.normalisation == "1/m" else 1.0)

        # Each block has a stream of its own, so the numbers do not depend on the number of threads, and any block can
        # be drawn again without those before it. NumPy draws without the GIL.
        def fill(block: int) -> None:
            part = rows[block * ROWS_PER_BLOCK : (block + 1) * ROWS_PER_BLOCK]
            self._draw(self.seed, first_block + block, part)
            part *= deviation

        for _ in threads.map(fill, range(math.ceil(len(rows) / ROWS_PER_BLOCK))):
            pass


class Gaussian(RandomMatrix):
    """y = M x with independent normal entries (Bora et al. 2017, Theorem 1.1). See `RandomMatrix` for shapes, storage.

    Drawing takes about 10 ns an entry and thread.

    Args:
        in_shape: shape of one image, any number of axes from 1 to 8.
        m: number of real measurements, 1 <= m <= n.
        seed: integer in [0, 2^63 - 1].
        normalisation: ``"1/m"`` or ``"1"``, the variance of an entry.
        storage: ``"dense"``, ``"regenerated"``, or None for dense up to 1 GiB.

    Raises:
        ValueError: an argument is out of its range, or a dense matrix does not fit into memory.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        m: int,
        *,
        seed: int,
        normalisation: str = "1/m",
        storage: str | None = None,
    ) -> None:
        super().__init__(in_shape, m, _draw_normal, seed=seed, normalisation=normalisation, storage=storage)

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "in_shape", "m", "seed", "normalisation"}``; see `operator_from_recipe`."""
        return self._recipe("gaussian")


class Rademacher(RandomMatrix):
    """y = M x with independent entries +s or -s, equally likely, where s = 1/sqrt(m) or 1 (Baraniuk et al. 2008).

    See `RandomMatrix` for shapes and storage, `Gaussian` for the arguments and what is raised. Drawing takes about half
    a nanosecond an entry and thread, twenty times less than normal entries: the one to take where the matrix is
    regenerated.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        m: int,
        *,
        seed: int,
        normalisation: str = "1/m",
        storage: str | None = None,
    ) -> None:
        super().__init__(in_shape, m, _draw_signs, seed=seed, normalisation=normalisation, storage=storage)

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "in_shape", "m", "seed", "normalisation"}``; see `operator_from_recipe`."""
        return self._recipe("rademacher")


class StudentT(RandomMatrix):
    """y = M x with independent entries of Student's t distribution, scaled to the variance of the normalisation.

    An entry is sqrt((d - 2) / d) T / sqrt(m), or without the last factor, where T has d degrees of freedom: the heavy
    tails of measurements that are not normal (Jalal et al. 2020; Wu et al. 2023). Its fourth moment is infinite for
    d <= 4, so |A x|^2 then comes close to its mean only for many measurements.

    See `RandomMatrix` for shapes and storage, `Gaussian` for the other arguments. Drawing takes about 25 ns an entry
    and thread.

    Args:
        degrees_of_freedom: d, 2 < d <= 1e6; the variance is infinite up to 2.

    Raises:
        ValueError: an argument is out of its range, or a dense matrix does not fit into memory.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        m: int,
        *,
        seed: int,
        degrees_of_freedom: float,
        normalisation: str = "1/m",
        storage: str | None = None,
    ) -> None:
        freedom = checked_number(degrees_of_freedom, "degrees_of_freedom", 2, 1e6, open_below=True, attempt=4)
        draw = partial(_draw_student, freedom)
        super().__init__(in_shape, m, draw, seed=seed, normalisation=normalisation, storage=storage)
        self.degrees_of_freedom = freedom

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "in_shape", "m", "seed", "degrees_of_freedom", "normalisation"}``."""
        return {**self._recipe("student-t"), "degrees_of_freedom": self.degrees_of_freedom}


class LogNormal(RandomMatrix):
    """y = M x with independent log-normal entries, centred and scaled to the variance of the normalisation.

    An entry is (exp(sigma Z) - e) / (e sqrt(exp(sigma^2) - 1)) / sqrt(m), or without the last factor, where Z is
    standard normal and e = exp(sigma^2 / 2) is the mean of exp(sigma Z): skewed, with a heavy tail on the positive
    side, and all moments finite. Computed in float64 and rounded.

    See `RandomMatrix` for shapes and storage, `Gaussian` for the other arguments. Drawing takes about 13 ns an entry
    and thread.

    Args:
        sigma: standard deviation of an entry's logarithm, 0.01 <= sigma <= 3. Below, entries are normal to a percent;
            above, hardly any matrix has a sample variance near the true one.

    Raises:
        ValueError: an argument is out of its range, or a dense matrix does not fit into memory.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        m: int,
        *,
        seed: int,
        sigma: float,
        normalisation: str = "1/m",
        storage: str | None = None,
    ) -> None:
        sigma = checked_number(sigma, "sigma", 0.01, 3, attempt=1)
        draw = partial(_draw_log_normal, sigma)
        super().__init__(in_shape, m, draw, seed=seed, normalisation=normalisation, storage=storage)
        self.sigma = sigma

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "in_shape", "m", "seed", "sigma", "normalisation"}``; see `operator_from_recipe`."""
        return {**self._recipe("log-normal"), "sigma": self.sigma}


def _product(x: Tensor, matrix: Tensor) -> Tensor:
    """x M^T, contiguous, in the order that is faster."""
    if x.shape[:-1].numel() in FEW_ROWS:
        columns = x.reshape(-1, x.shape[-1]).T
        return (matrix @ columns).T.contiguous().reshape(*x.shape[:-1], len(matrix))
    return x @ matrix.T


def _draw_normal(seed: int, block: int, part: npt.NDArray[np.float32]) -> None:
    philox(seed, Stream.FIRST, block).standard_normal(dtype=np.float32, out=part)


_SIGNS_OF_BYTE = 1 - 2 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").astype("f4")


def _draw_signs(seed: int, block: int, part: npt.NDArray[np.float32]) -> None:
    words = philox(seed, Stream.SIGNS, block).bit_generator.random_raw(math.ceil(part.size / 64))
    octets = words.astype("<u8", copy=False).view(np.uint8)
    whole, flat = part.size // 8, part.reshape(-1)
    # Clipping changes no index here, but lets take write in place.
    np.take(_SIGNS_OF_BYTE, octets[:whole], axis=0, out=flat[: 8 * whole].reshape(-1, 8), mode="clip")
    flat[8 * whole :] = _SIGNS_OF_BYTE[octets[whole : whole + 1]].ravel()[: part.size % 8]


def _draw_student(degrees_of_freedom: float, seed: int, block: int, part: npt.NDArray[np.float32]) -> None:
    # T = Z / sqrt(2 G / d) with Z normal and G ~ Gamma(d / 2). Streams of their own let Z and G start at the first row.
    philox(seed, Stream.STUDENT, block).standard_normal(dtype=np.float32, out=part)
    gamma = philox(seed, Stream.GAMMA, block).standard_gamma(degrees_of_freedom / 2, part.shape, dtype=np.float32)
    np.divide(np.float32((degrees_of_freedom - 2) / 2), gamma, out=gamma)
    part *= np.sqrt(gamma, out=gamma)


def _draw_log_normal(sigma: float, seed: int, block: int, part: npt.NDArray[np.float32]) -> None:
    philox(seed, Stream.LOG_NORMAL, block).standard_normal(dtype=np.float32, out=part)
    values = np.multiply(part, sigma, dtype=np.float64)
    np.exp(values, out=values)
    values -= math.exp(sigma**2 / 2)
    values /= math.sqrt(math.exp(sigma**2) * math.expm1(sigma**2))
    part[...] = values
