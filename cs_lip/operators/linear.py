"""The contract of a linear operator. What its algebra makes is in algebra.py, and what its analysis does in analysis.py
and pseudo_inverse.py."""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from cs_lip.operators import analysis, pseudo_inverse

# Raised whenever a recipe of an older version would build other numbers.
RECIPE_FORMAT = 1


class _Apply(torch.autograd.Function):
    """A linear map is its own tangent and its adjoint is its gradient, so no tensor is stored for the way back.

    PyTorch's gradient of a real loss by a complex y is dL/dRe y + i dL/dIm y, which makes the adjoint in the real inner
    product Re sum(conj(a) b) exactly the vector-Jacobian product, for real and complex measurements alike.
    """

    @staticmethod
    def forward(operator: "LinearOperator", adjoint: bool, x: Tensor) -> Tensor:
        return _computed(operator, adjoint, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.operator, ctx.adjoint, _ = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        return None, None, _apply(ctx.operator, not ctx.adjoint, gradient)

    @staticmethod
    def jvp(ctx: Any, _operator: None, _adjoint: None, tangent: Tensor) -> Tensor:
        return _apply(ctx.operator, ctx.adjoint, tangent)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], operator: "LinearOperator", adjoint: bool, x: Tensor) -> Any:
        return _apply(operator, adjoint, x.movedim(in_dims[2], 0)), 0


# PyTorch asks for this signature at every call, and working it out takes twice as long as the rest of the call.
_Apply.forward.__signature__ = inspect.signature(_Apply.forward)  # type: ignore[attr-defined]


def _apply(operator: "LinearOperator", adjoint: bool, x: Tensor) -> Tensor:
    if _is_followed(x):
        result: Tensor = _Apply.apply(operator, adjoint, x)
        return result
    return _computed(operator, adjoint, x)


def _computed(operator: "LinearOperator", adjoint: bool, x: Tensor) -> Tensor:
    if x.numel() == 0:
        return _of_nothing(operator.H if adjoint else operator, x)
    return operator._apply_adjoint(x) if adjoint else operator._apply_forward(x)


def _of_nothing(operator: "LinearOperator", x: Tensor) -> Tensor:
    """What an empty batch is mapped to, which Fourier transforms would refuse."""
    batch = x.shape[: x.dim() - len(operator.in_shape)]
    dtype = x.dtype.to_complex() if operator.out_is_complex else x.dtype.to_real()
    return x.new_zeros((*batch, *operator.out_shape), dtype=dtype)


