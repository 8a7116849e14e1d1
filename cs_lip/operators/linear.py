"""The contract of a linear operator, and its algebra."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

# Raised whenever a recipe of an older version would build other numbers.
RECIPE_FORMAT = 1


class _Apply(torch.autograd.Function):
    """A linear map is its own tangent and its adjoint is its gradient, so no tensor is stored for the way back.

    PyTorch's gradient of a real loss by a complex y is dL/dRe y + i dL/dIm y, which makes the adjoint in the real inner
    product Re sum(conj(a) b) exactly the vector-Jacobian product, for real and complex measurements alike.
    """

    @staticmethod
    def forward(operator: "LinearOperator", adjoint: bool, x: Tensor) -> Tensor:
        return operator._apply_adjoint(x) if adjoint else operator._apply_forward(x)

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


def _apply(operator: "LinearOperator", adjoint: bool, x: Tensor) -> Tensor:
    result: Tensor = _Apply.apply(operator, adjoint, x)
    return result


class LinearOperator(nn.Module, ABC):
    """A linear map ``A`` from images to measurements.

    ``A(x)`` maps ``(*batch, *in_shape)`` to ``(*batch, *out_shape)`` and ``A.adjoint(y)`` maps back, for any batch.
    Inner products are real, <a, b> = Re sum(conj(a) b), and <A x, y> = <x, A^H y>. Images are real; measurements are
    complex where ``out_is_complex``, and then a complex sample counts as two of the ``m`` real measurements.

    Device and dtype follow the module and its input: a matrix-free operator takes any floating dtype, one that holds
    numbers takes its own (``A.to(dtype)`` changes it). Gradients, double gradients and tangents are those of the linear
    map, computed with the adjoint and the operator itself; ``torch.func`` transforms work.

    A subclass passes its shapes to ``__init__`` and implements ``_apply_forward`` and ``_apply_adjoint``, which get
    checked tensors with any number of leading batch axes and must return a new tensor.

    Algebra: ``A.H`` (adjoint), ``A.gram`` (A^H A), ``A @ B``, ``A + B``, ``A - B``, ``c * A``, ``-A`` and `vstack`. The
    results share the numbers of their operands.

    Raises:
        ValueError: the input of ``A(x)`` or ``A.adjoint(y)`` is not a tensor, or has another trailing shape, dtype or
            device; operands of the algebra whose shapes do not fit.
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
            ValueError: this operator is an expression of others and has no recipe of its own.
        """
        raise ValueError(f"a {type(self).__name__} operator has no recipe; try to save the recipes of its parts")

    @property
    def H(self) -> "LinearOperator":
        """The adjoint as an operator; ``A.H.H is A``."""
        return Adjoint(self)

    @property
    def gram(self) -> "LinearOperator":
        """A^H A, from images to images."""
        return self.H @ self

    def __matmul__(self, other: "LinearOperator") -> "LinearOperator":
        return Composition(self, other) if isinstance(other, LinearOperator) else NotImplemented

    def __add__(self, other: "LinearOperator") -> "LinearOperator":
        return Sum(self, other) if isinstance(other, LinearOperator) else NotImplemented

    def __sub__(self, other: "LinearOperator") -> "LinearOperator":
        return Sum(self, -other) if isinstance(other, LinearOperator) else NotImplemented

    def __mul__(self, scalar: float) -> "LinearOperator":
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


class _Expression(LinearOperator):
    """An operator made of others: it takes what ``first`` takes and gives what ``last`` gives."""

    def __init__(self, first: LinearOperator, last: LinearOperator) -> None:
        super().__init__(
            first.in_shape, last.out_shape, in_is_complex=first.in_is_complex, out_is_complex=last.out_is_complex
        )


class Adjoint(_Expression):
    """A^H, written ``A.H``."""

    def __init__(self, operator: LinearOperator) -> None:
        LinearOperator.__init__(
            self,
            operator.out_shape,
            operator.in_shape,
            in_is_complex=operator.out_is_complex,
            out_is_complex=operator.in_is_complex,
        )
        self.operator = operator

    @property
    def H(self) -> LinearOperator:
        return self.operator

    def _apply_forward(self, x: Tensor) -> Tensor:
        return self.operator._apply_adjoint(x)

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        return self.operator._apply_forward(y)


class Composition(_Expression):
    """x -> A (B x), written ``A @ B``; its adjoint is B^H A^H."""

    def __init__(self, outer: LinearOperator, inner: LinearOperator) -> None:
        _check_same("A @ B", _domain(outer), _range(inner))
        super().__init__(inner, outer)
        self.outer = outer
        self.inner = inner

    def _apply_forward(self, x: Tensor) -> Tensor:
        return self.outer._apply_forward(self.inner._apply_forward(x))

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        return self.inner._apply_adjoint(self.outer._apply_adjoint(y))


class Sum(_Expression):
    """x -> A x + B x, written ``A + B``; its adjoint is A^H + B^H."""

    def __init__(self, left: LinearOperator, right: LinearOperator) -> None:
        _check_same("A + B", _domain(left), _domain(right))
        _check_same("A + B", _range(left), _range(right))
        super().__init__(left, left)
        self.left = left
        self.right = right

    def _apply_forward(self, x: Tensor) -> Tensor:
        return self.left._apply_forward(x) + self.right._apply_forward(x)

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        return self.left._apply_adjoint(y) + self.right._apply_adjoint(y)


class Scaled(_Expression):
    """x -> c A x for a real number c, written ``c * A``; its adjoint is c A^H."""

    def __init__(self, scalar: float, operator: LinearOperator) -> None:
        if not math.isfinite(scalar):
            raise ValueError(f"c * A needs a finite real number c, got {scalar}; try 1.0")
        super().__init__(operator, operator)
        self.scalar = scalar
        self.operator = operator

    def _apply_forward(self, x: Tensor) -> Tensor:
        return self.scalar * self.operator._apply_forward(x)

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        return self.scalar * self.operator._apply_adjoint(y)


class Stack(LinearOperator):
    """x -> (A x, B x, ...), each flattened; see `vstack`."""

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        if not operators:
            raise ValueError("vstack needs at least one operator, got none; try vstack([A, B])")
        first = operators[0]
        for operator in operators[1:]:
            _check_same("vstack", _domain(first), _domain(operator))
            if operator.out_is_complex != first.out_is_complex:
                raise ValueError("vstack got both real and complex measurements; try one stack for each of the two")
        sizes = [math.prod(operator.out_shape) for operator in operators]
        super().__init__(
            first.in_shape,
            (sum(sizes),),
            in_is_complex=first.in_is_complex,
            out_is_complex=first.out_is_complex,
        )
        self.operators = nn.ModuleList(operators)
        self._sizes = sizes

    def _parts(self) -> list[LinearOperator]:
        return [operator for operator in self.operators if isinstance(operator, LinearOperator)]

    def _apply_forward(self, x: Tensor) -> Tensor:
        return torch.cat([A._apply_forward(x).flatten(-len(A.out_shape)) for A in self._parts()], dim=-1)

    def _apply_adjoint(self, y: Tensor) -> Tensor:
        parts = zip(self._parts(), torch.split(y, self._sizes, dim=-1), strict=True)
        first, *rest = (A._apply_adjoint(part.reshape(*y.shape[:-1], *A.out_shape)) for A, part in parts)
        return sum(rest, start=first)


def vstack(operators: Sequence[LinearOperator]) -> LinearOperator:
    """The operator x -> (A x, B x, ...): all measurements in one vector, of shape ``(*batch, sum of sizes)``.

    Each output is flattened, then they are concatenated in order; the adjoint is A^H y_A + B^H y_B + ...

    Raises:
        ValueError: no operator; operators that take different shapes; real next to complex measurements.
    """
    return Stack(operators)


def _domain(operator: LinearOperator) -> str:
    return f"{'complex' if operator.in_is_complex else 'real'} {operator.in_shape}"


def _range(operator: LinearOperator) -> str:
    return f"{'complex' if operator.out_is_complex else 'real'} {operator.out_shape}"


def _check_same(what: str, expected: str, got: str) -> None:
    if got != expected:
        raise ValueError(f"{what} needs operators that fit, expected {expected}, got {got}; try operators of one shape")
