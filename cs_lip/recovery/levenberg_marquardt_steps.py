"""Damped Gauss-Newton steps: by the matrix, and without it."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from cs_lip.recovery.latent_problem import LatentProblem

Damped = Callable[[Tensor], Tensor]
"""From dampings ``(count,)`` to steps ``(count, k)``, to be subtracted from the latent."""

FORCING = 0.3
"""Conjugate gradients stop once three tenths of the gradient are left in the least damped system; the search then takes
a few more steps than with exact ones, of a fraction of the products."""


class Curvature(Protocol):
    """``J^T W J / gain`` of one row at one latent.

    Attributes:
        reuses: for how many more steps it is worth keeping where the latent has moved on.
    """

    reuses: int

    def damped(self, gradient: Tensor, penalty: float) -> Damped:
        """The solver of ``(J^T W J / gain + penalty I + d D) s = gradient`` for every damping ``d``; the curvature says
        what ``D`` is."""
        ...


class DenseCurvature:
    """The k x k matrix, from a Jacobian; ``D`` is the diagonal of ``H = J^T W J / gain + penalty I`` (Marquardt 1963).

    It costs k tangents and keeps its worth for a few steps.
    """

    reuses = 6

    def __init__(self, problem: LatentProblem, latent: Tensor, residual: Tensor) -> None:
        jacobian = problem.linearise(latent[0], coarse=True)
        weighted = jacobian * problem.problem.fidelity.weights(residual)
        self._matrix = weighted @ jacobian.T / problem.problem.gain

    def damped(self, gradient: Tensor, penalty: float) -> Damped:
        """See `Curvature`."""
        hessian = self._matrix + penalty * torch.eye(len(gradient), dtype=gradient.dtype, device=gradient.device)
        # Without a penalty, a latent that the image does not depend on has a zero here, which would undo the damping.
        scale = hessian.diagonal().clamp(min=torch.finfo(gradient.dtype).eps * float(hessian.diagonal().max()))

        def steps(dampings: Tensor) -> Tensor:
            damped = hessian + dampings[:, None, None] * torch.diag(scale)
            solved: Tensor = torch.linalg.solve_ex(damped, gradient.expand(len(dampings), -1)).result
            return solved

        return steps


class MatrixFreeCurvature:
    """Only its products: ``J v`` by forward mode and ``J^T u`` by reverse mode, through the network and the operator.

    The systems are solved by conjugate gradients in Lanczos' form: an orthonormal basis ``V`` of the Krylov space of
    the gradient, in which the curvature is the tridiagonal matrix ``T``, gives every damping's step
    ``V (T + (penalty + d c) I)^-1 |gradient| e_1`` from the same products. ``D = c I`` with ``c`` the curvature along
    the gradient, since the diagonal would cost as much as the matrix. The basis is orthogonalised in full, which costs
    nothing beside a pass through the network and spares the iterations that rounding would add.

    The solution is inexact: it stops once the residual of the least damped system is `forcing` times the gradient,
    after k products at the latest.

    Source: Golub & Van Loan, Matrix Computations, section 10.2 (1996) for Lanczos and conjugate gradients; Dembo,
    Eisenstat & Steihaug, Inexact Newton methods, SIAM J. Numer. Anal. 1982.
    """

    reuses = 0

    def __init__(
        self, problem: LatentProblem, latent: Tensor, residual: Tensor, damping: float = 0.0, forcing: float = FORCING
    ) -> None:
        self._problem, self._latent = problem, latent.detach().clone().requires_grad_()
        self._weights = problem.problem.fidelity.weights(residual)
        self._damping, self._forcing = damping, forcing
        with torch.enable_grad():
            self._image = problem.generator(self._latent)

    def product(self, vector: Tensor) -> Tensor:
        """``J^T W J v / gain`` for one ``v`` ``(k,)``."""
        core = self._problem.problem
        with torch.no_grad():
            tangent = self._problem.generator.push(self._latent[0].detach(), vector.reshape(self._latent.shape))
            pulled = core.adjoint(self._weights * core.measure(tangent)).reshape(self._image.shape)
        return torch.autograd.grad(self._image, self._latent, pulled, retain_graph=True)[0].flatten() / core.gain

    def damped(self, gradient: Tensor, penalty: float) -> Damped:
        """See `Curvature`."""
        basis, tridiagonal = self._lanczos(gradient, penalty)
        start = torch.zeros(len(basis), dtype=torch.float64, device=gradient.device)
        start[0] = gradient.norm()
        scale = tridiagonal[0, 0]

        def steps(dampings: Tensor) -> Tensor:
            shifts = penalty + dampings.double()[:, None, None] * scale
            damped = tridiagonal + shifts * torch.eye(len(basis), dtype=torch.float64, device=gradient.device)
            solved: Tensor = torch.linalg.solve_ex(damped, start.expand(len(dampings), -1)).result
            return solved.to(basis.dtype) @ basis

        return steps

    def _lanczos(self, gradient: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
        """The basis ``(size, k)`` and ``T`` ``(size, size)``, in double precision."""
        k, rounding = len(gradient), torch.finfo(gradient.dtype).eps
        basis = [gradient / gradient.norm()]
        whole = torch.zeros(k, k, dtype=torch.float64, device=gradient.device)
        for size in range(1, k + 1):
            following = self.product(basis[-1])
            whole[size - 1, size - 1] = following @ basis[-1]
            spanned = torch.stack(basis)
            for _ in range(2):  # once more than in exact arithmetic
                following = following - (spanned @ following) @ spanned
            length = following.norm()
            shift = penalty + self._damping * whole[0, 0]
            if size == k or float(length) <= rounding * float(whole[0, 0]):
                break
            system = whole[:size, :size] + shift * torch.eye(size, dtype=torch.float64, device=gradient.device)
            first = torch.eye(size, 1, dtype=torch.float64, device=gradient.device)
            left = length * torch.linalg.solve_ex(system, first).result[-1, 0].abs()
            if not float(left) > self._forcing:  # not a number ends it too
                break
            whole[size - 1, size] = whole[size, size - 1] = length
            basis.append(following / length)
        return torch.stack(basis), whole[:size, :size]