def _is_followed(x: Tensor) -> bool:
    """Whether autograd, a tangent or a `torch.func` transform follows ``x`` through this call.

    Where none does, the call goes without `_Apply`, which takes 15 microseconds, as long as a small transform itself.
    These are the questions that PyTorch's own ``Function.apply`` asks; it has no public names for them.
    """
    return (
        (x.requires_grad and torch.is_grad_enabled())
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


class LinearOperator(nn.Module, ABC):
    """A linear map ``A`` from images to measurements.

    ``A(x)`` maps ``(*batch, *in_shape)`` to ``(*batch, *out_shape)`` and ``A.adjoint(y)`` maps back, for any batch.
    Inner products are real, ``<a, b> = Re sum(conj(a) b)``, and ``<A x, y> = <x, A^H y>``. Images are real;
    measurements are complex where ``out_is_complex``, and then a complex sample counts as two of the ``m`` real
    measurements.

    Device and dtype follow the module and its input: a matrix-free operator takes float32 and float64 (some take half
    precision too), one that holds numbers takes their dtype (``A.to(dtype)`` changes it). Gradients, double
    gradients and tangents are those of the linear map, computed with the adjoint and the operator itself;
    ``torch.func`` transforms work.

    A subclass passes its shapes to ``__init__`` and implements ``_apply_forward`` and ``_apply_adjoint``, which get
    checked tensors with any number of leading batch axes and must return a new tensor.

    Algebra: ``A.H`` (adjoint), ``A.gram`` (A^H A), ``A @ B``, ``A + B``, ``A - B``, ``c * A``, ``-A`` and `vstack`. The
    results share the numbers of their operands. Analysis: ``A.to_matrix()``, ``A.norm()``, ``A.condition_number()``,
    ``A.pinv(y)``.

    Raises:
        ValueError: the input of ``A(x)`` or ``A.adjoint(y)`` is not a tensor, or has another trailing shape, dtype or
            device; operands of the algebra whose shapes do not fit; a subclass passes a shape without axes.
    """

    # numpy scalars and arrays leave `c * A` to __rmul__ instead of treating A as an array of objects.
    __array_ufunc__ = None

    if TYPE_CHECKING:

        def __call__(self, x: Tensor) -> Tensor: ...

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        *,
        in_is_complex: bool = False,
        out_is_complex: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.out_shape = tuple(out_shape)
        if not self.in_shape or not self.out_shape:
            raise ValueError(
                f"an operator needs shapes of one axis or more, got {self.in_shape} to {self.out_shape}; try (1,) for "
                "a single number"
            )
        self.in_is_complex = in_is_complex
        self.out_is_complex = out_is_complex

    @property
    def n(self) -> int:
        """Number of real unknowns."""
        return math.prod(self.in_shape) * (2 if self.in_is_complex else 1)

    @property
    def m(self) -> int:
        """Number of real measurements; a complex sample counts as two."""
        return math.prod(self.out_shape) * (2 if self.out_is_complex else 1)

    @abstractmethod
    def _apply_forward(self, x: Tensor) -> Tensor:
        """``(*batch, *in_shape)`` to ``(*batch, *out_shape)``."""

    @abstractmethod
    def _apply_adjoint(self, y: Tensor) -> Tensor:
        """``(*batch, *out_shape)`` to ``(*batch, *in_shape)``."""

    def forward(self, x: Tensor) -> Tensor:
        """A x, of shape ``(*batch, *out_shape)``, for ``x`` of shape ``(*batch, *in_shape)``."""
        self._check(x, self.in_shape, self.in_is_complex)
        return _apply(self, False, x)

    def adjoint(self, y: Tensor) -> Tensor:
        """A^H y, of shape ``(*batch, *in_shape)``, for ``y`` of shape ``(*batch, *out_shape)``."""
        self._check(y, self.out_shape, self.out_is_complex)
        return _apply(self, True, y)

    def recipe(self) -> dict[str, Any]:
        """What `operator_from_recipe` needs to build the same operator again, as JSON-able values.

        Raises:
            ValueError: this kind of operator has none, or an expression nests more than 64 operators deep.
        """
        raise ValueError(
            f"a {type(self).__name__} operator has no recipe; try one of the operators that come with cs-lip"
        )

    @property
    def H(self) -> "LinearOperator":
        """The adjoint as an operator; ``A.H.H is A``."""
        from cs_lip.operators.algebra import Adjoint

        return Adjoint(self)

    @property
    def gram(self) -> "LinearOperator":
        """A^H A, from images to images."""
        return self.H @ self

    def to_matrix(self) -> Tensor:
        """The matrix M with ``A(x).flatten() = M @ x.flatten()``, of shape (prod(out_shape), prod(in_shape)).

        It is complex where the measurements are, on the operator's device and in its dtype (float64 where it holds no
        numbers). Time: min(m, n) applications, in batches; memory: the matrix, twice while it is put together.

        Raises:
            ValueError: the matrix has more than 2^28 entries; the operator takes complex numbers but is linear over the
                real ones only, as x -> Re(F^H x) is.
        """
        return analysis.to_matrix(self)

    def norm(self, *, tolerance: float = 1e-4, seed: int = 0) -> float:
        """The norm of A, its largest singular value: max |A x| / |x|. (Not the square, which some packages return.)

        By Golub-Kahan bidiagonalisation from a start that the seed draws (Golub & Kahan 1965). The result is at most
        the norm, up to rounding, and within the relative ``tolerance`` of a singular value of A, which is the largest
        one unless the start happens to be almost orthogonal to it. Time: k applications of A and A^H and 4 k^2 (m + n)
        for k <= 300 steps; memory: 300 (m + n) numbers at most.

        Warns:
            RuntimeWarning: the steps did not suffice, and the result is a bound from below.
        """
        return analysis.norm(self, tolerance, seed)

    def condition_number(self, *, tolerance: float = 1e-4, seed: int = 0) -> float:
        """The condition number |A| |A^+|: the largest singular value over the smallest one that is not zero.

        So an operator that loses some images altogether, as every one with m < n does, has a finite condition number,
        that of recovery by `pinv` (Bjorck 1996, section 1.4). Where m n min(m, n) <= 2^32 it comes from a dense
        singular value decomposition in float64; otherwise as in `norm`, whose ``tolerance`` and ``seed`` these are.
        A value counts as zero below max(m, n) eps of the largest, or in the second case below sqrt(max(m, n)) eps, with
        the eps of float64 in the first case: a matrix that was made in float32 and should have a lower rank has it only
        up to rounding, and counts as what it is.

        Raises:
            ValueError: the operator maps every image to zero.

        Warns:
            RuntimeWarning: the steps did not suffice, and the result is a bound from below.
        """
        return analysis.condition_number(self, tolerance, seed)

    def pinv(self, y: Tensor, *, tolerance: float = 1e-6, max_iterations: int = 1000) -> Tensor:
        """A^+ y, the image of least norm among those that minimise |A x - y|, for any batch of measurements.

        By LSQR (Paige & Saunders 1982): it stops where |A x - y| is ``tolerance`` times |y| + |A| |x|, or where
        |A^H r| is ``tolerance`` times |A| |r| for the residual r, each image for itself. Differentiable in y, backward
        and forward, by one more solve, but not under ``torch.func.vmap``, whose members stop each by itself. Time:
        one A and one A^H an iteration; memory: a few images and measurements.

        Args:
            y: ``(*batch, *out_shape)``, of the operator's dtype and device.
            tolerance: positive; below the rounding of y's dtype it is never reached.
            max_iterations: at least 1.

        Returns:
            ``(*batch, *in_shape)``, not clipped to any range.

        Raises:
            ValueError: y does not fit the operator or is not finite; an argument is out of its range.

        Warns:
            RuntimeWarning: some image did not get there within ``max_iterations``.
        """
        return pseudo_inverse.pinv(self, y, tolerance, max_iterations)

    def __matmul__(self, other: "LinearOperator") -> "LinearOperator":
        from cs_lip.operators.algebra import Composition

        return Composition(self, other) if isinstance(other, LinearOperator) else NotImplemented

    def __add__(self, other: "LinearOperator") -> "LinearOperator":
        from cs_lip.operators.algebra import Sum

        return Sum(self, other) if isinstance(other, LinearOperator) else NotImplemented

    def __sub__(self, other: "LinearOperator") -> "LinearOperator":
        return self + -other if isinstance(other, LinearOperator) else NotImplemented

    def __mul__(self, scalar: float) -> "LinearOperator":
        from cs_lip.operators.algebra import Scaled

        if not isinstance(scalar, Real | float):
            return NotImplemented
        return Scaled(float(scalar), self)

    __rmul__ = __mul__

    def __neg__(self) -> "LinearOperator":
        return self * -1

    def extra_repr(self) -> str:
        return f"in_shape={self.in_shape}, out_shape={self.out_shape}"

    def _check(self, x: Tensor, shape: tuple[int, ...], is_complex: bool) -> None:
        name = type(self).__name__
        if not isinstance(x, Tensor):
            raise ValueError(f"{name} expects a torch tensor, got {type(x).__name__}; try torch.as_tensor(x)")
        if not (x.is_floating_point() or x.is_complex()):
            raise ValueError(
                f"{name} expects floating-point values, got {x.dtype}; try x.float(), divided by its range"
            )
        if x.is_complex() != is_complex:
            expected, attempt = ("complex", "torch.complex(re, im)") if is_complex else ("real", "x.real")
            raise ValueError(f"{name} expects {expected} values here, got {x.dtype}; try {attempt}")
        if tuple(x.shape[-len(shape) :]) != shape:
            raise ValueError(
                f"{name} expects a tensor of shape (*batch, {', '.join(map(str, shape))}), got {tuple(x.shape)}; "
                "try to reshape it or to build the operator for this shape"
            )
        for numbers in self.buffers():
            if numbers.device != x.device:
                raise ValueError(f"{name} is on {numbers.device}, its input on {x.device}; try A.to(x.device)")
            if numbers.is_floating_point() and numbers.dtype != x.dtype.to_real():
                raise ValueError(f"{name} holds {numbers.dtype}, got {x.dtype}; try A.to({x.dtype.to_real()})")
