"""The algebra of operators: what ``A.H``, ``A @ B``, ``A + B``, ``c * A`` and `vstack` make."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cs_lip.operators.linear import RECIPE_FORMAT, LinearOperator

MAX_DEPTH = 64
"""How deep a recipe may nest; the calls that build, copy and apply an expression are nested a few times as deep."""


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

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "operator"}``, the operator as its own recipe; see `operator_from_recipe`."""
        return expression_recipe("adjoint", operator=self.operator.recipe())

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

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "outer", "inner"}``, both as recipes; see `operator_from_recipe`."""
        return expression_recipe("composition", outer=self.outer.recipe(), inner=self.inner.recipe())

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

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "left", "right"}``, both as recipes; see `operator_from_recipe`."""
        return expression_recipe("sum", left=self.left.recipe(), right=self.right.recipe())

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

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "scalar", "operator"}``, the operator as its own recipe; see `operator_from_recipe`."""
        return expression_recipe("scaled", scalar=self.scalar, operator=self.operator.recipe())

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

    def recipe(self) -> dict[str, Any]:
        """``{"format", "kind", "operators"}``, a list of recipes; see `operator_from_recipe`."""
        return expression_recipe("stack", operators=[operator.recipe() for operator in self._parts()])

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


def expression_recipe(kind: str, **fields: Any) -> dict[str, Any]:
    """The recipe of an operator that is made of others.

    Raises:
        ValueError: it nests more than 64 operators deep.
    """
    recipe = {"format": RECIPE_FORMAT, "kind": kind, **fields}
    if _depth(recipe) > MAX_DEPTH:
        raise ValueError(
            f"this expression nests more than {MAX_DEPTH} operators deep, which no recipe may; "
            "try vstack, which takes any number at once, or save its parts"
        )
    return recipe


def _depth(recipe: dict[str, Any]) -> int:
    parts = [part for value in recipe.values() for part in (value if isinstance(value, list) else [value])]
    return 1 + max((_depth(part) for part in parts if isinstance(part, dict) and "kind" in part), default=0)


def _domain(operator: LinearOperator) -> str:
    return f"{'complex' if operator.in_is_complex else 'real'} {operator.in_shape}"


def _range(operator: LinearOperator) -> str:
    return f"{'complex' if operator.out_is_complex else 'real'} {operator.out_shape}"


def _check_same(what: str, expected: str, got: str) -> None:
    if got != expected:
        raise ValueError(f"{what} needs operators that fit, expected {expected}, got {got}; try operators of one shape")
