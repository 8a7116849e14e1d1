"""Any matrix as an operator: dense or sparse, real or complex."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
from torch import Tensor, nn

from cs_lip.operators.arguments import checked_shape
from cs_lip.operators.encoding import decode_array, encode_array
from cs_lip.operators.linear import RECIPE_FORMAT, LinearOperator

DTYPES = ("float32", "float64", "complex64", "complex128")


class MatrixOperator(LinearOperator):
    """y = M x for a given matrix M of shape (rows, columns): ``(*batch, *in_shape)`` to ``(*batch, rows)``.

    The image is flattened in row-major order. Nothing is normalised: the numbers of M are used as they are, in their
    own precision (``A.to(dtype)`` changes it). A complex M gives complex measurements, each counted as two, of real
    images, and the adjoint is then Re(M^H y); with ``in_is_complex=True`` images are complex and the adjoint is M^H y.

    A dense M takes O(rows columns) time; a real, contiguous one is not copied and shares its memory with the caller's,
    a complex one is kept as its real part above its imaginary part, so that one real product applies both. A sparse M
    stays sparse: compressed rows of M and of M^T, about 16 bytes per non-zero (float32), and O(non-zeros) time.

    Args:
        matrix: numpy array, torch tensor, or scipy.sparse matrix or array, two-dimensional, of float32, float64,
            complex64 or complex128, finite.
        in_shape: shape of one image, with a product of ``columns``; (columns,) when left out.
        in_is_complex: whether images are complex.

    Raises:
        ValueError: the matrix is none of these, is empty or not finite, or does not fit ``in_shape``.
    """

    def __init__(
        self,
        matrix: npt.NDArray[Any] | Tensor | Any,
        in_shape: Sequence[int] | None = None,
        *,
        in_is_complex: bool = False,
    ) -> None:
        matrix = _checked_matrix(matrix)
        rows, columns = matrix.shape
        in_shape = checked_shape((columns,) if in_shape is None else in_shape)
        if math.prod(in_shape) != columns:
            raise ValueError(
                f"a matrix of {rows} x {columns} takes images of {columns} numbers, got in_shape {in_shape}; "
                f"try in_shape ({columns},)"
            )
        sparse = not isinstance(matrix, Tensor)
        is_complex = matrix.dtype.kind == "c" if sparse else matrix.is_complex()
        out_is_complex = is_complex or bool(in_is_complex)
        super().__init__(in_shape, (rows,), in_is_complex=bool(in_is_complex), out_is_complex=out_is_complex)
        self._matrix_is_complex = is_complex
        # The real part of M above its imaginary part: a real matrix that does all the work.
        self.parts: _Dense | _Sparse = _Sparse(_stacked_sparse(matrix)) if sparse else _Dense(_stacked_dense(matrix))

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "in_shape", "in_is_complex", "matrix"}``; see `operator_from_recipe`.

        A dense matrix is one encoded array, a sparse one the encoded arrays ``indptr``, ``indices`` and ``data`` of its
        compressed rows.
        """
        return {
            "format": RECIPE_FORMAT,
            "kind": "matrix",
            "in_shape": list(self.in_shape),
            "in_is_complex": self.in_is_complex,
            "matrix": self.parts.encode(self.out_shape[0], self._matrix_is_complex),
        }

    def extra_repr(self) -> str:
        numbers = "complex" if self._matrix_is_complex else "real"
        return f"{numbers} {self.out_shape[0]} x {math.prod(self.in_shape)}, in_shape={self.in_shape}"

    def _apply_forward(self, x: Tensor) -> Tensor:
        x = x.flatten(-len(self.in_shape))
        batch, columns, rows = x.shape[:-1], x.shape[-1], self.out_shape[0]
        if not self.out_is_complex:
            return self.parts.times(x.reshape(-1, columns)).reshape(*batch, rows)
        if not self.in_is_complex:
            real, imag = self.parts.times(x.reshape(-1, columns)).reshape(*batch, 2, rows).unbind(-2)
            return torch.complex(real, imag)
        pairs = torch.stack([x.real, x.imag]).reshape(-1, columns)
        products = self.parts.times(pairs)
        if not self._matrix_is_complex:
            real, imag = products.reshape(2, *batch, rows)
            return torch.complex(real, imag)
        of_real, of_imag = products.reshape(2, *batch, 2, rows)
        return torch.complex(
            of_real[..., 0, :] - of_imag[..., 1, :],
            of_real[..., 1, :] + of_imag[..., 0, :],
        )

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        batch = y.shape[:-1]
        if not self.out_is_complex:
            return self.parts.transposed_times(y.reshape(-1, y.shape[-1])).reshape(*batch, *self.in_shape)
        # M^H y = (Re M)^T Re y + (Im M)^T Im y + i ((Re M)^T Im y - (Im M)^T Re y)
        real, imag = y.real, y.imag
        if self._matrix_is_complex:
            real, imag = torch.cat([y.real, y.imag], -1), torch.cat([y.imag, -y.real], -1)
        if not self.in_is_complex:
            return self.parts.transposed_times(real.reshape(-1, real.shape[-1])).reshape(*batch, *self.in_shape)
        pairs = torch.stack([real, imag])
        real, imag = self.parts.transposed_times(pairs.reshape(-1, pairs.shape[-1])).reshape(2, *batch, *self.in_shape)
        return torch.complex(real, imag)


