"""The pseudo-inverse of an operator, by LSQR."""

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cs_lip.operators.arguments import MAX_SIZE, checked_count, checked_number
from cs_lip.operators.vectors import adjoint_vectors, as_real, forward_vectors, from_real

if TYPE_CHECKING:
    from cs_lip.operators.linear import LinearOperator


def pinv(A: "LinearOperator", y: Tensor, tolerance: float, max_iterations: int) -> Tensor:
    """A^+ y; see `LinearOperator.pinv`."""
    tolerance = checked_number(tolerance, "the tolerance", 0, 1, open_below=True, attempt=1e-6)
    max_iterations = checked_count(max_iterations, "max_iterations", MAX_SIZE, attempt=1000)
    A._check(y, A.out_shape, A.out_is_complex)
    if not torch.isfinite(y).all():
        raise ValueError("pinv got measurements that are NaN or infinite, expected finite ones; try to drop those rows")
    x: Tensor = _PseudoInverse.apply(A, y, tolerance, max_iterations)
    return x


class _PseudoInverse(torch.autograd.Function):
    """A^+ is linear, and its adjoint is that of the adjoint: (A^+)^H = (A^H)^+. So the gradient is one more solve."""

    @staticmethod
    def forward(operator: "LinearOperator", y: Tensor, tolerance: float, max_iterations: int) -> Tensor:
        vectors, converged = _lsqr(operator, as_real(y, operator.out_shape), tolerance, max_iterations)
        if missed := int((~converged).sum()):
            warnings.warn(
                f"pinv stopped at its limit of {max_iterations} iterations for {missed} of {converged.numel()} "
                "measurements and returns what it found so far; try more max_iterations or a larger tolerance",
                RuntimeWarning,
                stacklevel=4,
            )
        return from_real(vectors, operator.in_shape, operator.in_is_complex)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.operator, _, ctx.tolerance, ctx.max_iterations = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None, None]:
        return None, pinv(ctx.operator.H, gradient, ctx.tolerance, ctx.max_iterations), None, None

    @staticmethod
    def jvp(ctx: Any, _operator: None, tangent: Tensor, _tolerance: None, _max_iterations: None) -> Tensor:
        return pinv(ctx.operator, tangent, ctx.tolerance, ctx.max_iterations)


def _lsqr(A: "LinearOperator", b: Tensor, tolerance: float, max_iterations: int) -> tuple[Tensor, Tensor]:
    """The least-norm least-squares solutions for real vectors ``b`` of shape ``(*batch, m)``, and which converged.

    Paige & Saunders 1982, Algorithm LSQR (section 4) with its stopping rules 1 and 2 (section 6), for a whole batch at
    once. It departs from the paper in one thing: a member of the batch that has converged stands still.
    """
    u, beta = _normalised(b)
    v, alpha = _normalised(adjoint_vectors(A, u))
    w, x = v, torch.zeros_like(v)
    norm_b, phi_bar, rho_bar = beta, beta, alpha
    squared_norm = alpha.square()
    done = (alpha * beta) == 0
    for _ in range(max_iterations):
        if done.all():
            break
        # 1. The next vectors of the Golub-Kahan bidiagonalisation.
        u, beta = _normalised(forward_vectors(A, v) - alpha * u)
        v, alpha = _normalised(adjoint_vectors(A, u) - beta * v)
        # 2. A plane rotation makes the bidiagonal matrix triangular.
        rho = torch.hypot(rho_bar, beta).clamp(min=torch.finfo(b.dtype).tiny)
        cosine, sine = rho_bar / rho, beta / rho
        phi, phi_bar = cosine * phi_bar, sine * phi_bar
        # 3. The step, and the direction of the next one.
        x = torch.where(done, x, x + (phi / rho) * w)
        w = v - (sine * alpha / rho) * w
        rho_bar = -cosine * alpha
        # 4. Either A x is y within the tolerance, or no step changes the residual to first order.
        squared_norm = squared_norm + beta.square()
        norm = squared_norm.sqrt()
        norm_x = x.norm(dim=-1, keepdim=True)
        consistent = phi_bar <= tolerance * (norm_b + norm * norm_x)
        stationary = alpha * cosine.abs() <= tolerance * norm
        done = done | consistent | stationary
        squared_norm = squared_norm + alpha.square()
    return x, done.squeeze(-1)


def _normalised(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors and their norms ``(*batch, 1)``; zero stays zero."""
    norms = vectors.norm(dim=-1, keepdim=True)
    return vectors / norms.clamp(min=torch.finfo(vectors.dtype).tiny), norms
