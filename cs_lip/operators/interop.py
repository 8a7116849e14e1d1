"""To and from the operators of SciPy, PyLops and deepinv.

SciPy's and PyLops' operators act on vectors of numbers of one field, ours on images that are real even where the
measurements are complex. So ``to_scipy`` and ``to_pylops`` give the operator between vectors of *real* numbers, of
shape (A.m, A.n), in which a complex sample is two, re and im: every solver of theirs is then right as it is, and finds
the real image. ``torch.view_as_real(y).flatten()`` is such a vector, and ``vector.view(complex)`` is the way back.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import LinearOperator as SciPyOperator
from torch import Tensor

from cs_lip.operators.arguments import checked_shape
from cs_lip.operators.linear import LinearOperator
from cs_lip.operators.vectors import adjoint_vectors, forward_vectors, home

if TYPE_CHECKING:
    import deepinv
    import pylops

Array = npt.NDArray[Any]


def to_scipy(A: LinearOperator) -> SciPyOperator:
    """``A`` as a ``scipy.sparse.linalg.LinearOperator`` of shape (A.m, A.n) between vectors of real numbers.

    It computes where ``A`` is and in its dtype, float64 where ``A`` holds no numbers; vectors go in and come out as
    NumPy arrays, and a complex one is refused with a ValueError. The result's ``dtype`` is that of the moment: convert
    ``A`` first. Time and memory are those of ``A``, and a copy of each vector. No gradients.

    >>> image, *_ = scipy.sparse.linalg.lsqr(to_scipy(A), y.numpy())  # doctest: +SKIP
    """

    def on_columns(apply: Callable[[LinearOperator, Tensor], Tensor]) -> Callable[[Array], Array]:
        def act(columns: Array) -> Array:
            if np.iscomplexobj(columns):
                raise ValueError(
                    f"the operator maps vectors of real numbers, a complex sample as two, got {columns.dtype}; "
                    "try vector.view(float)"
                )
            vectors = torch.as_tensor(np.ascontiguousarray(columns.T)).to(*home(A))
            with torch.no_grad():
                result: Array = apply(A, vectors).cpu().numpy().T
            return result

        return act

    forward, adjoint = on_columns(forward_vectors), on_columns(adjoint_vectors)
    return SciPyOperator(
        (A.m, A.n), matvec=forward, rmatvec=adjoint, matmat=forward, rmatmat=adjoint, dtype=_numpy_dtype(home(A)[1])
    )


def from_scipy(
    operator: Any,
    in_shape: Sequence[int] | None = None,
    out_shape: Sequence[int] | None = None,
    *,
    in_is_complex: bool | None = None,
) -> LinearOperator:
    """A ``scipy.sparse.linalg.LinearOperator`` L of shape (k, n) as an operator: y = L x, of the flattened image.

    The measurements are complex where L's dtype is, and so is the image; with ``in_is_complex=False`` images are real
    all the same, and the adjoint is Re(L^H y). Tensors pass through NumPy on the CPU, in L's precision, and come back
    in the input's dtype and on its device. Gradients flow, by L's adjoint. Time and memory are those of L, and a copy
    of the input.

    The result has no recipe and pickles if L does.

    Args:
        operator: L, with ``matvec`` and ``rmatvec``.
        in_shape: shape of one image, of n entries; (n,) when left out.
        out_shape: shape of its measurements, of k entries; (k,) when left out.
        in_is_complex: whether images are complex, where L is.

    Raises:
        ValueError: L is no SciPy operator; a shape has another number of entries; complex images of a real L.
    """
    if not isinstance(operator, SciPyOperator):
        raise ValueError(
            f"from_scipy expects a scipy.sparse.linalg.LinearOperator, got {type(operator).__name__}; "
            "try scipy.sparse.linalg.aslinearoperator(matrix)"
        )
    k, n = operator.shape
    shapes = checked_shape(in_shape or (n,)), checked_shape(out_shape or (k,))
    return _Foreign(operator, shapes[0], shapes[1], in_is_complex)


def to_pylops(A: LinearOperator) -> "pylops.LinearOperator":
    """``A`` as a ``pylops.LinearOperator``: as `to_scipy`, with PyLops' ``dims`` and ``dimsd``.

    These are ``in_shape`` and ``out_shape``, with one axis of 2 (re, im) more where complex numbers are.

    Raises:
        ValueError: PyLops is not installed.
    """
    try:
        import pylops
    except ImportError as error:
        raise _missing("to_pylops", "pylops", "PyLops") from error
    dims = (*A.in_shape, 2) if A.in_is_complex else A.in_shape
    dimsd = (*A.out_shape, 2) if A.out_is_complex else A.out_shape
    return pylops.LinearOperator(to_scipy(A), dims=dims, dimsd=dimsd, name=type(A).__name__)


def from_pylops(operator: "pylops.LinearOperator", *, in_is_complex: bool | None = None) -> LinearOperator:
    """A ``pylops.LinearOperator`` as an operator: as `from_scipy`, with PyLops' ``dims`` and ``dimsd`` as shapes.

    Images are real where PyLops says that the operator is not complex-linear (``clinear``), as of ``FFT2D(real=True)``.

    Raises:
        ValueError: it is no PyLops operator; complex images of a real one; PyLops is not installed.
    """
    try:
        import pylops
    except ImportError as error:
        raise _missing("from_pylops", "pylops", "PyLops") from error
    if not isinstance(operator, pylops.LinearOperator):
        raise ValueError(
            f"from_pylops expects a pylops.LinearOperator, got {type(operator).__name__}; "
            "try from_scipy or from_deepinv"
        )
    if in_is_complex is None and not operator.clinear:
        in_is_complex = False
    return _Foreign(operator, checked_shape(operator.dims), checked_shape(operator.dimsd), in_is_complex)


def to_deepinv(A: LinearOperator) -> "deepinv.physics.LinearPhysics":
    """``A`` as a ``deepinv.physics.LinearPhysics``, without noise (``set_noise_model`` adds some).

    ``physics.A`` and ``physics.A_adjoint`` map one batch axis and are differentiable; ``physics.to(...)`` moves ``A``
    itself, which is shared and not copied. deepinv's own methods, such as ``A_dagger`` and ``prox_l2``, run on these.

    Raises:
        ValueError: deepinv is not installed.
    """
    try:
        from deepinv.physics import LinearPhysics
    except ImportError as error:
        raise _missing("to_deepinv", "deepinv", "deepinv") from error
    physics = LinearPhysics(A=_IgnoringKeywords(A.forward), A_adjoint=_IgnoringKeywords(A.adjoint), img_size=A.in_shape)
    physics.operator = A
    return physics


def from_deepinv(physics: "deepinv.physics.LinearPhysics", in_shape: Sequence[int]) -> LinearOperator:
    """A ``deepinv.physics.LinearPhysics`` as an operator: y = physics.A(x), without its noise.

    ``out_shape``, and whether measurements are complex, are found by measuring a black image. Gradients flow, by
    physics' own adjoint; `dot_test` says whether that is one. The physics is shared and not copied. Time and memory are
    those of the physics. The result has no recipe.

    Args:
        physics: with ``A`` and ``A_adjoint``.
        in_shape: (channels, height, width) of one image.

    Raises:
        ValueError: it is no linear physics; it cannot measure images of this shape; it gives a list of tensors.
    """
    try:
        from deepinv.physics import LinearPhysics
    except ImportError as error:
        raise _missing("from_deepinv", "deepinv", "deepinv") from error
    if not isinstance(physics, LinearPhysics):
        raise ValueError(
            f"from_deepinv expects a deepinv LinearPhysics, got {type(physics).__name__}; try a physics that is linear"
        )
    return _FromDeepinv(physics, checked_shape(in_shape))


class _Foreign(LinearOperator):
    """An operator of SciPy or PyLops, which act on NumPy arrays."""

    def __init__(
        self, operator: Any, in_shape: tuple[int, ...], out_shape: tuple[int, ...], in_is_complex: bool | None
    ) -> None:
        k, n = operator.shape
        if (math.prod(out_shape), math.prod(in_shape)) != (k, n):
            raise ValueError(
                f"an operator of shape {(k, n)} does not map images of shape {in_shape} to measurements of shape "
                f"{out_shape}; try shapes of {n} and {k} entries"
            )
        self_dtype = np.dtype(operator.dtype or float)
        is_complex = self_dtype.kind == "c"
        if in_is_complex and not is_complex:
            raise ValueError(f"an operator of {self_dtype} takes real images only, expected a complex one; try False")
        super().__init__(
            in_shape,
            out_shape,
            in_is_complex=is_complex if in_is_complex is None else in_is_complex,
            out_is_complex=is_complex,
        )
        self.operator = operator
        self.single = self_dtype in (np.float32, np.complex64)

    def _apply_forward(self, x: Tensor) -> Tensor:
        return self._through_numpy(self.operator.matmat, x, self.in_shape, self.out_shape, self.out_is_complex)

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        return self._through_numpy(self.operator.rmatmat, y, self.out_shape, self.in_shape, self.in_is_complex)

    def _through_numpy(
        self,
        apply: Callable[[Array], Array],
        values: Tensor,
        shape: tuple[int, ...],
        to_shape: tuple[int, ...],
        is_complex: bool,
    ) -> Tensor:
        real = torch.float32 if self.single else torch.float64
        own = values.to("cpu", real.to_complex() if values.is_complex() else real).resolve_conj().resolve_neg()
        batch = values.shape[: values.dim() - len(shape)]
        result = np.ascontiguousarray(apply(own.reshape(-1, math.prod(shape)).numpy().T).T)
        # A copy, since an operator such as the identity may hand out its input.
        tensor = torch.as_tensor(np.array(result if is_complex else result.real))
        dtype = values.dtype.to_real().to_complex() if is_complex else values.dtype.to_real()
        return tensor.to(values.device, dtype).reshape(*batch, *to_shape)


class _FromDeepinv(LinearOperator):
    """A linear physics of deepinv, which acts on tensors with one batch axis."""

    def __init__(self, physics: "deepinv.physics.LinearPhysics", in_shape: tuple[int, ...]) -> None:
        held = next((numbers for numbers in physics.buffers() if numbers.is_floating_point()), torch.zeros(1))
        try:
            with torch.no_grad():
                response = physics.A(torch.zeros(1, *in_shape, device=held.device, dtype=held.dtype))
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise ValueError(
                f"{type(physics).__name__} cannot measure images of shape {in_shape} ({str(error).splitlines()[0]}); "
                "try the shape that it was made for"
            ) from error
        if not isinstance(response, Tensor):
            raise ValueError(
                f"{type(physics).__name__} gives a {type(response).__name__}, expected one tensor; "
                "try vstack of its parts"
            )
        super().__init__(in_shape, tuple(response.shape[1:]), out_is_complex=response.is_complex())
        self.physics = physics

    def _apply_forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.physics.A(x.reshape(-1, *self.in_shape))
        return _fresh(result, x).reshape(*x.shape[: x.dim() - len(self.in_shape)], *self.out_shape)

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        result: Tensor = self.physics.A_adjoint(y.reshape(-1, *self.out_shape))
        result = result.real if result.is_complex() else result
        return _fresh(result, y).reshape(*y.shape[: y.dim() - len(self.out_shape)], *self.in_shape)


class _IgnoringKeywords:
    """deepinv passes the parameters of every physics on to each; an operator has none that change."""

    def __init__(self, apply: Callable[[Tensor], Tensor]) -> None:
        self.apply = apply

    def __call__(self, values: Tensor, **_: object) -> Tensor:
        return self.apply(values)


def _fresh(result: Tensor, values: Tensor) -> Tensor:
    """The result in memory of its own."""
    return result.clone() if result.untyped_storage().data_ptr() == values.untyped_storage().data_ptr() else result


def _numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    return np.dtype(np.float64 if dtype == torch.float64 else np.float32)


def _missing(function: str, extra: str, name: str) -> ValueError:
    return ValueError(f"{function} needs {name}, which is not installed; try pip install 'cs-lip[{extra}]'")