class _Dense(nn.Module):
    """A real matrix R of shape (r, c)."""

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix, persistent=False)

    def times(self, x: Tensor) -> Tensor:
        """R x for each of the rows x of ``(batch, c)``: ``(batch, r)``."""
        return x @ self.matrix.T

    def transposed_times(self, y: Tensor) -> Tensor:
        """R^T y for each of the rows y of ``(batch, r)``: ``(batch, c)``."""
        return y @ self.matrix

    def encode(self, rows: int, is_complex: bool) -> dict[str, Any]:
        matrix = self.matrix.cpu().numpy()
        return encode_array(_as_complex(matrix[:rows], matrix[rows:]) if is_complex else matrix)


class _Sparse(nn.Module):
    """A real matrix R of shape (r, c), as compressed rows of R and of R^T."""

    def __init__(self, matrix: scipy.sparse.csr_array) -> None:
        super().__init__()
        self._shape = matrix.shape
        for name, compressed in (("forward", matrix), ("transposed", matrix.T.tocsr())):
            for part in ("indptr", "indices", "data"):
                numbers = torch.from_numpy(getattr(compressed, part))
                self.register_buffer(f"{name}_{part}", numbers, persistent=False)
        with warnings.catch_warnings():  # that this layout is in beta, which torch says once
            warnings.simplefilter("ignore", UserWarning)
            self._compressed("forward", self._shape)

    def times(self, x: Tensor) -> Tensor:
        """R x for each of the rows x of ``(batch, c)``: ``(batch, r)``."""
        return _sparse_product(self._compressed("forward", self._shape), x)

    def transposed_times(self, y: Tensor) -> Tensor:
        """R^T y for each of the rows y of ``(batch, r)``: ``(batch, c)``."""
        return _sparse_product(self._compressed("transposed", self._shape[::-1]), y)

    def encode(self, rows: int, is_complex: bool) -> dict[str, Any]:
        indptr, indices, data = (
            self.get_buffer(f"forward_{part}").cpu().numpy() for part in ("indptr", "indices", "data")
        )
        if is_complex:  # both parts have the same pattern
            half = len(data) // 2
            indptr, indices, data = indptr[: rows + 1], indices[:half], _as_complex(data[:half], data[half:])
        return {
            "indptr": encode_array(indptr.astype(np.int64)),
            "indices": encode_array(indices.astype(np.int64)),
            "data": encode_array(data),
        }

    def _compressed(self, name: str, shape: tuple[int, ...]) -> Tensor:
        indptr, indices, data = (self.get_buffer(f"{name}_{part}") for part in ("indptr", "indices", "data"))
        return torch.sparse_csr_tensor(indptr, indices, data, shape, check_invariants=False)


