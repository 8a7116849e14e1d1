"""Images of few cosines or wavelets, picked one after the other."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from cs_lip.operators.vectors import adjoint_vectors
from cs_lip.recovery.baselines.frame import (
    Array,
    Estimate,
    Transform,
    as_array,
    as_tensor,
    check,
    held_out_splits,
    image_by_image,
)
from cs_lip.recovery.problem import Problem
from cs_lip.recovery.solver import Found, Task

if TYPE_CHECKING:
    import pylops

MOST_ENTRIES = 2**26
"""Of the dictionary: 256 MiB, which the held-out measurements and scikit-learn copy."""

MOST_COEFFICIENTS = 2**14
"""Of an image: scikit-learn reserves their square for a path, though it touches little of it."""

SCALED_NORM = 1e3
"""The norm to which measurements are brought: scikit-learn stops at a column whose product with them, squared, is below
the rounding of float32, whatever their size."""

LEAST_NORM = 0.5
"""Of the largest, below which columns are compared at their own norm: noise picks columns that are hardly measured, and
divides by their norm."""

ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class OrthogonalMatchingPursuit:
    """``min_c |A W^H c - y|^2`` over ever more columns of ``A W^H``, each the one most correlated with what is left.

    Columns are compared at unit norm, save those of less than half the largest norm; ``W`` is a transform of `Lasso`.
    How many is chosen on a tenth of the measurements, but at least 10, that takes no part (several random tenths, where
    one has fewer than 100): one run up to the limit shows every number. A last run picks as many, times the ratio of
    the numbers of measurements, from all. With fewer than 20 measurements it is the first number that explains them
    down to the stated noise, or else the limit. Where few measurements hold most of the energy, as in Fourier space, it
    is chance whether they are held out, and the choice is poor.

    Greedy and dense, so for small problems: ``A W^H`` is put together by m applications of A^H, and every column costs
    a product with it. Time: m^2 n for that, and k m n for k columns; memory: three times m n numbers.

    Source: Pati, Rezaiifar & Krishnaprasad, Asilomar 1993; scikit-learn's algorithm is that of Rubinstein, Zibulevsky &
    Elad 2008, with a growing Cholesky factor.

    Attributes:
        transform: ``dct`` or ``wavelet``.
        most_columns: the limit, besides a third of the measurements.
    """

    transform: Transform = "dct"
    most_columns: int = 500

    def recover(self, task: Task) -> Found:
        """See `cs_lip.recovery.Solver`.

        Raises:
            ValueError: images that are complex or no pictures, a fidelity other than least squares, more than 2^26
                entries of A W^H, or more than 2^14 coefficients of an image.
        """
        from cs_lip.recovery.baselines.sparsity import sparsifying

        check(task.problem)
        W, _ = sparsifying(self.transform, task.problem.operator.in_shape)
        _check_size(task.problem.operator.m, W.shape[0])
        with task.trace.timed("dictionary"):
            dictionary = _dictionary(task.problem, W)

        def estimate(problem: Problem, index: int) -> Estimate:
            with task.trace.timed("held-out"):
                columns = self._columns(dictionary, problem, index, task)
            with task.trace.timed("pursuit"):
                path, residuals = self._pursue(dictionary, problem, columns or self._limit(problem), index, task)
            explained = problem.explained(residuals, torch.zeros(len(residuals), dtype=torch.long))
            # Without held-out measurements the discrepancy stops; argmax finds the first that explains them.
            last = len(residuals) - 1 if columns or not explained.any() else int(explained.int().argmax())
            image = as_tensor(problem, W.rmatvec(path[:, last]), *problem.operator.in_shape)
            return Estimate(image, {"columns": last + 1})

        return image_by_image(task, estimate)

    def _limit(self, problem: Problem) -> int:
        return max(1, min(self.most_columns, problem.m // 3))

    def _columns(self, dictionary: Array, problem: Problem, index: int, task: Task) -> int | None:
        """The number of columns that predicts best what was held out; None where nothing can be."""
        errors = []
        for kept, out in held_out_splits(problem, task.seed):
            path, _ = self._pursue(dictionary, kept, self._limit(kept), index, task)
            missed = _rows(dictionary, out) @ path - as_array(out.measurements)[:, None]
            errors.append(np.square(missed, dtype=np.float64).mean(0))
            if task.trace.cancelled:
                break
        if not errors:
            return None
        length = min(len(error) for error in errors)
        best = 1 + int(np.mean([error[:length] for error in errors], axis=0).argmin())
        return min(self._limit(problem), max(1, round(best * problem.m / kept.m)))

    @staticmethod
    def _pursue(
        dictionary: Array, problem: Problem, columns: int, index: int, task: Task
    ) -> tuple[Array, torch.Tensor]:
        """The coefficients ``(k, steps)`` after every step, and their residuals ``(steps, m)``."""
        matrix, y = _rows(dictionary, problem), as_array(problem.measurements)
        path = pursue(matrix, y, columns)
        residuals = as_tensor(problem, (matrix @ path - y[:, None]).T, -1, problem.m)
        relative = problem.relative_residual(residuals[-1:], torch.tensor([0]))
        task.trace.note("pursuit", relative, torch.tensor([index]))
        return path, residuals


def pursue(matrix: Array, y: Array, columns: int) -> Array:
    """The coefficients after 1, 2, ..., ``columns`` steps of orthogonal matching pursuit, by scikit-learn.

    Args:
        matrix: ``(m, k)``.
        y: ``(m,)``.

    Returns:
        ``(k, at most columns)``: fewer, at least one, where no further column adds anything.
    """
    from sklearn.linear_model import orthogonal_mp

    # In double precision, since the squares of what measures a wild image can be too large for single.
    norms, size = np.linalg.norm(matrix, axis=0), float(np.linalg.norm(y.astype(np.float64)))
    if size == 0:
        return np.zeros((matrix.shape[1], 1), np.float32)
    norms = norms.clip(max(LEAST_NORM * float(norms.max()), 1e-30))
    scale = SCALED_NORM / size
    with warnings.catch_warnings():
        # That no further column adds anything is an answer.
        warnings.simplefilter("ignore", RuntimeWarning)
        path: Array = np.asarray(
            orthogonal_mp(
                np.asfortranarray(matrix / norms),
                y * np.float32(scale),
                n_nonzero_coefs=columns,
                precompute=False,
                copy_X=False,
                return_path=True,
            )
        )
    return np.asarray(path.reshape(len(norms), -1) / (norms[:, None] * scale), np.float32)


def _rows(dictionary: Array, problem: Problem) -> Array:
    return dictionary if problem.rows is None else dictionary[problem.rows.cpu().numpy()]


def _dictionary(problem: Problem, W: "pylops.LinearOperator") -> Array:
    """``A W^H``, ``(m, k)``, for all measurements of A."""
    m = problem.operator.m
    result = np.empty((m, W.shape[0]), np.float32)
    for first in range(0, m, ROWS_AT_ONCE):
        rows = torch.arange(first, min(first + ROWS_AT_ONCE, m))
        units = torch.zeros(len(rows), m).index_put_((rows - first, rows), torch.tensor(1.0)).to(problem.measurements)
        with torch.no_grad():
            images = adjoint_vectors(problem.operator, units)
        for row, image in zip(rows.tolist(), images, strict=True):
            result[row] = W.matvec(as_array(image))
    return result


def _check_size(m: int, coefficients: int) -> None:
    if m * coefficients > MOST_ENTRIES or coefficients > MOST_COEFFICIENTS:
        raise ValueError(
            f"orthogonal matching pursuit is for matrices of at most {MOST_ENTRIES} entries and {MOST_COEFFICIENTS} "
            f"columns, got {m} measurements of {coefficients} coefficients; try Lasso(), which needs no matrix"
        )