def matrix_from_recipe(in_shape: Sequence[int], in_is_complex: bool, matrix: object) -> MatrixOperator:
    """The `MatrixOperator` of a recipe, of one encoded array or those of compressed rows.

    Raises:
        ValueError: the matrix is neither, its rows are not well formed, or an argument does not fit.
    """
    if not isinstance(in_is_complex, bool):
        raise ValueError(f"in_is_complex must be true or false, got {str(in_is_complex)[:40]!r}; try false")
    if not isinstance(matrix, Mapping) or matrix.keys() != {"indptr", "indices", "data"}:
        return MatrixOperator(decode_array(matrix, "matrix", dtypes=DTYPES), in_shape, in_is_complex=in_is_complex)
    indptr, indices = (decode_array(matrix[name], name, dtypes=("int64",)) for name in ("indptr", "indices"))
    data = decode_array(matrix["data"], "data", dtypes=DTYPES)
    shape = (indptr.size - 1, math.prod(checked_shape(in_shape)))
    try:
        sparse = scipy.sparse.csr_array((data, indices, indptr), shape=shape)
        sparse.check_format(full_check=True)
        if indptr[-1] != data.size:  # scipy drops what lies behind the last row
            raise ValueError(f"{data.size} numbers for rows that hold {indptr[-1]}")
    except ValueError as error:
        raise ValueError(
            f"the recipe's matrix holds no compressed rows of shape {shape}; try to write the recipe again"
        ) from error
    return MatrixOperator(sparse, in_shape, in_is_complex=in_is_complex)


def _checked_matrix(matrix: object) -> Any:
    """A strided tensor, or a `scipy.sparse.csr_array` of its own without duplicates."""
    if scipy.sparse.issparse(matrix):
        numbers: Any = matrix
        dtype = numbers.dtype.name
    elif isinstance(matrix, np.ndarray):
        numbers, dtype = matrix, matrix.dtype.name
    elif isinstance(matrix, Tensor) and matrix.layout == torch.strided:
        numbers, dtype = matrix.detach(), str(matrix.dtype).removeprefix("torch.")
    else:
        raise ValueError(
            "a matrix must be a numpy array, a torch tensor that is not sparse or a scipy.sparse matrix, "
            f"got {type(matrix).__name__}; try torch.as_tensor(matrix) or scipy.sparse.csr_array(matrix)"
        )
    shape = tuple(numbers.shape)
    if dtype not in DTYPES or len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"a matrix must be of {', '.join(DTYPES)}, with rows and columns, got {dtype} of shape {shape}; "
            "try matrix.astype('float32')"
        )
    if scipy.sparse.issparse(numbers):
        numbers = scipy.sparse.csr_array(numbers, copy=True)
        numbers.sum_duplicates()
        finite = numbers.nnz > 0 and bool(np.isfinite(numbers.data).all())
    else:
        numbers = _native_tensor(numbers) if isinstance(numbers, np.ndarray) else numbers
        real = torch.view_as_real(numbers.resolve_conj()) if numbers.is_complex() else numbers
        finite = all(bool(extreme.isfinite()) for extreme in real.aminmax())
    if not finite:
        raise ValueError(
            "a matrix must hold finite numbers, got NaN, infinity or no non-zero at all; try numpy.nan_to_num(matrix)"
        )
    return numbers


def _native_tensor(array: npt.NDArray[Any]) -> Tensor:
    # A copy only where torch has no tensor for it: foreign byte order, negative strides, or memory not to be written.
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _stacked_dense(matrix: Tensor) -> Tensor:
    return torch.cat([matrix.real, matrix.imag]) if matrix.is_complex() else matrix.contiguous()


def _stacked_sparse(matrix: Any) -> scipy.sparse.csr_array:
    if matrix.dtype.kind != "c":
        return matrix
    # Not scipy.sparse.vstack of the parts, which may drop zeros: the recipe needs one pattern in both halves.
    indptr = np.concatenate([matrix.indptr, matrix.indptr[1:] + matrix.nnz])
    data = np.concatenate([matrix.data.real, matrix.data.imag])
    shape = (2 * matrix.shape[0], matrix.shape[1])
    return scipy.sparse.csr_array((data, np.tile(matrix.indices, 2), indptr), shape=shape)


def _sparse_product(matrix: Tensor, rows: Tensor) -> Tensor:
    # One vector has a faster product of its own.
    return (matrix @ rows[0])[None] if len(rows) == 1 else (matrix @ rows.T).T


def _as_complex(real: npt.NDArray[Any], imag: npt.NDArray[Any]) -> npt.NDArray[Any]:
    joined = np.empty(real.shape, dtype=np.result_type(real, np.complex64))
    joined.real, joined.imag = real, imag
    return joined
